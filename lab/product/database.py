"""The databases of a lab: users, relationships with their profiles, status of syncs, members of a load-balance cluster.

The sites with one connection string share a database (ektron-facts 10).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "ADMINISTRATORS",
    "ENDED",
    "FAILED",
    "SYNC_ADMIN",
    "SYNC_USER",
    "Database",
    "Databases",
    "Direction",
    "Entry",
    "Item",
    "Member",
    "Profile",
    "Relationship",
    "Running",
    "User",
    "finished",
    "named",
]

ENDED, FAILED = "SyncEnded", "SyncFailed"
ADMINISTRATORS, SYNC_ADMIN, SYNC_USER = "Administrators", "SyncAdmin", "SyncUser"


class Item(StrEnum):
    """What a profile carries (ektron-facts 5)."""

    DATABASE = "Database"
    TEMPLATES = "Templates"
    WORKAREA = "Workarea"
    BIN = "Bin"


class Direction(StrEnum):
    """Direction of a sync, seen from the server on which it is started."""

    UPLOAD = "Upload"
    DOWNLOAD = "Download"
    BIDIRECTIONAL = "Bidirectional"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the site with a password, which is a secret, and roles."""

    name: str
    password: str = field(repr=False)
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a sync does; its id is unique in the lab."""

    id: int
    name: str
    direction: Direction
    items: tuple[Item, ...] = tuple(Item)


@dataclass(frozen=True, slots=True)
class Relationship:
    """Two databases, and the server at the remote end.

    Attributes:
        local, remote: their connection strings, secrets.
    """

    id: int
    local: str = field(repr=False)
    remote: str = field(repr=False)
    server: str = ""
    profiles: tuple[Profile, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a status. `when` is nanoseconds since 1970 by the clock of the server that wrote it."""

    code: str
    when: int
    message: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A server of a load-balance cluster: its name, and the folder of its site as the file system compares it."""

    name: str
    folder: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """The sync that runs, and the server on which it was started."""

    profile: int
    server: str


@dataclass
class Database:
    """One database.

    Attributes:
        users: by lower-case name. status: of the last run of each profile. balance: of each server's load balancing.
        members: servers with load balancing, by name. running: the sync in progress, if there is one.
    """

    name: str
    users: dict[str, User] = field(default_factory=dict)
    relationships: list[Relationship] = field(default_factory=list)
    status: dict[int, list[Entry]] = field(default_factory=dict)
    balance: dict[str, list[Entry]] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    running: Running | None = None

    def profiles(self) -> Iterator[tuple[Relationship, Profile]]:
        """All profiles, each with its relationship."""
        for relationship in self.relationships:
            for profile in relationship.profiles:
                yield relationship, profile

    def profile(self, number: int) -> tuple[Relationship, Profile] | None:
        """The profile with an id."""
        return next((pair for pair in self.profiles() if pair[1].id == number), None)

    def peers(self, name: str) -> list[str]:
        """The other members of a server's cluster: same database and same folder (ektron-facts 10), by name."""
        own = self.members.get(name)
        if own is None:
            return []
        return sorted(m.name for m in self.members.values() if m.name != name and m.folder == own.folder)


@dataclass
class Databases:
    """The databases of a lab by connection string.

    Attributes:
        prepare: fills a new database, such as with users.
    """

    prepare: Callable[[Database], None] = lambda _: None
    _all: dict[str, Database] = field(default_factory=dict, repr=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def of(self, connection: str) -> Database:
        """The database of a connection string, created if it is new."""
        if connection not in self._all:
            self._all[connection] = Database(named(connection, "database"))
            self.prepare(self._all[connection])
        return self._all[connection]

    def __iter__(self) -> Iterator[Database]:
        return iter(self._all.values())

    def relate(self, local: str, remote: str, server: str, profiles: dict[str, Direction]) -> Relationship:
        """Creates a relationship with profiles in the local database."""
        made = tuple(Profile(next(self._numbers), name, direction) for name, direction in profiles.items())
        relationship = Relationship(next(self._numbers), local, remote, server, made)
        self.of(local).relationships.append(relationship)
        return relationship


def finished(entries: Sequence[Entry]) -> bool:
    """Whether a load balancing has ended: SyncFailed and SyncEnded both end it (ektron-facts 4.4)."""
    return bool(entries) and entries[-1].code in {ENDED, FAILED}


def named(connection: str, word: str) -> str:
    """A value of a connection string such as `server=SQL01;database=CMS400`; empty without it."""
    pairs = (part.partition("=") for part in connection.split(";"))
    return next((value.strip() for name, _, value in pairs if name.strip().lower() == word), "")
