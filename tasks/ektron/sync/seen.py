"""What the steps of a sync have seen, as values that the run keeps: the decisions and the report read nothing else."""

from pydantic import AwareDatetime

from tasks.ektron.facts.values import Fact
from tasks.ektron.sync.answers import BalanceStatus, Entry, InProgress, Relationship
from tasks.ektron.sync.balance import PeerEvidence
from tasks.ektron.sync.progress import SyncState, Watched

__all__ = ["Begun", "FileSeen", "LastSync", "Refreshed", "SiteSeen", "StatusFile", "document_name"]


def document_name(node: str, turn: str) -> str:
    """The name of the document of a node in a turn."""
    return f"{node}_{turn}"


class StatusFile(Fact):
    """A file in EktSyncStatus: what a running sync, or one that crashed, has left there (ektron-facts 1.2)."""

    name: str
    size: int
    changed: AwareDatetime
    hash: str = ""


class LastSync(Fact):
    """The last entries of a profile's last sync."""

    profile: str
    complete: bool
    success: bool
    entries: tuple[Entry, ...] = ()


class SiteSeen(Fact):
    """One server, as `esync sync status` shows it.

    Attributes:
        service: state of the Windows service; empty where it is not installed.
        listening: whether the sync port answers on the server itself.
        site: the address that was asked.
        site_problem: why the site could not be asked; empty if it answered.
        login: whether the site user was accepted: `accepted`, `none` or the reason.
        profiles_problem: why the profiles are not known.
        running: whether a sync is running; None if that is not known.
        balance: the last load-balance refresh; None if it is not known.
        status_files: in EktSyncStatus.
        canaries: files of earlier proofs that are still there.
        folder_exists: whether the folder of the canary exists.
    """

    node: str
    service: str
    listening: bool
    site: str = ""
    site_problem: str = ""
    login: str = "none"
    relationships: tuple[Relationship, ...] = ()
    profiles_problem: str = ""
    running: InProgress | None = None
    last: tuple[LastSync, ...] = ()
    balance: BalanceStatus | None = None
    balance_problem: str = ""
    status_files: tuple[StatusFile, ...] = ()
    status_files_more: bool = False
    canaries: tuple[str, ...] = ()
    folder_exists: bool = False


class Begun(Fact):
    """How the start of a sync went on the server that it is started on.

    Attributes:
        profile: the id; empty where a person starts a sync that this run cannot follow.
        sent: when the request was sent, or when the gate opened.
        before: the entries of the status before.
        begun: whether the sync has begun; False while a gate waits.
    """

    profile: str
    name: str = ""
    direction: str = ""
    sent: AwareDatetime
    before: tuple[Entry, ...] = ()
    begun: bool = False
    how: str = ""


class FileSeen(Fact):
    """One server in a turn of the watch.

    Attributes:
        arrived: whether the file is there with the same bytes.
        seconds: from the start of the sync until it was seen there.
        first_look: whether it was there at the first look: it may have arrived earlier than that.
        forgotten: this run has changed the server already, which its store has lost: it may have removed the file.
        watched: of the server on which the sync was started: what its status shows.
        final: whether the server need not be watched any more.
    """

    arrived: bool = False
    seconds: float | None = None
    first_look: bool = False
    other_bytes: bool = False
    forgotten: bool = False
    watched: Watched | None = None
    state: SyncState | None = None
    final: bool = False


class Refreshed(Fact):
    """A load-balance refresh, and the evidence about each other server of the pool."""

    sent: AwareDatetime
    before: tuple[Entry, ...] = ()
    entries: tuple[Entry, ...] = ()
    peers: tuple[PeerEvidence, ...] = ()
    final: bool = False
    problem: str = ""
