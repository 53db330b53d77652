"""What comes next in a rollback and in a cleanup. Pure, like `decisions`."""

from collections.abc import Collection, Sequence

from pipelines.run.decisions import one_per_account
from pipelines.run.selection import not_done
from pipelines.run.snapshot import Go, Snapshot, Stop
from workers.records import Status, Verdict

__all__ = ["all_clean", "all_restored", "always_continue", "canaries", "remaining", "to_compare", "to_restore"]


def canaries(snapshot: Snapshot) -> Sequence[str]:
    """One of the selected nodes for each account."""
    return one_per_account(snapshot, snapshot.selected)


def remaining(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that had no turn yet."""
    return _without(snapshot, {node for turn in snapshot.record.turns for node in turn.nodes})


def to_restore(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that answered and whose backups are usable."""
    return _without(snapshot, snapshot.in_stage("rollback") | snapshot.ended().keys())


def to_compare(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that were restored."""
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
    return not_done(snapshot) or Stop(Verdict.RESTORED, restored)


def all_clean(snapshot: Snapshot) -> Stop:
    """Clean when each node was observed again after the removal."""
    changed = sum(1 for outcome in snapshot.outcomes if outcome.status is Status.CHANGED)
    clean = f"{_nodes(len(snapshot.selected))} clean; files were removed from {changed}"
    return not_done(snapshot) or Stop(Verdict.CLEAN, clean)


def _nodes(count: int) -> str:
    return "1 node is" if count == 1 else f"{count} nodes are"
