"""The Windows service of the product: it calls other services with the certificates it has loaded, for syncs.

What ektron-facts leave open is filled in here; docs/lab.md has the list.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lxml import etree

from lab.machine.disk import sha256
from lab.machine.errors import Refusal
from lab.machine.faults import SyncFaults
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.machine.services import ProgramDied
from lab.product.database import Database, Databases, Member, Running, finished
from lab.product.link import MAX_SKEW_SECONDS, certificate_problem
from lab.product.loading import Broken, Loaded, ServedSite, load
from lab.product.replica import STATUS_FOLDER, Replica

__all__ = ["SYNC_PORT", "EktronService", "Farm", "LinkBroken", "Loaded", "NotReached"]

SYNC_PORT = 8732
_CALL_SECONDS = 5.0
_SECOND = 1_000_000_000
_ON = "1"
_STALE = "Sync_crashed.xml"
_ANOTHER = "(another user)"


class LinkBroken(Exception):
    """A service does not accept the other, with its message."""


class NotReached(LinkBroken):
    """A service does not answer."""


@dataclass
class Farm:
    """What the installations of a lab share: databases, and services that can call each other.

    Attributes:
        services: by address. pace: seconds that each entry of a status takes.
    """

    databases: Databases = field(default_factory=Databases)
    services: dict[str, "EktronService"] = field(default_factory=dict)
    pace: float = 0.02


class EktronService:
    """The program of the service.

    Attributes:
        farm: the other services. automatic: whether its edition drops servers that are down from load balancing.
        loaded: what it loaded at its start; None if it does not listen.
        site: the site that it serves; None without one.
        reached: called with the code of each entry that it writes into a status.
    """

    def __init__(self, machine: Machine, config: WindowsPath, farm: Farm) -> None:
        self.machine = machine
        self.farm = farm
        self.automatic = "Services30" not in config.name
        self.loaded: Loaded | None = None
        self.site: ServedSite | None = None
        self.faults = SyncFaults()
        self.reached: Callable[[str], Awaitable[object]] = _unheard
        self._fresh: Loaded | None = None
        self._config = config
        self._replicas: dict[WindowsPath, Replica] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pace(self) -> float:
        """Seconds that an entry of a status takes."""
        return self.farm.pace if self.faults.seconds is None else self.faults.seconds

    @property
    def name(self) -> str:
        """The name of its machine."""
        return self.machine.name

    def start(self) -> None:
        """Loads everything and opens the sync port if that succeeds.

        Raises:
            ProgramDied: the configuration is not XML.
        """
        self.loaded = self._fresh = None
        try:
            self._fresh, self.site = load(self.name, self.machine.disk, self._config)
        except etree.XMLSyntaxError:
            raise ProgramDied from None
        except (Broken, Refusal):
            return
        self.loaded = self._fresh
        self.machine.network.listen(self.machine.address, SYNC_PORT, self._words)
        self.farm.services[self.machine.address] = self
        if self.site:
            self._join()
            self._recover()

    def stop(self) -> None:
        """Closes the sync port, and ends its work where it is."""
        self.loaded = self._fresh = None
        self.machine.network.close(self.machine.address, SYNC_PORT)
        for task in self._tasks:
            task.cancel()

    def _words(self) -> bytes:
        """Its answer to `GET /`."""
        return json.dumps(asdict(self.loaded) if self.loaded else None).encode()

    @property
    def database(self) -> Database:
        """The database of its site.

        Raises:
            LinkBroken: it has no site.
        """
        return self.farm.databases.of(self._served().connection)

    @property
    def replica(self) -> Replica:
        """The files of its site; it remembers them over restarts."""
        folder = self._served().folder
        return self._replicas.setdefault(folder, Replica(self.machine.disk, folder))

    def _served(self) -> ServedSite:
        if self.site is None:
            raise LinkBroken(f"{self.name} has no CMS site")
        return self.site

    # -- faults ---------------------------------------------------------------------------------------------

    def suffer(self, faults: SyncFaults) -> None:
        """Sets its faults; those of what it has loaded begin now, and end with its next start."""
        was, self.faults = self.faults, faults
        loads = (faults.old_keys, faults.foreign_certificate)
        if self._fresh and loads != (was.old_keys, was.foreign_certificate):
            self.loaded = _wrongly(self._fresh, faults)
        if faults.stale_status != was.stale_status and self.site:
            (self.mark if faults.stale_status else self.unmark)(_STALE)
        if self.site and faults.someone_else != was.someone_else:
            self._occupy(occupied=faults.someone_else)

    def _occupy(self, *, occupied: bool) -> None:
        """Begins or ends a sync of another user, unless one of the lab's own is in progress."""
        theirs = Running(0, _ANOTHER)
        if self.database.running in {None, theirs}:
            self.database.running = theirs if occupied else None

    # -- load-balance cluster -------------------------------------------------------------------------------

    @property
    def load_balanced(self) -> bool:
        """Whether it has loaded both flags (ektron-facts 2.1, 2.2)."""
        loaded = self.loaded
        return loaded is not None and loaded.load_balanced == loaded.asset_load_balanced == _ON

    @property
    def library_balanced(self) -> bool:
        """Whether library files are replicated: its flag, and the number of servers (ektron-facts 5)."""
        loaded = self.loaded
        if loaded is None or loaded.library_load_balanced != _ON:
            return False
        return loaded.server_count == str(len(self.database.peers(self.name)) + 1)

    def _join(self) -> None:
        members = self.database.members
        members.pop(self.name, None)
        if self.load_balanced:
            members[self.name] = Member(self.name, self._served().folder.key)

    # -- status files ---------------------------------------------------------------------------------------

    @property
    def status_folder(self) -> WindowsPath:
        """Where a running sync leaves its files."""
        return self._served().folder.child(STATUS_FOLDER)

    def mark(self, name: str) -> None:
        """Writes a status file."""
        self.machine.disk.make_folder(self.status_folder)
        self.machine.disk.put(self.status_folder.child(name), f"<status server='{self.name}'/>".encode())

    def unmark(self, name: str) -> None:
        """Removes a status file."""
        path = self.status_folder.child(name)
        if self.machine.disk.stat(path):
            self.machine.disk.remove(path)

    def marks(self) -> list[str]:
        """The names of its status files."""
        return self.machine.disk.names(self.status_folder)

    def _recover(self) -> None:
        """Forgets what it did not end, once its status files are gone (ektron-facts 6, rows 16 and 25)."""
        if self.marks():
            return
        if not finished(self.database.balance.get(self.name, [])):
            self.database.balance.pop(self.name, None)
        for relationship in self.database.relationships:
            remote = self.farm.databases.of(relationship.remote)
            for database in (self.database, remote):
                if database.running and database.running.server == self.name:
                    database.running = None

    # -- calls ----------------------------------------------------------------------------------------------

    async def call(self, name: str) -> "EktronService":
        """The service of another machine, over the network.

        Raises:
            NotReached: nothing answers there. LinkBroken: one of the two refuses the other.
        """
        network = self.machine.network
        if why := await network.reach(self.name, name, SYNC_PORT, _CALL_SECONDS):
            raise NotReached(f"Could not connect to {name}:{SYNC_PORT}: {why}")
        other = self.farm.services.get(network.address_of(name, self.name) or "")
        if other is None or other.loaded is None or self.loaded is None:
            raise NotReached(f"There was no endpoint listening at {name}:{SYNC_PORT}")
        if why := certificate_problem(self.loaded, other.loaded) or _expired(self, other) or _mismatch(self, other):
            raise LinkBroken(why)
        return other

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Does some work until it ends, or until the service does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _wrongly(fresh: Loaded, faults: SyncFaults) -> Loaded:
    """What a service has loaded that was started too early, or with other files."""
    late = {f"{name}_SyncClient.cer".upper() for name in faults.old_keys}
    keys = {key: value for key, value in fresh.clients.items() if key.upper() not in late}
    own = sha256(b"a certificate of another family") if faults.foreign_certificate else fresh.client_certificate
    return replace(fresh, clients=keys, client_certificate=own)


async def _unheard(code: str) -> None:
    """Hears of an entry."""
    del code


def _expired(caller: EktronService, called: EktronService) -> str:
    """Whether one of two services checks the dates of the other; no fact says that any does (ektron-facts 3.2)."""
    for shown, to in ((caller, called), (called, caller)):
        if to.faults.checks_expiry and shown.loaded and shown.loaded.expires < to.machine.clock.now() // _SECOND:
            return f"{to.name}: the certificate of {shown.name} has expired"
    return ""


def _mismatch(caller: EktronService, called: EktronService) -> str:
    """Why two services that trust each other cannot work together (ektron-facts 6, rows 14 and 15)."""
    ours, theirs = caller.loaded, called.loaded
    if ours and theirs and ours.build != theirs.build:
        return f"ContractFilter mismatch at the EndpointDispatcher: {ours.build} and {theirs.build}"
    skew = abs(caller.machine.clock.now() - called.machine.clock.now()) / _SECOND
    if skew > MAX_SKEW_SECONDS:
        return f"The clocks of {caller.name} and {called.name} are not synchronized"
    return ""
