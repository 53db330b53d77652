"""What comes next in a rollback and in a cleanup. Pure, like `decisions`."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from pipelines.run.decisions import one_per_account
from pipelines.run.plan import fewest_waves
from pipelines.run.selection import not_done
from pipelines.run.snapshot import ABANDONED, Go, Snapshot, Stop
from tasks.ektron.wording import named
from workers.errors import Problem
from workers.records import DocumentKind, Status, Verdict

__all__ = [
    "ALL_AT_ONCE",
    "all_clean",
    "all_compared",
    "all_restored",
    "always_continue",
    "canaries",
    "left_alone",
    "remaining",
    "to_compare",
    "to_restore",
]

ALL_AT_ONCE = "all_at_once"  #: the option that restores all nodes together, whole pools too


def canaries(snapshot: Snapshot) -> Sequence[str]:
    """One of the selected nodes for each account."""
    return one_per_account(snapshot, snapshot.selected)


def remaining(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that had no turn yet."""
    return _without(snapshot, {node for turn in snapshot.record.turns for node in turn.nodes})


def to_restore(snapshot: Snapshot) -> Sequence[str]:
    """The next wave of the selected nodes that answered and whose backups are usable.

    The servers that are down go at once: nothing is lost by their restart. A pool with such servers waits for them; of
    every other pool a wave restarts half of those that work at most, all pools at the same time.
    """
    left = _without(snapshot, snapshot.in_stage("rollback") | snapshot.ended().keys())
    if not left or _together(snapshot):
        return left
    working = _working(snapshot)
    down = [name for name in left if name not in working]
    wait = {snapshot.cluster.node(name).pool for name in down}
    spared = _spared(snapshot, left, working)
    up = [n for n in left if n in working and n not in spared and snapshot.cluster.node(n).pool not in wait]
    wave = {*down, *(fewest_waves(snapshot.cluster, up, working) or ((),))[0]}
    return [name for name in left if name in wave]


def _together(snapshot: Snapshot) -> bool:
    return snapshot.cluster.policy.whole_pool or ALL_AT_ONCE in snapshot.record.options


def _working(snapshot: Snapshot) -> Sequence[str]:
    """The nodes whose service is not known to be down: it ran when the run looked, or the node is restored.

    A node that was not selected was not looked at, and counts as working unless it was down when an earlier run last
    saw it. One that did not answer does not.
    """
    cluster, selected, ended = snapshot.cluster, snapshot.selected, snapshot.ended()
    seen = snapshot.documents.all_facts(DocumentKind.OBSERVED)
    restored = snapshot.in_stage("rollback") - ended.keys()
    running = {node for node, facts in seen.items() if facts.service.state == "running"}
    up = restored | (running - _fallen(snapshot))
    others = set(cluster.node_names) - selected - _down_before(snapshot)
    return [name for name in cluster.node_names if name in up or name in others]


def _down_before(snapshot: Snapshot) -> frozenset[str]:
    """The nodes that were not selected, and were down when an earlier run last saw them."""
    text = snapshot.read.documents(DocumentKind.DOWN).get(DocumentKind.DOWN) if snapshot.record.only else None
    return frozenset(json.loads(text)) if text else frozenset()


def _fallen(snapshot: Snapshot) -> set[str]:
    """The nodes on which this run may have stopped the service, or that do not answer any more: they may be down."""
    turned, ended = snapshot.in_stage("rollback"), snapshot.ended()
    lost = {name for name, outcome in ended.items() if outcome.touched or outcome.slug == ABANDONED}
    return turned & (lost | {name for name, outcome in ended.items() if outcome.status is Status.UNREACHABLE})


def _lost(snapshot: Snapshot) -> set[str]:
    """The nodes that are down, and that no further wave of this run starts."""
    return _fallen(snapshot) | (_down_before(snapshot) - snapshot.selected)


def _spared(snapshot: Snapshot, left: Sequence[str], working: Sequence[str]) -> list[str]:
    """The last servers that work in their pools, where this run has failed on others after it began to change them.

    They are not restarted: whatever keeps the others down would take the whole pool down. The same where the others
    were down before, and are not selected.
    """
    if not snapshot.cluster.policy.judge_waves:
        return []
    pools = {snapshot.cluster.node(name).pool for name in _lost(snapshot)}
    alive = {pool: [n for n in snapshot.cluster.pool_members(pool) if n in working] for pool in pools}
    return [name for members in alive.values() if len(members) == 1 for name in members if name in left]


def to_compare(snapshot: Snapshot) -> Sequence[str]:
    """The nodes that were restored."""
    return [name for name in all_compared(snapshot) if name in snapshot.in_stage("rollback")]


def all_compared(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that have not ended, once, at the end."""
    return _without(snapshot, snapshot.in_stage("verify") | snapshot.ended().keys())


def _without(snapshot: Snapshot, excluded: Collection[str]) -> Sequence[str]:
    return [name for name in snapshot.selected if name not in excluded]


def always_continue(_: Snapshot) -> Go:
    """A node that cannot be restored does not stop the others."""
    return Go()


def all_restored(snapshot: Snapshot) -> Stop:
    """Restored when each selected node was compared at the end with its state before the run."""
    changed = [name for name, outcome in snapshot.of_stage("rollback").items() if outcome.status is Status.CHANGED]
    already = len(snapshot.selected) - len(changed)
    besides = f"; {already} of them needed no change" if already else ""
    restored = f"{_nodes(len(snapshot.selected))} as before run {snapshot.record.parent}{besides}"
    alone = left_alone(snapshot)
    stop = not_done(snapshot, alone)
    if stop is None or not alone:
        return stop or Stop(Verdict.RESTORED, restored)
    why = dict.fromkeys(f"{one.message}. {one.remedy}" for one in alone.values())
    return replace(stop, summary=f"{stop.summary}; {named(list(alone))}: {'; '.join(why)}")


def left_alone(snapshot: Snapshot) -> dict[str, Problem]:
    """The last servers of their pools that work and were therefore not restarted, each with why, and what to do."""
    left = _without(snapshot, snapshot.in_stage("rollback") | snapshot.ended().keys())
    if not left or _together(snapshot) or not _lost(snapshot):
        return {}
    return {name: _why_alone(snapshot, name) for name in _spared(snapshot, left, _working(snapshot))}


def _why_alone(snapshot: Snapshot, node: str) -> Problem:
    pool, working = snapshot.cluster.node(node).pool, _working(snapshot)
    down = [name for name in snapshot.cluster.pool_members(pool) if name not in working]
    others = [name for name in down if name not in snapshot.selected]
    also = f", or select {named(others)} as well" if others else ""
    return Problem(
        message=f"not restored: no other server of pool {pool} is known to work",
        remedy=f"Repair {named(down)}{also}, then run it again: esync rollback {snapshot.record.parent}; "
        f"with --all-at-once {node} goes, too",
    )


def all_clean(snapshot: Snapshot) -> Stop:
    """Clean when each node was observed again after the removal."""
    changed = sum(1 for outcome in snapshot.outcomes if outcome.status is Status.CHANGED)
    clean = f"{_nodes(len(snapshot.selected))} clean; files were removed from {changed}"
    return not_done(snapshot) or Stop(Verdict.CLEAN, clean)


def _nodes(count: int) -> str:
    return "1 node is" if count == 1 else f"{count} nodes are"
