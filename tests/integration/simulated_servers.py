"""Simulated servers in the test's own process: each action of a machine is recorded, and PowerShell can die at it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

from typing_extensions import override

from lab.hosts.simulated import Console
from lab.machine.condition import Condition
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.network import Network
from lab.machine.paths import WindowsPath
from lab.machine.services import Program, Service
from lab.product.family import Family, make_family
from lab.product.installation import Installation, install
from lab.product.site import Edition, Options, connection_of, run_configurator
from lab.winrm.shells import CommandLine, Streams
from workers.winrm.channel import TURN, Chunk, Counters, Limit

__all__ = ["Action", "PowerShellDied", "Server", "ServerChannel", "WatchedService", "family"]

_KILLED = -1


class PowerShellDied(Exception):
    """The agent's process on the node is killed here."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a machine on its disk or its service (`put`, `append`, `delete`, `stop`, ...), with its target."""

    what: str
    target: str

    def __str__(self) -> str:
        return f"{self.what} {self.target}"


class _WatchedDisk(MemoryDisk):
    """A disk that reports each change before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.about_to: Callable[[Action], None] = lambda _: None

    @override
    def _put(self, path: WindowsPath, data: bytes) -> None:
        self.about_to(Action("put", path.text))
        super()._put(path, data)

    @override
    def _append(self, path: WindowsPath, data: bytes) -> None:
        self.about_to(Action("append", path.text))
        super()._append(path, data)

    @override
    def _appending(self, path: WindowsPath) -> Callable[[bytes], None]:
        return partial(self._append, path)

    @override
    def _make_folder(self, path: WindowsPath) -> None:
        self.about_to(Action("make", path.text))
        super()._make_folder(path)

    @override
    def _delete(self, path: WindowsPath) -> None:
        self.about_to(Action("delete", path.text))
        super()._delete(path)

    @override
    def _set_mtime(self, path: WindowsPath, mtime: int) -> None:
        self.about_to(Action("touch", path.text))
        super()._set_mtime(path, mtime)

    @override
    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None:
        self.about_to(Action("attribute", path.text))
        super()._set_readonly(path, readonly=readonly)

    def leave(self, path: WindowsPath, data: bytes) -> None:
        """Appends bytes to a file without a report, so that nothing changes for the service."""
        super()._append(path, data)


def _nobody(action: Action) -> None:
    """Ignores the action."""
    del action


class WatchedService(Service):
    """A service that reports each request before and after it.

    Attributes:
        pending_looks: how often it is seen pending after a request, instead of a time in that state.
    """

    about_to: Callable[[Action], None] = staticmethod(_nobody)
    pending_looks = 0
    _looks_left = 0

    @override
    def request_start(self) -> None:
        self.about_to(Action("start", self.name))
        self._looks_left = self.pending_looks
        super().request_start()
        self.about_to(Action("start asked", self.name))

    @override
    def request_stop(self) -> None:
        self.about_to(Action("stop", self.name))
        self._looks_left = self.pending_looks
        super().request_stop()
        self.about_to(Action("stop asked", self.name))

    @override
    def settle(self) -> None:
        if self._looks_left:
            self._looks_left -= 1
        else:
            super().settle()


class Server(Machine):
    """A simulated machine with the product on it that keeps a journal of its actions.

    Attributes:
        product: its files and its service, once installed.
        journal: every action since the journal was last cleared.
        watch: called with each action before it is done; raises `PowerShellDied` to end the agent's process there.
    """

    product: Installation

    def __init__(self, name: str, address: str, network: Network) -> None:
        self.storage = _WatchedDisk()
        super().__init__(name, self.storage, address=address, network=network)
        self.journal: list[Action] = []
        self.watch: Callable[[Action], None] = _nobody
        self.condition = Condition()
        self.console = Console(self, self.condition)
        self.storage.about_to = self._about_to

    def _about_to(self, action: Action) -> None:
        self.watch(action)
        self.journal.append(action)

    def install(self, edition: str, site: str, pool: str) -> None:
        """Installs the product with the database of its pool, and starts its service."""
        options = Options(site_path=site, connection=connection_of(pool))
        self.product = install(self, Edition.of(edition), options)
        self.product.service.request_start()

    def configure(self, number: int = 0) -> None:
        """Generates the certificates, as "Generate Certificates" of the Security Configurator does."""
        run_configurator(self.product, family(number))

    @property
    def service(self) -> WatchedService:
        """The product's."""
        return cast("WatchedService", self.product.service)

    @override
    def install_service(
        self,
        name: str,
        display: str,
        image_path: str,
        *,
        program: Program | None = None,
        depends_on: tuple[str, ...] = (),
    ) -> Service:
        super().install_service(name, display, image_path)
        clock, pid = self.clock.now, self.new_pid
        service = WatchedService(name, display, image_path, clock, pid, program=program, depends_on=depends_on)
        service.about_to = self._about_to
        return self.services.add(service)


class ServerChannel:
    """Runs PowerShell on a server for a session: it runs while the session waits, in the same thread."""

    keeps_for = 900.0

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._streams = Streams()
        self._running: asyncio.Task[int] | None = None
        self._turns = self._starts = 0

    @property
    def counters(self) -> Counters:
        """A send and a receive count as a round trip each."""
        return Counters(self._turns, self._starts, 0, 0)

    def start(self, command: str, limit: Limit) -> None:
        """Starts a command line."""
        del limit
        self._starts += 1
        self._streams = Streams()
        self._running = self._loop.create_task(self._server.console.run(CommandLine(command), self._streams))
        self._running.add_done_callback(lambda _: self._streams.changed.set())

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Sends input to it."""
        del limit
        self._turns += 1
        self._streams.feed(data, end=end)

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Lets the server run until there is output, or the command has ended."""
        self._turns += 1
        self._loop.run_until_complete(self._worked(min(turn, limit.left)))
        data = b"".join(chunk.data for chunk in self._streams.output)
        self._streams.output.clear()
        return Chunk(data, b"", self._status())

    async def _worked(self, within: float) -> None:
        streams, running = self._streams, self._running
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not streams.output and running and not running.done():
                    streams.changed.clear()
                    await streams.changed.wait()

    def _status(self) -> int | None:
        running = self._running
        if running is None or not running.done():
            return None
        if isinstance(running.exception(), PowerShellDied):
            return _KILLED
        return running.result()

    def stop(self) -> None:
        """Ends the command."""
        if self._running and not self._running.done():
            self._running.cancel()
            self._loop.run_until_complete(asyncio.wait([self._running]))
        self._running = None

    def close(self) -> None:
        """Ends the command."""
        self.stop()


@cache
def family(number: int = 0) -> Family:
    """A certificate family, the same for the same number: its keys take a while to make."""
    del number
    return make_family()
