"""The host with real processes: each command is started by a configured runner program.

The runner is the beginning of an argument list; the command line of the remote shell is the last argument. The runner
decides how and on which machine the command runs.
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
_ENDED_FROM_OUTSIDE = 0xC000013A  #: as Windows says of a process that was ended
_SWEEPS = 5  #: passes over the process list: a process may start another one during a pass


class ProcessHost:
    """Runs command lines as processes, each process tree in its own session.

    Standard streams are pipes: input arrives in order, the end of input closes the pipe, output is passed on at once.
    The exit status is the runner's. When a command ends or is cancelled, all processes that it started end with it,
    like the job object of a Windows shell: its input is closed, the group gets SIGTERM, half a second later SIGKILL.

    Args:
        runner: program and first arguments.
        condition: the faults for starting a command, and the counters.
    """

    def __init__(self, runner: tuple[str, ...], condition: Condition) -> None:
        self._runner = runner
        self._condition = condition

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Runs a command line and returns its exit status; ends all its processes if cancelled."""
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
        # The first pipe of a subprocess is for writing; typeshed knows only the base class.
        stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        feeding = asyncio.create_task(_feed(stdin, streams))
        try:
            await child.exited.wait()
            await _within(_LAST_WORDS_SECONDS, child.drained)
            status = transport.get_returncode() or 0
            return _ENDED_FROM_OUTSIDE if status < 0 else status
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
        """Starts the process without interruption: a cancelled start in asyncio would leave pipes open."""
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
    """Passes on the output of a process; has events for its end and for the end of both streams."""

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
    """Waits for an event with a time limit: a leftover process may keep a stream open."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _end_group(pid: int, child: _Child) -> None:
    """Ends the process group, unless its leader has ended: `_kill_marked` finds the rest then."""
    if child.exited.is_set():
        return
    _signal_group(pid, signal.SIGTERM)
    try:
        await _within(_TERM_SECONDS, child.exited)
    finally:
        # Also if this wait is cancelled.
        _signal_group(pid, signal.SIGKILL)
    await _within(_TERM_SECONDS, child.exited)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _kill_marked(mark: str) -> None:
    """Ends every process with the mark. Children inherit it, even if they have left the group and the parent."""
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
            continue  # the process has ended, or belongs to another user
