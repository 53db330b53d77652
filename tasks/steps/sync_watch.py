"""The step `sync_watch`: on its own server the sync is followed; elsewhere the canary is awaited, byte for byte.

One turn is one part of the wait. A server that lacks the file when the time is over has failed.
"""

from tasks.ektron.sync.canary import canary_bytes
from tasks.ektron.sync.progress import SyncState, Watched, phase_of
from tasks.ektron.sync.seen import Begun, FileSeen, document_name
from tasks.step import Done, Work
from tasks.syncing.canaries import canary_path
from tasks.syncing.following import followed
from tasks.syncing.marks import begun_again, begun_of, end_of, keep_end, seconds_since
from tasks.syncing.options import SyncOptions
from tasks.syncing.waits import Part
from workers.errors import Conflict, NodeRefused
from workers.records import DocumentKind
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.writers import writer_of

__all__ = ["sync_follow", "sync_watch"]

_LOOK = 1.0  #: seconds between two looks for the file


def sync_watch(work: Work) -> Done:
    """Watches one server for one part of the time: the sync where it was started, the canary elsewhere.

    Raises:
        NodeRefused: the sync failed, or the file did not arrive.
        NodeError: the server cannot be asked.
        Cancelled: the run was cancelled.
    """
    if work.node.name == SyncOptions.of(work.options).node:
        return sync_follow(work)
    work.report_phase("observing")
    begun = _begun(work)
    seen = _awaited(work, begun)
    _keep(work, seen)
    if seen.arrived:
        return Done(message=f"arrived after {'at most ' if seen.first_look else ''}{seen.seconds:.1f} s")
    if not seen.final:
        return Done(message="not there yet")
    raise _missing(work, seen)


def sync_follow(work: Work) -> Done:
    """Follows the sync on the server on which it was started, for one part of the time. Raises as `sync_watch`."""
    work.report_phase("observing")
    begun = _begun(work)
    if not begun.profile:
        _keep(work, FileSeen(arrived=True, seconds=0.0, final=True))
        return Done(message="the status is not followed: site_login or the profile is not known")
    known = followed(work, begun, Part(work))
    late = seconds_since(begun.sent) > work.cluster.sync.lasts
    if late and not known.state.is_final:
        keep_end(work, known.state)
    final = known.state.is_final or late
    # The list of entries grows: with each part only the last one is kept, with the end all of them.
    shown = known if final else known.model_copy(update={"entries": known.entries[-1:]})
    _keep(work, FileSeen(arrived=True, seconds=0.0, watched=shown, state=known.state, final=final))
    if not final:
        return Done(message=_last(known))
    if known.state is SyncState.ENDED:
        return Done(message=f"ended without a failure after {seconds_since(begun.sent):.0f} s")
    raise _not_ended(work, begun, known)


def _begun(work: Work) -> Begun:
    begun = begun_of(work)
    if begun is None:
        raise NodeRefused(f"{work.node.name}: this run has started no sync", remedy="start a new run")
    return begun


def _awaited(work: Work, begun: Begun) -> FileSeen:
    part, path, wanted = Part(work), canary_path(work), ops.digest(canary_bytes(work.run))
    looks, other = 0, False
    while True:
        (file,) = work.session.ask([ops.stat(path, hashes=True)], deadline=work.deadline, cancelled=work.cancelled)
        seconds = seconds_since(begun.sent)
        if file["exists"] and file["hash"] == wanted:
            first = looks == 0 and (work.turn.endswith("-1") or begun_again(work))
            return FileSeen(arrived=True, seconds=round(seconds, 1), first_look=first, final=True)
        looks, other = looks + 1, bool(file["exists"])
        if _time_is_over(work, seconds):
            return FileSeen(other_bytes=other, forgotten=not other and _was_changed(work), final=True)
        if part.is_over:
            return FileSeen(other_bytes=other)
        part.pause(min(work.cluster.sync.every, _LOOK))


def _was_changed(work: Work) -> bool:
    """Whether this run has changed the server already, of which its store knows nothing: it was in its last moments."""
    (fence,) = work.session.ask([ops.read(work.fence_file)], deadline=work.deadline, keep_going=True)
    return work.fence.has_forgotten(writer_of(fence, work.node.name))


def _time_is_over(work: Work, seconds: float) -> bool:
    """Whether the file cannot be expected any more: the sync has ended long enough ago, or lasts too long."""
    end, settings = end_of(work), work.cluster.sync
    return seconds_since(end.at) > settings.arrives if end else seconds > settings.lasts + settings.arrives


def _missing(work: Work, seen: FileSeen) -> NodeRefused | Conflict:
    end, settings = end_of(work), work.cluster.sync
    if seen.forgotten:
        return NodeRefused(
            f"{work.node.name}: this run has removed canaries here already, and the run store knows nothing of it",
            file=canary_path(work),
            remedy=f"the broker has lost its last moments; prove again: esync retry {work.run}",
        )
    if seen.other_bytes:
        return Conflict(
            f"{work.node.name}: the canary arrived with other bytes",
            file=canary_path(work),
            remedy="look for what changes files on the way: a full disk, a filter, another program",
        )
    when = f"within {settings.arrives:g} s after the sync" if end else f"within {settings.lasts:g} s"
    return NodeRefused(
        f"{work.node.name}: the canary did not arrive {when}",
        file=canary_path(work),
        remedy=f"the report names the likely cause; then: esync explain {work.node.name}",
    )


def _not_ended(work: Work, begun: Begun, known: Watched) -> NodeRefused:
    name, failure = cleaned(begun.name, 100), known.failure
    if known.state is SyncState.LOST:
        what, remedy = "shows no end, and nothing runs any more", "see docs/sync.md, rows 16 and 25"
    elif failure is not None:
        text = ": ".join(part for part in (phase_of(failure.code), failure.message, failure.details) if part)
        what, remedy = f"failed: {cleaned(text, 400)}", "see docs/sync.md for the message, then sync again"
    else:
        what, remedy = f"has not ended within {work.cluster.sync.lasts:g} s (sync.lasts)", "esync sync status FILE"
    return NodeRefused(f"{work.node.name}: the sync {name} {what}", remedy=remedy)


def _last(known: Watched) -> str:
    return f"running: {phase_of(known.entries[-1].code)}" if known.entries else "no entry yet"


def _keep(work: Work, seen: FileSeen) -> None:
    work.documents.keep(DocumentKind.SYNC, document_name(work.node.name, work.turn), seen.model_dump_json())
