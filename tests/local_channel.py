"""The channel to a child process: the same agent on a PowerShell of this machine, or behind any runner program."""

import contextlib
import math
import os
import selectors
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence

from workers.errors import SessionLost, Unreachable
from workers.winrm.channel import Chunk, Counters, Limit

__all__ = ["LocalChannel", "pwsh"]

TURN = 1.0  #: seconds of one wait for output
PATIENCE = 5.0  #: seconds in which a child may end by itself
PIECE = 65_536


def pwsh(program: str) -> Callable[[str], Sequence[str]]:
    """Runs the command line of a node with this PowerShell instead of `powershell.exe`."""
    return lambda command: [program, *shlex.split(command)[1:]]


class LocalChannel:
    """Runs command lines as child processes, each in its own process session.

    Args:
        arguments: returns program and arguments for a command line.
    """

    def __init__(self, arguments: Callable[[str], Sequence[str]]) -> None:
        self._arguments = arguments
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = selectors.DefaultSelector()
        self._turns = 0
        self._starts = 0
        self._sent = 0
        self._received = 0

    @property
    def counters(self) -> Counters:
        """The cost so far; a write or a wait counts as a round trip."""
        return Counters(self._turns, self._starts, self._sent, self._received)

    @property
    def keeps_for(self) -> float:
        """A child stays."""
        return math.inf

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._child.pid if self._child else None

    def start(self, command: str, limit: Limit) -> None:
        """Starts the child."""
        del limit
        arguments = list(self._arguments(command))
        try:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"{arguments[0]} cannot be started: {error.strerror}") from error
        self._starts += 1
        for stream in (self._child.stdout, self._child.stderr):
            if stream:
                self._ready.register(stream, selectors.EVENT_READ)

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Writes to the child."""
        del limit
        child = self._alive()
        self._turns += 1
        self._sent += len(data)
        if child.stdin is None:
            raise SessionLost("the child process has no stdin")
        try:
            child.stdin.write(data)
            child.stdin.flush()
            if end:
                child.stdin.close()
        except OSError as error:
            raise SessionLost(f"the child process closed its stdin: {error.strerror}") from error

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Waits for output."""
        child = self._alive()
        self._turns += 1
        streams = {child.stdout: b"", child.stderr: b""}
        for key, _ in self._ready.select(min(TURN, turn, limit.left)):
            data = os.read(key.fd, PIECE)
            for stream in streams:
                if stream is key.fileobj:
                    streams[stream] = data
            if not data:
                self._ready.unregister(key.fileobj)
        self._received += sum(map(len, streams.values()))
        status = child.wait() if not self._ready.get_map() else None
        return Chunk(streams[child.stdout], streams[child.stderr], status)

    def stop(self) -> None:
        """Closes the stdin of the child, waits a few seconds, then kills it with all its child processes."""
        child, self._child = self._child, None
        if child is None:
            return
        self._ready.close()
        self._ready = selectors.DefaultSelector()
        with contextlib.suppress(OSError):
            if child.stdin:
                child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()

    def close(self) -> None:
        """Ends the child."""
        self.stop()
        self._ready.close()

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise SessionLost("no child process is running")
        return self._child
