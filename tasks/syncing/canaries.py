"""Canary files on one node. They are found by their names, never by memory: a crash or another run can lose no file."""

from tasks.ektron.sync.canary import canary_bytes, canary_name, run_of
from tasks.step import Work
from workers.errors import NodeRefused
from workers.records import Change
from workers.winrm import operations as ops

__all__ = ["REMOVED", "canary_folder", "canary_path", "listed_canaries", "place_canary", "remove_canaries"]

REMOVED = "canary removed"
_ENTRIES = 1_000_000


def canary_folder(work: Work) -> str:
    """The folder of canaries on a node."""
    return work.cluster.site.below(work.cluster.sync.canary.folder)


def canary_path(work: Work) -> str:
    """The canary of this run."""
    return f"{canary_folder(work)}\\{canary_name(work.run, work.cluster.sync.canary.extension)}"


def place_canary(work: Work) -> tuple[Change, ...]:
    """Puts the canary of this run on the node. Nothing is replaced; a second call changes nothing.

    Raises:
        NodeRefused: the folder does not exist.
        Conflict: a file of that name has other bytes.
    """
    path, data = canary_path(work), canary_bytes(work.run)
    folder, file = work.session.ask(
        [ops.stat(canary_folder(work)), ops.stat(path, hashes=True)], deadline=work.deadline
    )
    if not folder["exists"] or folder["kind"] != "folder":
        raise NodeRefused(
            f"{work.node.name}: the folder of the canary does not exist",
            file=canary_folder(work),
            remedy="set sync.canary.folder to a folder below the site root from which a sync takes files",
        )
    if file["exists"] and file["hash"] == ops.digest(data):
        return ()
    work.change([ops.write(path, data, expect=ops.ABSENT)], folders=(canary_folder(work),))
    return (Change(what="canary placed", file=path),)


def listed_canaries(work: Work) -> tuple[str, ...]:
    """The paths of all canaries in the folder, of whatever run; none if the folder does not exist.

    Raises:
        NodeError: the folder cannot be listed.
    """
    folder = canary_folder(work)
    (reply,) = work.session.ask([ops.list_folder(folder, limit=_ENTRIES)], deadline=work.deadline, keep_going=True)
    names = [entry["name"] for entry in ops.entries_of(reply, work.node.name) if entry["kind"] == "file"]
    return tuple(f"{folder}\\{name}" for name in names if run_of(name))


def remove_canaries(work: Work) -> tuple[Change, ...]:
    """Removes the canary of this run, and those of runs that have ended; looks again.

    Raises:
        NodeRefused: one is still there afterwards.
        NodeError: one cannot be removed.
    """
    due = _due(work)
    if not due:
        return ()
    requests = [ops.remove(path) for path in due]
    replies = work.change(requests, folders=(canary_folder(work),), keep_going=True)
    if left := _due(work):
        reasons = [reply.message for reply in replies if not reply.ok]
        raise NodeRefused(
            f"{work.node.name}: a canary is still there: {reasons[0] if reasons else 'it came back'}",
            file=left[0],
            remedy="end the program that holds it, or the sync that brings it back, then: esync cleanup FILE",
        )
    return tuple(Change(what=REMOVED, file=path) for path in due)


def _due(work: Work) -> list[str]:
    going_on = work.documents.going_on() - {work.run}
    return [path for path in listed_canaries(work) if run_of(path.rpartition("\\")[2]) not in going_on]
