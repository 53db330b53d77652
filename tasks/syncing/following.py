"""Follows the sync of a run on the server on which it was started."""

from contextlib import suppress

from tasks.ektron.sync.progress import SyncState, Watched, phase_of, watched
from tasks.ektron.sync.seen import Begun
from tasks.step import Work
from tasks.syncing.handlers import SyncSite, site_of
from tasks.syncing.look import site_place
from tasks.syncing.marks import begun_of, end_of, keep_end, keep_watched, watched_of
from tasks.syncing.options import SyncOptions
from tasks.syncing.waits import Part
from workers.errors import NodeError
from workers.texts import cleaned

__all__ = ["awaited_end", "followed", "polled"]

_NOTES = 300  #: entries of a sync that get a line of their own
_SILENT = 5  #: polls in a row without an answer after which the step ends, and may be tried again
_WAIT = 60.0  #: seconds for which a removal waits for a sync that still runs


def followed(work: Work, begun: Begun, part: Part) -> Watched:
    """Polls the status until the sync has ended, or this part of the wait is over. Notes each new entry.

    Raises:
        NodeError: the site does not answer any more.
        Cancelled: the run was cancelled.
    """
    site, known, silent = site_of(work, site_place(work)), watched_of(work), 0
    while not known.state.is_final and not part.is_over:
        try:
            known, silent = polled(work, site, begun, known), 0
        except NodeError:
            silent += 1  # the first sync restarts the application of the site
            if silent >= _SILENT:
                raise
        if not known.state.is_final:
            part.pause(work.cluster.sync.every)
    if known.state.is_final:
        keep_end(work, known.state)
    return known


def polled(work: Work, site: SyncSite, begun: Begun, known: Watched) -> Watched:
    """What is known after one more poll; it is kept."""
    running = None
    with suppress(NodeError):
        running = site.in_progress().running
    after = watched(known, site.status(begun.profile), begun.before, running=running)
    if after != known:
        _note(work, known, after)
        keep_watched(work, after)
    return after


def _note(work: Work, known: Watched, after: Watched) -> None:
    new = after.entries[len(known.entries) :] if after.entries[: len(known.entries)] == known.entries else after.entries
    for entry in new[: max(0, _NOTES - len(known.entries))]:
        message = f": {entry.message}" if entry.message else ""
        work.note("sync.phase", cleaned(f"{phase_of(entry.code)}{message}", 300))


def awaited_end(work: Work) -> None:
    """Waits a while for the end of the sync: on its own server by the status, elsewhere by what is kept of it.

    Never raises for a site that does not answer: the removal continues without it.
    """
    begun, part = begun_of(work), Part(work, longest=_WAIT)
    if begun is None:
        return
    if work.node.name == SyncOptions.of(work.options).node and begun.profile:
        with suppress(NodeError):
            if followed(work, begun, part).state is SyncState.WAITING:
                keep_end(work, SyncState.WAITING)
        return
    while end_of(work) is None and not part.is_over:
        part.pause(min(work.cluster.sync.every, 1.0))
