"""The steps `canary_place` and `canary_remove`: the file that proves a sync comes, and goes again from every server.

The removal always runs: after a failure, a cancel, and in any later run that finds a canary.
"""

from tasks.ektron.sync.canary import GONE, STILL_RUNS
from tasks.ektron.sync.seen import document_name
from tasks.ektron.wording import counted
from tasks.step import Done, Work
from tasks.syncing.canaries import place_canary, remove_canaries
from tasks.syncing.following import awaited_end
from tasks.syncing.marks import begun_of, end_of
from workers.records import DocumentKind

__all__ = ["canary_place", "canary_remove"]


def canary_place(work: Work) -> Done:
    """Puts the canary on the server on which the sync is started.

    Raises:
        NodeRefused: its folder does not exist.
        Conflict: another file has its name.
    """
    work.report_phase("observing")
    changes = place_canary(work)
    return Done(changes=changes, message="the canary is placed" if changes else "the canary is there already")


def canary_remove(work: Work) -> Done:
    """Removes every canary of a run that has ended, and that of this run; waits a while for a sync that still runs.

    A sync whose status cannot be followed is not waited for: what it brings later is found by any later run.

    Raises:
        NodeRefused: a canary is still there.
        NodeError: it cannot be removed.
    """
    work.report_phase("observing")
    changes, begun = remove_canaries(work), begun_of(work)
    followed = begun is not None and bool(begun.profile)
    if followed and end_of(work) is None:
        awaited_end(work)
        changes += remove_canaries(work)
    ended = not followed or end_of(work) is not None
    name = document_name(work.node.name, work.turn)
    work.documents.keep(DocumentKind.SYNC, name, f'"{GONE if ended else STILL_RUNS}"')
    what = f"{counted(len(changes), 'canary file')} removed" if changes else "no canary is here"
    return Done(changes=changes, message=what if ended else f"{what}; the sync still runs and may bring one")
