"""The other kind of host: each command is a real process, started through a command runner that the lab is given.

The runner is the beginning of an argument list; the command line of the remote shell becomes its last argument. What
the runner makes of it, on which machine, is its own business.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from lab.machine.condition import Condition
from lab.winrm.shells import CommandLine, Streams

__all__ = ["ProcessHost"]

_MARK = "LAB_COMMAND"
_TERM_SECONDS = 0.5
_LAST_WORDS_SECONDS = 2.0
_NOT_STARTED = 1
_SWEEPS = 5  #: a process may start another while we look


class ProcessHost:
    """Runs command lines as processes, each tree in a session of its own.

    Standard streams are pipes: input arrives in order, its end closes the pipe, and output is passed on as it comes.
    The exit status is the runner's. However a command ends, by itself or because nobody wants it any more, what it
    started ends with it, as the job object of a Windows shell sees to it: first its input is closed, then the group is
    asked (SIGTERM), half a second later nothing is asked any more (SIGKILL).

    Args:
        runner: program and first arguments.
        condition: faults that concern the start of a command, and the counters.
    """

    def __init__(self, runner: tuple[str, ...], condition: Condition) -> None:
        self._runner = runner
        self._condition = condition

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Runs a command line to its end and gives its exit status; when cancelled, ends what it started."""
        if line.program == "powershell":
            self._condition.counters.powershell_starts += 1
            await asyncio.sleep(self._condition.faults.powershell_start_ms / 1000)
        mark = secrets.token_hex(16)
        try:
            return await self._run(line, streams, mark)
        except OSError as error:
            streams.write(f"{self._runner[0]} cannot be started: {error.strerror}\r\n".encode(), "stderr")
            return _NOT_STARTED
        finally:
            _kill_marked(mark)

    async def _run(self, line: CommandLine, streams: Streams, mark: str) -> int:
        transport, child = await self._started(line, streams, mark)
        stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        feeding = asyncio.create_task(_feed(stdin, streams))
        try:
            await child.exited.wait()
            await _within(_LAST_WORDS_SECONDS, child.drained)
            return max(transport.get_returncode() or 0, 0)
        finally:
            feeding.cancel()
            stdin.close()
            try:
                await _end_group(transport.get_pid(), child)
            finally:
                transport.close()

    async def _started(
        self, line: CommandLine, streams: Streams, mark: str
    ) -> tuple[asyncio.SubprocessTransport, "_Child"]:
        """Starts the process, in one go: cancelled half-way, asyncio would leave pipes open that nobody knows."""
        starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: _Child(streams),
                *self._runner,
                line.text,
                env={**os.environ, _MARK: mark},
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                transport, child = await starting
                transport.close()
                await _within(_TERM_SECONDS, child.exited)
            raise


class _Child(asyncio.SubprocessProtocol):
    """What one process says, passed on; when it ended, and when both its streams did."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._open = {1, 2}
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._streams.write(data, "stdout" if fd == 1 else "stderr")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        self._open.discard(fd)
        if not self._open:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()


async def _feed(stdin: asyncio.WriteTransport, streams: Streams) -> None:
    while data := await streams.read():
        if stdin.is_closing():
            return
        stdin.write(data)
    if not stdin.is_closing():
        stdin.write_eof()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Waits for an event, and not for ever: a process that was left behind may hold a stream open."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _end_group(pid: int, child: _Child) -> None:
    """Ends the process group, unless its leader ended by itself: what is left then is found by its mark."""
    if child.exited.is_set():
        return
    _signal_group(pid, signal.SIGTERM)
    try:
        await _within(_TERM_SECONDS, child.exited)
    finally:
        # Also when this wait is cancelled in its turn.
        _signal_group(pid, signal.SIGKILL)
    await _within(_TERM_SECONDS, child.exited)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _kill_marked(mark: str) -> None:
    """Ends every process that carries the mark: children inherit it, also those that left group and parent."""
    entry = f"{_MARK}={mark}".encode()
    for _ in range(_SWEEPS):
        found = list(_marked(entry))
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not found:
            return


def _marked(entry: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:
            continue  # it ended meanwhile, or is another user's
