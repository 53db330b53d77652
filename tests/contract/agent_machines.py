r"""The machines for the agent's cases: one small class for each implementation of the protocol.

Each creates the initial state of a case, sends one raw line and returns the raw reply, and inspects the machine
afterwards without the agent.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.contract.agent_cases import Json, content_of
from tests.local_channel import LocalChannel, pwsh
from tests.places import folder_in_memory
from workers.winrm.channel import Limit
from workers.winrm.wire import command_line, script_line

__all__ = ["LabMachine", "LinuxMachine", "Machine", "RealDisk", "Talk", "found_on_path", "plain"]

_ANSWER = 150.0


class Machine(Protocol):
    """One implementation of the protocol on a machine."""

    platform: str

    def set_up(self, given: Json, root: str) -> None:
        """Creates a new folder with the initial state of a case."""

    def ask(self, line: str) -> str:
        """Sends one line to the agent; returns its reply."""

    def local(self, value: Json) -> Json:
        """A request, reply or path with the paths of this machine."""

    def state(self, path: str) -> bytes | str | None:
        """The bytes of a file, `folder`, or None."""

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted."""

    def hidden(self, path: str) -> bool | None:
        """Whether a file is hidden; None if there is no such attribute."""

    def clear(self) -> None:
        """Closes held files and removes what the cases created."""

    def close(self) -> None:
        """Ends the process."""


def translated(value: Json, path: Callable[[str], str]) -> Json:
    """Every text in the value translated, keys too."""
    if isinstance(value, str):
        return path(value)
    if isinstance(value, list):
        return [translated(item, path) for item in value]
    if isinstance(value, dict):
        return {translated(key, path): translated(item, path) for key, item in value.items()}
    return value


class Talk:
    """One PowerShell that answers line after line.

    Args:
        arguments: what to execute for a command line.
        command: the command line. first: its first input. The defaults are those of the agent.
    """

    def __init__(
        self, arguments: Callable[[str], Sequence[str]], command: str = command_line(), first: bytes = script_line()
    ) -> None:
        self._channel = LocalChannel(arguments)
        self._channel.start(command, Limit("node", _ANSWER))
        self._channel.send(first, Limit("node", _ANSWER))
        self._pending = b""

    def ask(self, line: str) -> str:
        """Sends one line; returns the next output line."""
        self._channel.send(line.encode("ascii") + b"\n", Limit("node", _ANSWER))
        while b"\n" not in self._pending:
            chunk = self._channel.receive(Limit("node", _ANSWER))
            self._pending += chunk.stdout
            if chunk.exit_status is not None:
                raise RuntimeError(f"PowerShell ended with {chunk.exit_status} {chunk.stderr!r}")
        answer, _, self._pending = self._pending.partition(b"\n")
        return answer.decode("ascii").rstrip("\r")

    def close(self) -> None:
        """Ends the process."""
        self._channel.close()


class RealDisk:
    """Uses the file system of this machine."""

    def __init__(self, drive: Path, arguments: Callable[[str], Sequence[str]]) -> None:
        self._drive = drive
        self._arguments = arguments
        self._talk = Talk(arguments)
        self._held: list[int] = []
        self._made: list[Path] = []

    def real(self, path: str) -> Path:
        """The path on this machine for a path of a case."""
        return self._drive.joinpath(*path.removeprefix("C:\\").split("\\"))

    def set_up(self, given: Json, root: str) -> None:
        """Creates files and folders, and holds the locked ones open."""
        self._made.append(self.real(root))
        self._made[-1].mkdir()
        for path in given.get("folders", []):
            self.real(path).mkdir(parents=True, exist_ok=True)
        for path, content in given.get("files", {}).items():
            self.real(path).parent.mkdir(parents=True, exist_ok=True)
            self.real(path).write_bytes(content_of(content))
        for path, count in given.get("many", {}).items():
            self.real(path).mkdir()
            for number in range(count):
                (self.real(path) / f"{number:05d}").touch()
        for path, target in given.get("links", {}).items():
            self.real(path).symlink_to(self.real(target))
        for path in given.get("readonly", []):
            self.real(path).chmod(0o444)
        for path in given.get("locked", []):
            self._held.append(os.open(self.real(path), os.O_RDWR))
            fcntl.flock(self._held[-1], fcntl.LOCK_EX)

    def ask(self, line: str) -> str:
        """Sends one line to the agent."""
        return self._talk.ask(line)

    def ask_in_batch(self, lines: Sequence[str]) -> list[str]:
        """Sends all lines and the end of input to a new agent in batch."""
        given = script_line() + "".join(f"{line}\n" for line in lines).encode("ascii")
        command = self._arguments(command_line(batch=True))
        done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=4 * _ANSWER)
        return done.stdout.decode("ascii").splitlines()

    def state(self, path: str) -> bytes | str | None:
        """The content of a file, `folder`, or None."""
        real = self.real(path)
        if real.is_dir():
            return "folder"
        return real.read_bytes() if real.exists() else None

    def names(self, path: str) -> list[str]:
        """The names in a folder."""
        return sorted(entry.name for entry in self.real(path).iterdir())

    def hidden(self, path: str) -> bool | None:
        """None: Linux has no such attribute."""
        del path
        return None

    def clear(self) -> None:
        """Closes held files and removes the folders."""
        while self._held:
            os.close(self._held.pop())
        while self._made:
            shutil.rmtree(self._made.pop(), ignore_errors=True)

    def close(self) -> None:
        """Ends PowerShell."""
        self._talk.close()
        self.clear()


class LinuxMachine(RealDisk):
    """The agent on PowerShell on this machine, with `/` in paths."""

    platform = "linux"

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="agent-", dir=folder_in_memory() or None)
        super().__init__(Path(self._home.name), pwsh(program))

    def local(self, value: Json) -> Json:
        """The value with `/` in paths, below the folder of the drive."""
        return translated(value, self._path)

    def _path(self, text: str) -> str:
        return f"{self._drive}{text[2:]}".replace("\\", "/") if text.startswith("C:\\case") else text

    def close(self) -> None:
        """Ends PowerShell and removes everything."""
        super().close()
        self._home.cleanup()


class LabMachine:
    """The lab's agent in this process, on a simulated machine."""

    platform = "lab"

    def __init__(self) -> None:
        self._new_machine()

    def _new_machine(self) -> None:
        # Imported here, so that the other implementations can be tested without the lab.
        from lab.agent.session import Agent  # noqa: PLC0415
        from lab.machine.machine import Machine as Simulated  # noqa: PLC0415
        from lab.machine.memory_disk import MemoryDisk  # noqa: PLC0415
        from lab.machine.paths import WindowsPath  # noqa: PLC0415

        self._path: Callable[[str], Any] = WindowsPath.of
        self._machine = Simulated("N1", MemoryDisk())
        self._agent = Agent(self._machine)

    def set_up(self, given: Json, root: str) -> None:
        """Creates a new machine with the initial state."""
        self._new_machine()
        disk = self._machine.disk
        disk.make_folder(self._path(root))
        for path in given.get("folders", []):
            disk.make_folder(self._path(path))
        for path, content in given.get("files", {}).items():
            disk.make_folder(self._path(path).parent)
            disk.put(self._path(path), content_of(content))
        for path, count in given.get("many", {}).items():
            disk.make_folder(self._path(path))
            for number in range(count):
                disk.put(self._path(f"{path}\\{number:05d}"), b"")
        for path, target in given.get("links", {}).items():
            disk.link(self._path(path), self._path(target))
        for path in given.get("readonly", []):
            disk.set_readonly(self._path(path))
        for path in given.get("locked", []):
            disk.lock(self._path(path))
        for value in given.get("values", []):
            self._machine.set_value(value["key"], value["name"], value["value"])
        for service in given.get("services", []):
            self._install(service)

    def _install(self, given: Json) -> None:
        from lab.machine.services import StartType  # noqa: PLC0415 - see above

        service = self._machine.install_service(
            given["name"], given["display"], given["image_path"], depends_on=tuple(given.get("depends_on", ()))
        )
        for name in ("start_seconds", "stop_seconds", "never_stops", "never_starts", "dies_on_start"):
            if name in given:
                setattr(service, name, given[name])
        service.start_error = 2 if given.get("no_program") else 0
        if given.get("running"):
            delay, service.start_seconds = service.start_seconds, 0.0
            service.request_start()
            service.start_seconds = delay
        if given.get("disabled"):
            service.start_type = StartType.DISABLED
        if given.get("died"):
            service.die()

    def ask(self, line: str) -> str:
        """Sends one line to the agent."""
        return self._agent.answer(line)

    def local(self, value: Json) -> Json:
        """The value unchanged."""
        return value

    def state(self, path: str) -> bytes | str | None:
        """The content of a file, `folder`, or None."""
        entry = self._machine.disk.stat(self._path(path))
        if entry is None:
            return None
        return "folder" if entry.folder else bytes(self._machine.disk.read(self._path(path)))

    def names(self, path: str) -> list[str]:
        """The names in a folder."""
        return sorted(self._machine.disk.names(self._path(path)))

    def hidden(self, path: str) -> bool | None:
        """None: the simulated machine has no attribute except read-only."""
        del path
        return None

    def clear(self) -> None:
        """Does nothing: each case has its own machine."""
        return

    def close(self) -> None:
        """Ends the agent."""
        self._agent.close()


def found_on_path(*names: str) -> str:
    """The first of these programs on PATH; empty if there is none."""
    return next(filter(None, map(shutil.which, names)), "")


def plain(text: str) -> bool:
    """Whether a line is ASCII without control characters, as the protocol requires."""
    return bool(re.fullmatch(r"[\x20-\x7e]*", text))
