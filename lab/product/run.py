"""One sync, and one refresh of a load-balance cluster: phases, entries of the status, files on the disks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from lab.machine.errors import Refusal
from lab.product.causes import CAUSES
from lab.product.database import (
    ENDED,
    FAILED,
    Database,
    Direction,
    Entry,
    Item,
    Profile,
    Relationship,
    Running,
    finished,
)
from lab.product.replica import ASSETS, LIBRARY, Replica, Version
from lab.product.service import EktronService, LinkBroken, NotReached

__all__ = ["SyncRefused", "refresh", "start_sync"]

_LOOK_SECONDS = 0.1
_SEED = r"uploadedfiles\metaconfig.doc"

Wanted = Callable[[Version], bool]
Note = Callable[..., Awaitable[None]]


class SyncRefused(Exception):
    """A sync or a refresh cannot start; the arguments are its messages."""


class _PhaseFailed(Exception):
    """A phase failed: its name, and what happened."""

    def __init__(self, phase: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.phase, self.message, self.details = phase, message, details


@dataclass
class _Status:
    """The entries that a server writes, one after the other, each with its time."""

    service: EktronService
    entries: list[Entry]

    async def note(self, code: str, message: str = "", details: str = "") -> None:
        """Writes one entry, which takes its time."""
        service = self.service
        self.entries.append(Entry(code, service.machine.clock.now(), message, details))
        await service.reached(code)
        await asyncio.sleep(service.pace)
        while service.faults.hangs:  # noqa: ASYNC110 - the faults are one value that is replaced from outside
            await asyncio.sleep(_LOOK_SECONDS)


# -- a sync ----------------------------------------------------------------------------------------------------


def start_sync(service: EktronService, number: int) -> "asyncio.Task[None]":
    """Starts the sync of a profile on the server of this service.

    Raises:
        SyncRefused: no such profile, or a sync is in progress in one of the two databases (ektron-facts 4.3).
        LinkBroken: the service has no site.
    """
    database = service.database
    found = database.profile(number)
    if found is None:
        raise SyncRefused("The synchronization profile was not found.")
    relationship, profile = found
    databases = [database, service.farm.databases.of(relationship.remote)]
    for one in databases:
        if one.running:
            raise SyncRefused("A synchronization is already in progress.", str(one.running.profile))
    status = database.status[number] = []
    for one in databases:
        one.running = Running(number, service.name)
    return service.run(_Run(service, relationship, profile, databases, _Status(service, status)).go())


@dataclass
class _Run:
    service: EktronService
    relationship: Relationship
    profile: Profile
    databases: list[Database]
    status: _Status
    received: set[tuple[str, ...]] = field(default_factory=set)

    async def go(self) -> None:
        """Runs all phases. A service that stops leaves everything as it is."""
        mark = f"Sync_{self.profile.id}.xml"
        try:
            self.service.mark(mark)
            await self._work()
        except _PhaseFailed as failed:
            await self.status.note(f"Sync{failed.phase}Failed", failed.message, failed.details)
            await self.status.note(FAILED, failed.message)
        except (LinkBroken, Refusal) as failed:
            await self.status.note(FAILED, str(failed))
        else:
            await self.status.note(ENDED)
        with suppress(Refusal):  # the file stays where the disk refuses it, and is stale then
            self.service.unmark(mark)
        for database in self.databases:
            database.running = None

    async def _work(self) -> None:
        note = self.status.note
        await note("SyncInitializing")
        remote = await self._remote("Initialization")
        self._cause("Initialization", remote)
        await note("SyncInitialized", self.relationship.server)
        await note("SyncStarted", self.profile.name)
        if self.profile.direction is not Direction.UPLOAD:
            await self._gather()
        for phase, wanted in _phases(self.profile.items):
            await note(f"Sync{phase}Started")
            await self._exchange(phase, wanted)
            await note(f"Sync{phase}Ended")
        await note("SyncUpdatingSearchCatalogs")
        self._cause("UpdatingSearchCatalogs", remote)
        self._balance_remote(remote)
        if self.service.load_balanced and self.service.name in self.service.database.members:
            await balance(self.service, self._carried, note)

    async def _remote(self, phase: str) -> EktronService:
        try:
            return await self.service.call(self.relationship.server)
        except LinkBroken as broken:
            raise _PhaseFailed(phase, str(broken)) from broken

    def _cause(self, phase: str, remote: EktronService) -> None:
        """Ends the sync if one of the two servers has a fault of this phase, or lacks a file for it (row 21)."""
        for one in (self.service, remote):
            fails = one.faults.fails
            if fails and CAUSES[fails].phase == phase:
                raise _PhaseFailed(phase, CAUSES[fails].message)
            if phase == "UploadedFiles" and not one.replica.has(_SEED):
                raise _PhaseFailed(phase, f"Could not find file '{one.replica.site.below(_SEED)}'.")

    async def _gather(self) -> None:
        """A server that downloads first takes what the others of its cluster have (the procedure: download on S2)."""
        for peer in self.service.database.peers(self.service.name):
            try:
                other = await self.service.call(peer)
            except LinkBroken:
                continue
            self._copied(other.replica, self.service.replica, self._in_items)

    async def _exchange(self, phase: str, wanted: Wanted) -> None:
        """Copies the files of one phase in the directions of the profile."""
        remote = await self._remote(phase)
        self._cause(phase, remote)
        ours, theirs = self.service.replica, remote.replica
        try:
            if self.profile.direction is not Direction.DOWNLOAD:
                _copied(ours, theirs, wanted)
            if self.profile.direction is not Direction.UPLOAD:
                self._copied(theirs, ours, wanted)
        except Refusal as refused:
            raise _PhaseFailed(phase, refused.message, refused.path or "") from refused

    def _copied(self, source: Replica, target: Replica, wanted: Wanted) -> None:
        self.received.update(version.key for version in _copied(source, target, wanted))

    def _in_items(self, version: Version) -> bool:
        return version.item in self.profile.items

    def _carried(self, version: Version) -> bool:
        """What the server that started the sync passes on: after a download only what it received."""
        received = self.profile.direction is not Direction.DOWNLOAD or version.key in self.received
        return received and self._in_items(version)

    def _balance_remote(self, remote: EktronService) -> None:
        """The server at the other end updates its own cluster; the sync does not wait for it."""
        earlier = remote.database.balance.get(remote.name, [])
        if self.profile.direction is not Direction.DOWNLOAD and remote.load_balanced and not _waits(earlier):
            remote.run(_refresh(remote, self._in_items))


def _waits(entries: list[Entry]) -> bool:
    """Whether a refresh is in progress: what it copies is decided when it copies."""
    return bool(entries) and not finished(entries)


def _phases(items: Iterable[Item]) -> Iterator[tuple[str, Wanted]]:
    """The phases of a profile, and which files each of them carries (ektron-facts 4.4, 5)."""
    if Item.DATABASE in items:
        yield "Database", lambda _: False
        yield "Assets", lambda version: version.key[0] == "ASSETS"
        yield "AssetLibrary", lambda _: False
        yield "UploadedFiles", lambda version: version.key[0] == "UPLOADEDFILES"
        yield "UploadedImages", lambda version: version.key[0] == "UPLOADEDIMAGES"
        yield "PrivateAssets", lambda version: version.key[0] == "PRIVATEASSETS"
    if site := {Item.TEMPLATES, Item.BIN} & set(items):
        yield "Templates", lambda version: version.item in site
    if Item.WORKAREA in items:
        yield "Workarea", lambda version: version.item is Item.WORKAREA


def _copied(source: Replica, target: Replica, wanted: Wanted) -> list[Version]:
    source.look()
    target.look()
    newer = source.newer_than(target, wanted)
    for version in newer:
        target.take(version, source.data(version))
    return newer


# -- load balancing --------------------------------------------------------------------------------------------


def refresh(service: EktronService) -> "asyncio.Task[None]":
    """Starts a refresh of the cluster by hand: assets and library files only (ektron-facts 4.5).

    Raises:
        SyncRefused: a server of the cluster has an unfinished status, or its files (ektron-facts 6, row 26).
    """
    database = service.database
    peers = [service.name, *database.peers(service.name)]
    marked = {other.name for other in service.farm.services.values() if other.name in peers and other.marks()}
    for peer in peers:
        if peer in marked or _waits(database.balance.get(peer, [])):
            raise SyncRefused(f"Load balancing is in progress on {peer}.")
    return service.run(_refresh(service, lambda version: version.item is Item.DATABASE))


async def _refresh(service: EktronService, wanted: Wanted) -> None:
    if service.name not in service.database.members:
        return
    status = _Status(service, [])
    service.database.balance[service.name] = status.entries
    try:
        await status.note("SyncInitializing")
        await balance(service, wanted, status.note)
        await status.note(ENDED)
    except LinkBroken as failed:
        await status.note(FAILED, str(failed))


async def balance(service: EktronService, wanted: Wanted, note: Note) -> None:
    """Updates the other servers of a cluster from one of them.

    Raises:
        LinkBroken: for the first server that could not be updated, after all others were.
    """
    broken: list[LinkBroken] = []
    await note("SyncCheckingLoadBalanceStart")
    for peer in service.database.peers(service.name):
        try:
            await _update(service, peer, wanted, note)
        except NotReached as missing:
            # 8.5 and later drop a server that is down without a message (ektron-facts 5).
            if not service.automatic:
                await note("SyncLoadBalanceNotAvailable", peer, str(missing))
        except LinkBroken as failed:
            broken.append(failed)
        except Refusal as failed:
            broken.append(LinkBroken(f"{peer}: {failed}"))
    if broken:
        raise broken[0]
    await note("SyncCheckingLoadBalanceEnd")


async def _update(service: EktronService, peer: str, wanted: Wanted, note: Note) -> None:
    other = await service.call(peer)
    while other.marks():  # noqa: ASYNC110 - stale or not: it waits for files that a person may remove (6, row 25)
        await asyncio.sleep(_LOOK_SECONDS)
    mark = f"LoadBalance_{service.name}.xml"
    other.mark(mark)
    await note("SyncPerformingLoadBalance", peer)
    try:
        _copied(service.replica, other.replica, lambda version: wanted(version) and _replicated(service, version))
    finally:
        other.unmark(mark)


def _replicated(service: EktronService, version: Version) -> bool:
    """Library files need their own two settings (ektron-facts 5)."""
    if version.key[0] in LIBRARY:
        return service.library_balanced
    return version.key[0] not in ASSETS or service.load_balanced
