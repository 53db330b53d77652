"""The host of a node that records its programs, and replays what it has recorded instead of running them."""

import asyncio

from lab.machine.condition import Condition
from lab.machine.conversation import Program
from lab.winrm.shells import CommandLine, Host, Streams

__all__ = ["RecordedHost"]

_NOT_RECORDED = 1


class RecordedHost:
    """Runs command lines on another host, unless a recorded conversation is replayed.

    Args:
        host: runs the programs.
        condition: has the conversation, and the counters.
    """

    def __init__(self, host: Host, condition: Condition) -> None:
        self._host = host
        self._condition = condition

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Runs a command line, or replays it, and returns its exit status."""
        conversation = self._condition.conversation
        if conversation.mode == "off":
            return await self._host.run(line, streams)
        program = conversation.next_program()
        if conversation.mode == "record" and program is not None:
            program.status = await self._host.run(line, _Tap(streams, program))
            return program.status
        if line.program == "powershell":
            self._condition.counters.powershell_starts += 1
            await asyncio.sleep(self._condition.faults.powershell_start_ms / 1000)
        if program is None:
            streams.write(b"this start is not in the recorded conversation\r\n", "stderr")
            return _NOT_RECORDED
        return await _replayed(program, streams)


class _Tap(Streams):
    """Passes everything on, and records the output with the amount of input before it."""

    def __init__(self, client: Streams, program: Program) -> None:
        super().__init__()
        self._client = client
        self._program = program
        self._read = 0

    async def read(self) -> bytes:
        """The next piece of input."""
        data = await self._client.read()
        self._read += len(data)
        return data

    def write(self, data: bytes, stream: str = "stdout") -> None:
        """Records the bytes and passes them on."""
        if data:
            self._program.output.append((self._read, stream, data))
        self._client.write(data, stream)


async def _replayed(program: Program, streams: Streams) -> int:
    read = 0
    for after, stream, data in program.output:
        while read < after:
            piece = await streams.read()
            if not piece:
                break
            read += len(piece)
        streams.write(data, stream)
    while program.status is None and await streams.read():
        pass
    return program.status or 0
