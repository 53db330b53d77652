"""What must survive a worker: that a request was sent, what was seen of the sync since, and that it has ended."""

from typing import TypeVar

from pydantic import AwareDatetime

from tasks.ektron.facts.values import Fact
from tasks.ektron.sync.progress import SyncState, Watched
from tasks.ektron.sync.seen import Begun
from tasks.step import Work
from workers.records import DocumentKind, now

__all__ = [
    "End",
    "begin_again",
    "begun_again",
    "begun_of",
    "end_of",
    "keep_begun",
    "keep_end",
    "keep_watched",
    "kept",
    "seconds_since",
    "watched_of",
]

_BEGUN, _WATCHED, _END, _AGAIN = "begun", "watched", "end", "again"
F = TypeVar("F", bound=Fact)


class End(Fact):
    """The end of the sync of a run."""

    state: SyncState
    at: AwareDatetime


def kept(work: Work, name: str, kind: type[F]) -> F | None:
    """A mark of this run; None if there is none."""
    text = work.documents.kept(DocumentKind.SYNC_MARK, name)
    return kind.model_validate_json(text) if text else None


def _keep(work: Work, name: str, value: Fact) -> None:
    work.documents.keep(DocumentKind.SYNC_MARK, name, value.model_dump_json())


def begun_of(work: Work) -> Begun | None:
    """The mark that is made before a sync is requested; None as long as nothing was sent."""
    return kept(work, _BEGUN, Begun)


def keep_begun(work: Work, begun: Begun) -> None:
    """Makes the mark, or adds to it."""
    _keep(work, _BEGUN, begun)


def watched_of(work: Work) -> Watched:
    """What the polls have shown so far."""
    return kept(work, _WATCHED, Watched) or Watched()


def keep_watched(work: Work, watched: Watched) -> None:
    """Keeps what the polls have shown."""
    _keep(work, _WATCHED, watched)


def end_of(work: Work) -> End | None:
    """The end of the sync; None as long as it is not known."""
    return kept(work, _END, End)


def keep_end(work: Work, state: SyncState) -> None:
    """Keeps the end; the first one counts."""
    if end_of(work) is None:
        _keep(work, _END, End(state=state, at=now()))


def begin_again(work: Work) -> None:
    """Forgets the sync of this run: another one is started. May be called again as long as none was."""
    for name in (_BEGUN, _WATCHED, _END):
        work.documents.keep(DocumentKind.SYNC_MARK, name, "")
    work.documents.keep(DocumentKind.SYNC_MARK, _AGAIN, "1")


def begun_again(work: Work) -> bool:
    """Whether the sync of this run is its second."""
    return bool(work.documents.kept(DocumentKind.SYNC_MARK, _AGAIN))


def seconds_since(moment: AwareDatetime) -> float:
    """Seconds since then, by the clocks of the workers."""
    return max(0.0, (now() - moment).total_seconds())
