"""A channel to the lab's agent in this process: sessions and pools without a network."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field

from lab.agent.session import Agent
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from workers.errors import SessionLost
from workers.winrm.channel import TURN, Chunk, Counters, Limit
from workers.winrm.wire import command_line

__all__ = ["MachineChannel"]


@dataclass
class MachineChannel:
    """Runs the lab's agent for a session.

    Attributes:
        delays: PowerShell sees its input only after the end of input. swallows: the same, and then only the bootstrap
            of batch can read it. silent: it never answers.
        noise: printed before each reply. dies: exit status instead of the next reply. piece: bytes per receive.
        commands: the command lines that were started. sent: bytes of input per command.
    """

    delays: bool = False
    swallows: bool = False
    silent: bool = False
    noise: bytes = b""
    dies: int | None = None
    stderr: bytes = b""
    piece: int = 10_000_000
    commands: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    turns: int = 0
    closed: int = 0
    stopped: int = 0
    keeps_for: float = 900.0

    def __post_init__(self) -> None:
        self._agent = Agent(Machine("N1", MemoryDisk()))
        self._stop_now()

    def _stop_now(self) -> None:
        self._input = b""
        self._lines = 0
        self._output: deque[bytes] = deque()
        self._status: int | None = None

    @property
    def counters(self) -> Counters:
        """A start counts as a shell, a send and a receive as a round trip."""
        return Counters(self.turns, len(self.commands), sum(self.sent), 0)

    def start(self, command: str, limit: Limit) -> None:
        """Records the command line."""
        assert limit.left > 0
        self._stop_now()
        self.commands.append(command)
        self.sent.append(0)

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Answers complete lines, unless a fault is set."""
        assert limit.left > 0
        if not self.commands:
            raise SessionLost("no command is running")
        self.turns += 1
        self.sent[-1] += len(data)
        self._input += data
        if self.silent or ((self.delays or self.swallows) and not end):
            return
        if self.swallows and self.commands[-1] == command_line():
            self._status = 4
            return
        *lines, self._input = self._input.split(b"\n")
        for line in lines:
            self._answer(line.decode())
        if end and self._status is None:
            self._status = 0

    def _answer(self, line: str) -> None:
        self._lines += 1
        if self._lines == 1:
            return
        if self.dies is not None:
            self._status = self.dies
            return
        text = asyncio.run(self._agent.reply(line)).text
        self._output.append(self.noise + json.dumps(json.loads(text)).encode() + b"\r\n")

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Returns the output so far."""
        assert min(limit.left, turn) > 0
        self.turns += 1
        data = b"".join(self._output)
        self._output = deque([data[self.piece :]])
        done = self._status if not data[self.piece :] else None
        return Chunk(data[: self.piece], self.stderr, done)

    def stop(self) -> None:
        """Drops the command."""
        self.stopped += 1
        self._stop_now()

    def close(self) -> None:
        """Counts the call."""
        self.closed += 1
