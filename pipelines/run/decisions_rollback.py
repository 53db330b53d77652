"""What comes next in a rollback and in a cleanup. Pure, like `decisions`."""

from collections.abc import Sequence

from pipelines.run.decisions import one_per_account
from pipelines.run.snapshot import Go, Snapshot, Stop
from pipelines.run.verdict import failures, those
from workers.records import Status, Verdict

__all__ = ["all_clean", "all_restored", "canaries", "chosen", "go_ahead", "others", "to_compare", "to_restore"]


def chosen(snapshot: Snapshot) -> tuple[str, ...]:
    """The nodes that the operator selected, in the order of the cluster file; all when none was named."""
    only = snapshot.record.only
    return tuple(name for name in snapshot.cluster.node_names if not only or name in only)


def canaries(snapshot: Snapshot) -> Sequence[str]:
    """One of the selected nodes for each account."""
    return one_per_account(snapshot, chosen(snapshot))


def others(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that had no turn yet."""
    seen = {node for turn in snapshot.record.turns for node in turn.nodes}
    return [name for name in chosen(snapshot) if name not in seen]


def to_restore(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that answered and whose backups are usable."""
    return _remaining(snapshot, "rollback")


def to_compare(snapshot: Snapshot) -> Sequence[str]:
    """The selected nodes that were restored."""
    return _remaining(snapshot, "verify")


def _remaining(snapshot: Snapshot, stage: str) -> Sequence[str]:
    gone = snapshot.in_stage(stage) | snapshot.ended().keys()
    return [name for name in chosen(snapshot) if name not in gone]


def go_ahead(snapshot: Snapshot) -> Go:
    """Always continues: a node that cannot be restored does not stop the others."""
    del snapshot
    return Go()


def all_restored(snapshot: Snapshot) -> Stop:
    """Restored when each selected node was compared at the end with its state before the run."""
    bad = _bad(snapshot)
    if bad is not None:
        return bad
    changed = [name for name, outcome in snapshot.of_stage("rollback").items() if outcome.status is Status.CHANGED]
    already = len(chosen(snapshot)) - len(changed)
    besides = f"; {already} of them needed no change" if already else ""
    return Stop(Verdict.RESTORED, f"{_nodes(len(chosen(snapshot)))} as before run {snapshot.record.parent}{besides}")


def all_clean(snapshot: Snapshot) -> Stop:
    """Clean when each node was looked at again after the removal."""
    bad = _bad(snapshot)
    if bad is not None:
        return bad
    changed = sum(1 for outcome in snapshot.outcomes if outcome.status is Status.CHANGED)
    return Stop(Verdict.CLEAN, f"{_nodes(len(chosen(snapshot)))} clean; files were removed from {changed}")


def _bad(snapshot: Snapshot) -> Stop | None:
    """A failed node outweighs an unreachable one."""
    ended, names = snapshot.ended(), chosen(snapshot)
    out = [name for name in names if name in ended]
    failed = [name for name in out if ended[name].status is not Status.UNREACHABLE]
    besides = f"{len(names) - len(out)} of {len(names)} nodes are done"
    if failed:
        return Stop(Verdict.FAILED, f"{failures(failed, ended)}; {besides}")
    return Stop(Verdict.UNREACHABLE, f"{those(out)} did not answer; {besides}") if out else None


def _nodes(count: int) -> str:
    return "1 node is" if count == 1 else f"{count} nodes are"
