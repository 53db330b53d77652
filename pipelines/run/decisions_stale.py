"""What comes next when status files of a crash are moved aside. Pure, like `decisions`."""

from collections.abc import Callable, Sequence

from pipelines.run.selection import not_done
from pipelines.run.snapshot import Go, Snapshot, Stop
from pipelines.run.sync_view import CLEAR, SyncView
from pipelines.run.verdict import failures
from tasks.ektron.wording import counted, named
from workers.records import Verdict

__all__ = ["all_done", "cleared", "may_clear", "to_clear", "to_look_at", "to_restart"]


def may_clear(snapshot: Snapshot) -> Go | Stop:
    """Whether there are such files, and no sync is in progress that may have written them."""
    view = SyncView(snapshot)
    if stop := not_done(snapshot):
        return Stop(stop.verdict, f"{stop.summary}; nothing was changed")
    if running := list(view.running()):
        return Stop(
            Verdict.STOPPED,
            f"a sync is in progress, by {named(running)}: its status files are no leftovers; see "
            "docs/sync.md, row 16, if none runs in truth. Nothing was changed",
        )
    if not to_clear(snapshot):
        return Stop(Verdict.CLEAN, "no server has a status file; nothing was changed")
    return Go()


def to_clear(snapshot: Snapshot) -> Sequence[str]:
    """The servers with status files, once."""
    done = snapshot.in_stage(CLEAR)
    return [node for node, seen in SyncView(snapshot).sites.items() if seen.status_files and node not in done]


def to_restart(stage: str) -> Callable[[Snapshot], Sequence[str]]:
    """The next server of each pool that has status files: one of a pool at a time."""

    def chosen(snapshot: Snapshot) -> Sequence[str]:
        stale = [node for node, seen in SyncView(snapshot).sites.items() if seen.status_files]
        pools = {snapshot.cluster.node(node).pool for node in stale}
        done, ended = snapshot.in_stage(stage), snapshot.ended()
        left = [node for node in snapshot.cluster.nodes if node.name not in done and node.name not in ended]
        return list({node.pool: node.name for node in reversed(left) if node.pool in pools}.values())

    return chosen


def all_done(snapshot: Snapshot) -> Go | Stop:
    """Stops at the first server that failed: the others keep their files and their services."""
    ended = snapshot.ended()
    return Stop(Verdict.FAILED, failures(list(ended), ended)) if ended else Go()


def to_look_at(snapshot: Snapshot) -> Sequence[str]:
    """Every server, at the end."""
    done = snapshot.in_stage("after")
    return [node for node in snapshot.cluster.node_names if node not in done and snapshot.in_stage(CLEAR)]


def cleared(snapshot: Snapshot) -> Stop:
    """The verdict."""
    count = len(snapshot.in_stage(CLEAR))
    return not_done(snapshot) or Stop(
        Verdict.CLEAN,
        f"the status files of {counted(count, 'server')} are moved aside, and the services of their pools restarted",
    )
