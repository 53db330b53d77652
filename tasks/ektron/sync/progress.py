"""When a sync has begun and when it has ended, by the polls of its status (ektron-facts 4.4).

The product reports a sync as complete only when its last entry is `SyncEnded`. One that stops at `SyncFailed` never
becomes complete, and one whose service was killed has no last entry: both need rules of their own.
"""

from collections.abc import Sequence
from enum import StrEnum

from tasks.ektron.facts.values import Fact
from tasks.ektron.sync.answers import Entry, InProgress, SyncStatus

__all__ = ["SyncState", "Watched", "has_begun", "phase_of", "since", "watched"]

_ENDED = "syncended"
QUIET = 3  #: polls without a new entry after which a failed sync has ended
GONE = 6  #: polls without a new entry, and without a running sync, after which a sync has been lost
_PARTS = (  # ektron-facts 4.4; a name that contains another one stands before it
    "Database", "PrivateAssets", "AssetLibrary", "Assets", "UploadedFiles", "UploadedImages", "Templates", "Workarea",
    "CustomFileSync",
)  # fmt: skip
_DID = {"started": "begun", "ended": "done", "failed": "failed"}
_OTHER = {
    "syncinitializing": "initializing",
    "syncinitialized": "initialized",
    "syncstarted": "begun",
    "syncenumeratingchanges": "enumerating changes",
    "syncstatusupdate": "at work",
    "syncupdatingsearchcatalogs": "updating search catalogs",
    "syncupdatingsearchcatalogsfailed": "updating search catalogs failed",
    "syncinitializationfailed": "initialization failed",
    "syncfailed": "failed",
    "syncended": "ended",
    "syncperformingloadbalance": "load balancing",
    "synccheckingloadbalancestart": "checking load balancing",
    "synccheckingloadbalanceend": "load balancing checked",
    "syncloadbalancenotavailable": "load balancing is not available",
}


class SyncState(StrEnum):
    """The state of a sync."""

    WAITING = "waiting"  #: nothing shows that it has begun
    RUNNING = "running"
    ENDED = "ended"  #: without a failure
    FAILED = "failed"
    LOST = "lost"  #: nothing runs any more, and it has not ended: its service or site has stopped

    @property
    def is_final(self) -> bool:
        """Whether nothing more follows."""
        return self in {SyncState.ENDED, SyncState.FAILED, SyncState.LOST}


class Watched(Fact):
    """What the polls of a sync have shown so far.

    Attributes:
        entries: of this sync, without those of the sync before it.
        quiet: polls since the last new entry.
    """

    state: SyncState = SyncState.WAITING
    entries: tuple[Entry, ...] = ()
    quiet: int = 0

    @property
    def failure(self) -> Entry | None:
        """The first entry that reports a failure."""
        return next((entry for entry in self.entries if entry.failed), None)


def since(before: Sequence[Entry], now: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries that belong to a sync which began after `before` was read: the list grows, or begins again."""
    kept = tuple(before)
    return tuple(now[len(kept) :]) if tuple(now[: len(kept)]) == kept else tuple(now)


def has_begun(profile: str, before: Sequence[Entry], status: SyncStatus, running: InProgress | None) -> bool:
    """Whether a sync of that profile has begun since `before` was read."""
    ours = running is not None and running.running and running.profile in {"", profile}
    return ours or bool(since(before, status.entries))


def watched(so_far: Watched, status: SyncStatus, before: Sequence[Entry], *, running: bool | None) -> Watched:
    """What is known after one more poll.

    Args:
        so_far: what was known.
        status: the answer of the poll.
        before: the entries that were there before the sync was started.
        running: whether any sync is running; None if that is not known.
    """
    if so_far.state.is_final:
        return so_far
    entries = since(before, status.entries)
    quiet = so_far.quiet + 1 if entries == so_far.entries else 0
    return Watched(state=_state(entries, quiet, running=running), entries=entries, quiet=quiet)


def _state(entries: Sequence[Entry], quiet: int, *, running: bool | None) -> SyncState:
    failed = any(entry.failed for entry in entries)
    if entries and entries[-1].code.casefold() == _ENDED:
        return SyncState.FAILED if failed else SyncState.ENDED
    if failed and quiet >= QUIET and running is not True:
        return SyncState.FAILED
    if entries and running is False and quiet >= GONE:
        return SyncState.LOST
    return SyncState.RUNNING if entries or running else SyncState.WAITING


def phase_of(code: str) -> str:
    """A status code in words: `Templates: done`. An unknown code stays as it is."""
    plain = code.casefold()
    if plain in _OTHER:
        return _OTHER[plain]
    for part in _PARTS:
        did = next((words for ending, words in _DID.items() if ending in plain), "")
        if part.casefold() in plain and did:
            return f"{part}: {did}"
    return code
