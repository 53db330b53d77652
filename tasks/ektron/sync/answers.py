"""What the handlers of a site answer, as values (ektron-facts 4.1, 4.3).

An answer is text of another machine: every list and text is bounded here, and a field that is missing or of another
type is read as empty. Dates stay texts: the product writes them in the format of its server.
"""

import json
from collections.abc import Iterator
from typing import Any

from tasks.ektron.facts.values import Fact
from tasks.ektron.refusals import Refused

__all__ = [
    "BalanceStart",
    "BalanceStatus",
    "Entry",
    "InProgress",
    "NotAuthorised",
    "Profile",
    "Relationship",
    "Started",
    "SyncStatus",
    "Unusable",
    "balance_start_of",
    "balance_status_of",
    "in_progress_of",
    "relationships_of",
    "started_of",
    "status_of",
]

_TEXT = 500  #: characters of one text
_MANY = 2000  #: elements of one list: the newest ones, which say how it ended


class Unusable(Refused):
    """An answer that is not what such a handler answers."""


class NotAuthorised(Refused):
    """The literal `null`: the user is not logged in, or lacks the role (ektron-facts 4.1, row 48)."""


class Entry(Fact):
    """One entry of the status of a sync or of load balancing.

    Attributes:
        code: a name such as `SyncStarted` (ektron-facts 4.4).
        date: in the format of the server.
        details: or the error, of a load-balance entry.
    """

    code: str
    date: str = ""
    message: str = ""
    details: str = ""

    @property
    def failed(self) -> bool:
        """Whether it reports a failure: the product decides by the same part of the code."""
        return "failed" in self.code.casefold()


class Profile(Fact):
    """One sync profile."""

    id: str
    name: str
    direction: str = ""  #: as the product writes it
    items: tuple[str, ...] = ()  #: of Database, Templates, Workarea, Bin


class Relationship(Fact):
    """Two databases that sync, with their profiles."""

    id: str = ""
    database: str = ""
    server: str = ""
    local_path: str = ""
    remote_path: str = ""
    direction: str = ""
    profiles: tuple[Profile, ...] = ()


class InProgress(Fact):
    """Whether a sync is running, and which."""

    running: bool
    profile: str = ""
    name: str = ""
    messages: tuple[str, ...] = ()


class Started(Fact):
    """The answer to a request for a sync."""

    accepted: bool
    messages: tuple[str, ...] = ()


class SyncStatus(Fact):
    """The status of the last sync of a profile."""

    success: bool
    complete: bool = False
    messages: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()


class BalanceStart(Fact):
    """The answer to a request for a load-balance refresh; it comes after the refresh."""

    success: bool
    authorised: bool
    message: str = ""


class BalanceStatus(Fact):
    """The status of the last load-balance refresh of a server; without entries there was none."""

    authorised: bool
    complete: bool = False
    message: str = ""
    entries: tuple[Entry, ...] = ()


def relationships_of(body: bytes) -> tuple[Relationship, ...]:
    """The answer to `GetProfiles`.

    Raises:
        NotAuthorised: the answer is `null`.
        Unusable: it is something else.
    """
    return tuple(_relationship(one) for one in _objects(_object(body), "Relationships"))


def in_progress_of(body: bytes) -> InProgress:
    """The answer to `IsSyncInProgress`. Raises as `relationships_of`."""
    found = _object(body)
    if "IsSyncInProgress" not in found:
        raise Unusable("the answer has no field IsSyncInProgress")
    return InProgress(
        running=_flag(found, "IsSyncInProgress"),
        profile=_text(found, "ProfileId"),
        name=_text(found, "ProfileName"),
        messages=_texts(found, "Messages"),
    )


def started_of(body: bytes) -> Started:
    """The answer to `Sync`. Raises as `relationships_of`."""
    found = _object(body)
    return Started(accepted=_flag(found, "Success"), messages=_texts(found, "Messages"))


def status_of(body: bytes) -> SyncStatus:
    """The answer to `Status` of the sync handler. Raises as `relationships_of`."""
    found = _object(body)
    return SyncStatus(
        success=_flag(found, "Success"),
        complete=_flag(found, "IsComplete"),
        messages=_texts(found, "Messages"),
        entries=_entries(found),
    )


def balance_start_of(body: bytes) -> BalanceStart:
    """The answer to `loadbalance`. Raises as `relationships_of`."""
    found = _object(body)
    return BalanceStart(
        success=_flag(found, "Success"), authorised=_flag(found, "IsAuthorized"), message=_text(found, "Message")
    )


def balance_status_of(body: bytes) -> BalanceStatus:
    """The answer to `status` of the load-balance handler. Raises as `relationships_of`."""
    found = _object(body)
    return BalanceStatus(
        authorised=_flag(found, "IsAuthorized"),
        complete=_flag(found, "IsComplete"),
        message=_text(found, "Message"),
        entries=_entries(found),
    )


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise Unusable("the answer is empty: the handler does not know the action")
    try:
        found = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unusable("the answer is no JSON") from None
    if found is None:
        raise NotAuthorised(
            "the answer is `null`: the site user is not logged in, or lacks the role",
            remedy="the user of `site_login` needs the role Synchronization Admin or Synchronization User",
        )
    if not isinstance(found, dict):
        raise Unusable("the answer is no JSON object")
    return found


def _relationship(found: dict[str, Any]) -> Relationship:
    return Relationship(
        id=_text(found, "RelationshipId"),
        database=_text(found, "DatabaseName"),
        server=_text(found, "ServerName"),
        local_path=_text(found, "LocalSitePath"),
        remote_path=_text(found, "RemoteSitePath"),
        direction=_text(found, "Direction"),
        profiles=tuple(
            Profile(
                id=_text(one, "ProfileId"),
                name=_text(one, "ProfileName"),
                direction=_text(one, "Direction"),
                items=_texts(one, "Items"),
            )
            for one in _objects(found, "Profiles")
        ),
    )


def _entries(found: dict[str, Any]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            code=_text(one, "Code"),
            date=_text(one, "DateCreated") or _text(one, "Date"),
            message=_text(one, "Message"),
            details=_text(one, "Details") or _text(one, "Error"),
        )
        for one in _objects(found, "Entries")
    )


def _listed(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value[-_MANY:] if isinstance(value, list) else []


def _objects(found: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    return (one for one in _listed(found, name) if isinstance(one, dict))


def _texts(found: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(text for one in _listed(found, name) if (text := _as_text(one)))


def _text(found: dict[str, Any], name: str) -> str:
    return _as_text(found.get(name))


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value[:_TEXT]
    return str(value)[:_TEXT] if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _flag(found: dict[str, Any], name: str) -> bool:
    value = found.get(name)
    return value is True or (isinstance(value, str) and value.casefold() == "true")
