"""The simulated host: runs a command line as cmd.exe on a simulated machine would."""

import asyncio
import base64
from collections.abc import AsyncIterator

from lab.agent.files import FILE_OPERATIONS, spread_files
from lab.agent.messages import Fields
from lab.agent.session import Agent
from lab.hosts.command_prompt import NOT_ACCEPTED, CommandPrompt
from lab.hosts.powershell import InvalidArguments, reads_agent, run_really, script_of
from lab.machine.condition import Condition
from lab.machine.errors import Refusal
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.winrm.shells import CommandLine, Streams

__all__ = ["Console"]

_LONGEST_LINE = 8191
_DIED = -1
_NO_SCRIPT = 4


class _Died(Exception):
    """The PowerShell process is killed at this point."""


class Console:
    """Runs `hostname`, and PowerShell: the agent and `hostname` are simulated, other scripts run in a real PowerShell.

    There are no other programs.
    """

    def __init__(self, machine: Machine, condition: Condition) -> None:
        self._machine = machine
        self._condition = condition

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Runs a command line and returns its exit status."""
        if len(line.text) > _LONGEST_LINE and not line.skip_cmd_shell:
            streams.write(b"The command line is too long.\r\n", "stderr")
            return 1
        program, _, arguments = line.text.strip().partition(" ")
        console = CommandPrompt(self._condition.faults, streams)
        console.print(self._condition.faults.autorun, "stdout")
        if line.program == "powershell" and (status := console.failed_start(program)):
            return status
        match line.program:
            case "hostname" if not arguments.strip():
                streams.write(f"{self._machine.name}\r\n".encode())
                return 0
            case "powershell":
                return await self._powershell(arguments, streams)
        return console.not_found(program)

    async def _powershell(self, arguments: str, streams: Streams) -> int:
        try:
            script = script_of(arguments)
        except InvalidArguments as error:
            streams.write(f"Cannot process the command: {error}.\r\n".encode("ascii", "replace"), "stderr")
            return 1
        self._condition.counters.powershell_starts += 1
        await asyncio.sleep(self._condition.faults.powershell_start_ms / 1000)
        if script.strip().lower() == "hostname":
            streams.write(f"{self._machine.name}\r\n".encode())
            return 0
        if not reads_agent(script):
            return await run_really(script, streams)
        if self._condition.faults.stdin_swallowed and "$input" not in script.lower():
            while await streams.read():
                pass
            return _NO_SCRIPT
        agent = Agent(self._machine, self)
        try:
            return await _converse(agent, _lines(streams), streams)
        except _Died:
            return _DIED
        finally:
            agent.close()

    async def before(self, agent: Agent, fields: Fields) -> None:
        """Counts an operation, and kills the process if a fault requires it."""
        self._condition.counters.operations[fields.op] += 1
        await self._condition.reached(fields.op, fields.target())
        await self._condition.work()
        if self._condition.dies():
            _leave_half(agent, fields)
            raise _Died

    async def after(self, agent: Agent, fields: Fields) -> None:
        """Lets faults begin before the reply is sent, including the end of the process."""
        del agent
        if not self._condition.waits or not await self._condition.reached(fields.op, fields.target(), after=True):
            return
        await self._condition.work()
        if self._condition.faults.dies_after_operations == 0 and self._condition.dies():
            raise _Died


async def _converse(agent: Agent, lines: AsyncIterator[bytes], streams: Streams) -> int:
    """The first line is the script, which a simulated machine ignores; each further line is a request."""
    script = await anext(lines, None)
    if script is None:
        return _NO_SCRIPT
    try:
        base64.b64decode(script, validate=True)
    except ValueError:
        streams.write(b"FormatException: The first line is not a script in base64.\r\n", "stderr")
        return NOT_ACCEPTED
    async for line in lines:
        reply = await agent.reply(line.decode("ascii", "replace"))
        streams.write(reply.text.encode() + b"\n")
        if reply.last:
            break
    return 0


async def _lines(streams: Streams) -> AsyncIterator[bytes]:
    """Complete lines of stdin except blank ones; the last line may have no line end."""
    parts: list[bytes] = []
    while data := await streams.read():
        *whole, rest = data.split(b"\n")
        for end in whole:
            if line := b"".join((*parts, end)).strip():
                yield line
            parts.clear()
        if rest:
            parts.append(rest)
    if line := b"".join(parts).strip():
        yield line


def _leave_half(agent: Agent, fields: Fields) -> None:
    """Leaves the files of a process that was killed during a write or spread: some complete, one incomplete."""
    try:
        if fields.op == "write":
            _leave_temporary(agent, fields.path(), fields.data("data"))
        elif fields.op == "spread":
            _leave_half_spread(agent, fields)
    except Refusal:
        return


def _leave_half_spread(agent: Agent, fields: Fields) -> None:
    files, blobs = spread_files(fields), fields.blobs("blobs")
    folder, disk = fields.path("folder"), agent.machine.disk
    # Equal files are skipped, so they are never incomplete.
    names = [n for n in files if not disk.stat(folder.child(n)) or disk.read(folder.child(n)) != blobs[files[n]]]
    done, rest = names[: len(names) // 2], names[len(names) // 2 :]
    FILE_OPERATIONS["spread"](agent.machine, fields.replaced(files={name: files[name] for name in done}, owners=None))
    if rest:
        _leave_temporary(agent, folder.child(rest[0]), blobs[files[rest[0]]])


def _leave_temporary(agent: Agent, path: WindowsPath, data: bytes) -> None:
    place = path.parent.child(f"{path.name}.esync-{agent.pid}.tmp")
    agent.machine.disk.put(place, data[: len(data) // 2])
