"""The remote shells of one machine: their commands, unread output and end.

A *host* runs one command line with three streams and an exit status. `lab.hosts.simulated.Console` simulates it,
`lab.hosts.process.ProcessHost` starts real processes.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lab.machine.machine import Quotas
from lab.winrm.wsman import Chunk, Fault

__all__ = ["CommandLine", "Host", "Output", "Shells", "Streams"]

_ENDED_BY_SIGNAL = 0xC000013A


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line from a client.

    Attributes:
        command, arguments: as sent; cmd.exe gets them joined by spaces.
        skip_cmd_shell: the program is started directly, without cmd.exe.
    """

    command: str
    arguments: tuple[str, ...] = ()
    skip_cmd_shell: bool = False

    @property
    def text(self) -> str:
        """The line as cmd.exe gets it."""
        return " ".join((self.command, *self.arguments))

    @property
    def program(self) -> str:
        """The name of the program, in lower case without folder and `.exe`: `powershell`."""
        first = self.text.strip().partition(" ")[0]
        return first.strip('"').rpartition("\\")[2].lower().removesuffix(".exe")


class Streams:
    """The three streams of one running command, from the view of the command."""

    def __init__(self) -> None:
        self._input: deque[bytes] = deque()
        self._ended = False
        self._arrived = asyncio.Event()
        self.output: deque[Chunk] = deque()
        self.changed = asyncio.Event()

    async def read(self) -> bytes:
        """The next piece of stdin; empty at its end."""
        while not self._input:
            if self._ended:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        return self._input.popleft()

    def write(self, data: bytes, stream: str = "stdout") -> None:
        """Writes bytes to stdout, or to `stderr`."""
        if data:
            self.output.append(Chunk("", stream, data))
            self.changed.set()

    def feed(self, data: bytes, *, end: bool) -> None:
        """Adds input for the command."""
        if data:
            self._input.append(data)
        self._ended = self._ended or end
        self._arrived.set()


class Host(Protocol):
    """Runs command lines."""

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Runs a command line and returns its exit status; ends all its processes if cancelled."""


@dataclass(frozen=True, slots=True)
class Output:
    """The result of a Receive. `exit_code` is None while the command runs or there is more output."""

    chunks: list[Chunk]
    exit_code: int | None


@dataclass(slots=True)
class _Command:
    id: str
    streams: Streams
    task: asyncio.Task[int] | None = None
    receiving: bool = False

    def exit_code(self) -> int | None:
        if self.task is None or not self.task.done():
            return None
        return _ENDED_BY_SIGNAL if self.task.cancelled() else self.task.result()

    def end(self) -> None:
        if self.task:
            self.task.cancel()


@dataclass(slots=True)
class _Shell:
    id: str
    owner: str
    idle_seconds: float
    operations: int = 0
    used: float = field(default_factory=time.monotonic)
    commands: dict[str, _Command] = field(default_factory=dict)

    def busy(self) -> bool:
        return any(command.receiving for command in self.commands.values())

    def running(self) -> int:
        return sum(command.exit_code() is None for command in self.commands.values())


class Shells:
    """All shells of one machine.

    Args:
        host: runs the commands.
        quotas: limits; read at each use, so that a test may change them.
    """

    def __init__(self, host: Host, quotas: Quotas) -> None:
        self._host = host
        self._quotas = quotas
        self._shells: dict[str, _Shell] = {}
        self._tasks: set[asyncio.Task[int]] = set()

    def __len__(self) -> int:
        return len(self._shells)

    def create(self, owner: str, idle_seconds: float | None) -> tuple[str, float]:
        """Opens a shell; returns its id and its idle timeout in seconds.

        Raises:
            Fault: the user has reached the quota.
        """
        self.end_idle()
        quota = self._quotas.shells_per_user
        if sum(shell.owner == owner for shell in self._shells.values()) >= quota:
            raise Fault.too_many_shells(quota)
        shell = _Shell(_new_id(), owner, min(idle_seconds or self._quotas.idle_seconds, self._quotas.idle_seconds))
        self._shells[shell.id] = shell
        return shell.id, shell.idle_seconds

    def command(self, owner: str, shell_id: str, line: CommandLine) -> str:
        """Starts a command; returns its id.

        Raises:
            Fault: unknown shell, or a quota.
        """
        shell = self._shell(owner, shell_id)
        if shell.running() >= self._quotas.processes_per_shell:
            raise Fault.too_many_processes(self._quotas.processes_per_shell)
        if shell.operations >= self._quotas.operations_per_shell:
            raise Fault.too_many_operations(self._quotas.operations_per_shell)
        shell.operations += 1
        command = _Command(_new_id(), Streams())
        command.task = asyncio.create_task(self._host.run(line, command.streams))
        command.task.add_done_callback(lambda _: command.streams.changed.set())
        self._tasks.add(command.task)
        command.task.add_done_callback(self._tasks.discard)
        shell.commands[command.id] = command
        return command.id

    def send(self, owner: str, shell_id: str, chunks: list[Chunk]) -> None:
        """Sends input to a command.

        Raises:
            Fault: unknown shell or command, or a stream that is not stdin.
        """
        shell = self._shell(owner, shell_id)
        for chunk in chunks:
            if chunk.stream != "stdin":
                raise Fault.invalid("only stdin accepts input")
            self._command(shell, chunk.command).streams.feed(chunk.data, end=chunk.end)

    async def receive(
        self,
        owner: str,
        shell_id: str,
        command_id: str,
        seconds: float,
        limit: int,
        late: Callable[[], bool] = lambda: False,
    ) -> Output:
        """Waits for output or the end, at most some seconds; returns at most about `limit` bytes.

        If `late` returns true, the available output counts as too late and stays for the next Receive.

        Raises:
            Fault: unknown shell or command, another Receive is waiting, or a timeout.
        """
        shell = self._shell(owner, shell_id)
        command = self._command(shell, command_id)
        if command.receiving:
            raise Fault.receive_in_progress()
        command.receiving = True
        try:
            async with asyncio.timeout(seconds):
                while not command.streams.output and command.exit_code() is None:
                    command.streams.changed.clear()
                    await command.streams.changed.wait()
        except TimeoutError:
            raise Fault.timed_out() from None
        finally:
            command.receiving = False
            shell.used = time.monotonic()
        if shell.id not in self._shells:
            raise Fault.unknown_shell(shell.id)
        if late():
            raise Fault.timed_out()
        chunks = _take(command.streams.output, limit)
        return Output(chunks, None if command.streams.output else command.exit_code())

    def signal(self, owner: str, shell_id: str, command_id: str, code: str) -> None:
        """Ends a command (`terminate`, `ctrl_c`, `ctrl_break`); `terminate` also removes it.

        Raises:
            Fault: unknown shell or command, or another code.
        """
        shell = self._shell(owner, shell_id)
        command = self._command(shell, command_id)
        if code not in {"terminate", "ctrl_c", "ctrl_break"}:
            raise Fault.invalid("the signal is not known")
        command.end()
        if code == "terminate":
            del shell.commands[command.id]

    def delete(self, owner: str, shell_id: str) -> None:
        """Closes a shell and ends its commands.

        Raises:
            Fault: unknown shell.
        """
        self._close(self._shell(owner, shell_id))

    def end_idle(self) -> None:
        """Closes the shells that have been idle for their idle timeout."""
        now = time.monotonic()
        for shell in list(self._shells.values()):
            if not shell.busy() and now - shell.used > shell.idle_seconds:
                self._close(shell)

    def end_all(self) -> None:
        """Closes every shell, like a restart of the WinRM service."""
        for shell in list(self._shells.values()):
            self._close(shell)

    async def ended(self) -> None:
        """Waits until every command has ended; a cancelled command needs a moment."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self, shell: _Shell) -> None:
        self._shells.pop(shell.id, None)
        for command in shell.commands.values():
            command.end()
            command.streams.changed.set()

    def _shell(self, owner: str, shell_id: str) -> _Shell:
        shell = self._shells.get(shell_id)
        if shell is None or shell.owner != owner:
            raise Fault.unknown_shell(shell_id)
        shell.used = time.monotonic()
        return shell

    @staticmethod
    def _command(shell: _Shell, command_id: str) -> _Command:
        command = shell.commands.get(command_id.upper())
        if command is None:
            raise Fault.unknown_command(command_id)
        return command


def _new_id() -> str:
    return str(uuid.uuid4()).upper()


def _take(output: deque[Chunk], limit: int) -> list[Chunk]:
    """Removes chunks from the front, and splits the one that exceeds the limit."""
    taken: list[Chunk] = []
    while output and limit > 0:
        chunk = output.popleft()
        if len(chunk.data) > limit:
            output.appendleft(Chunk("", chunk.stream, chunk.data[limit:]))
            chunk = Chunk("", chunk.stream, chunk.data[:limit])
        taken.append(chunk)
        limit -= len(chunk.data)
    return taken
