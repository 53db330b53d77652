"""The steps `status_restart` and `status_clear`: recovery from status files that a crash has left (ektron-facts 6, 25).

The vendor's order: restart the services of the cluster, empty EktSyncStatus but keep the folder, restart them again.
"""

from tasks.observe.layout import registered_layout
from tasks.step import APPLYING, Done, Work
from tasks.steps.service_restart import restarted
from tasks.syncing.look import status_folder
from tasks.undo.backups import in_batches
from workers.errors import NodeRefused
from workers.records import Change
from workers.winrm import operations as ops

__all__ = ["status_clear", "status_restart"]

_MANY = 10_000


def status_restart(work: Work) -> Done:
    """Restarts the service of the product. Raises as `service_restart`."""
    work.report_phase("observing")
    return restarted(work, registered_layout(work), "the service may hold the status of a sync that crashed")


def status_clear(work: Work) -> Done:
    """Moves every file in EktSyncStatus into the backups of this run; the folder stays.

    Raises:
        NodeRefused: a file is still there.
        Conflict: a file has changed since: a sync writes it.
    """
    work.report_phase("observing")
    found = _files(work)
    if not found:
        return Done(message="no status file is there")
    work.report_phase(APPLYING)
    backup, folder = work.backup_folder(), status_folder(work)
    work.change([ops.remove(path, expect=digest, backup=backup) for path, digest in found.items()], folders=(folder,))
    if left := _files(work):
        raise NodeRefused(
            f"{work.node.name}: a status file is there again",
            file=next(iter(left)),
            remedy="a sync writes it: wait for its end, then look again: esync sync status FILE",
        )
    changes = tuple(Change(what="status file moved aside", file=path) for path in found)
    return Done(changes=changes, message=f"kept in {backup}")


def _files(work: Work) -> dict[str, str]:
    """Path -> hash of each status file."""
    folder = status_folder(work)
    (reply,) = in_batches(work, [ops.list_folder(folder, hashes=True, limit=_MANY)])
    entries = ops.entries_of(reply, work.node.name)
    return {f"{folder}\\{one['name']}": str(one["hash"]) for one in entries if one["kind"] == "file"}
