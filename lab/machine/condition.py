"""The current condition of a node: its faults, the remaining counts, faults that begin later, and counters."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from lab.machine.conversation import Conversation
from lab.machine.faults import COUNTED, Faults, Later

__all__ = ["Condition", "Counters", "Seen"]

Counted = Literal["http_errors", "reset_replies", "lose_requests", "receive_timeouts", "refuse_operations"]

_REMEMBERED = 1000
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """One operation of the agent or message of WinRM at its start. `at` is seconds since 1970."""

    at: float
    operation: str
    target: str


@dataclass
class Counters:
    """Counters of a node since the start of the lab.

    Attributes:
        round_trips: answered HTTP requests, including those of a logon.
        operations: of the agent, by name.
        latest: the latest operations and messages, in order.
    """

    logons_tried: int = 0
    logons_refused: int = 0
    round_trips: int = 0
    shells_opened: int = 0
    powershell_starts: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    latest: deque[Seen] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


@dataclass
class Condition:
    """The current faults of a node and the remaining counts of those that count down.

    Attributes:
        conversation: what is recorded or replayed.
        begin: applies the faults of a moment that has been reached; set by the node.
        begun: the number of moments reached since the faults were set.
    """

    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    conversation: Conversation = field(default_factory=Conversation)
    begin: Callable[[Later], Awaitable[None]] | None = None
    begun: int = 0
    _left: dict[str, int | None] = field(default_factory=dict)
    _waiting: list[tuple[Later, int]] = field(default_factory=list)

    def set(self, faults: Faults) -> None:
        """Replaces all faults and restarts all counts."""
        self.change(faults, frozenset(COUNTED))
        self._waiting = [(later, later.at.nth) for later in faults.later]
        self.begun = 0

    def change(self, faults: Faults, names: frozenset[str]) -> None:
        """Replaces all faults and restarts the counts of the named ones."""
        self.faults = faults
        for name in names.intersection(COUNTED):
            self._left[name] = faults.http_errors.times if name == "http_errors" else getattr(faults, name)

    def happens(self, what: Counted) -> bool:
        """Whether the fault occurs now; decreases its remaining count."""
        left = self._left.get(what) or 0
        if left:
            self._left[what] = left - 1
        return left > 0

    def dies(self) -> bool:
        """Whether PowerShell ends before the next operation; decreases the remaining count."""
        left = self._left.get("dies_after_operations")
        if left is not None:
            self._left["dies_after_operations"] = left - 1 if left else None
        return left == 0

    @property
    def waits(self) -> bool:
        """Whether faults wait for their moment."""
        return bool(self._waiting)

    async def reached(self, operation: str, target: str = "", *, after: bool = False) -> bool:
        """Records an operation before or after it runs; returns whether faults began with it."""
        if not after:
            self.counters.latest.append(Seen(time.time(), operation, target))
        if not self._waiting:
            return False
        due: list[Later] = []
        waiting: list[tuple[Later, int]] = []
        for later, left in self._waiting:
            more = left - later.at.fits(operation, target, after=after)
            if more:
                waiting.append((later, more))
            else:
                due.append(later)
        self._waiting = waiting
        for later in due:
            self.begun += 1
            if self.begin:
                await self.begin(later)
        if due:
            # Tasks that a fault has cancelled end here, before the operation runs.
            await asyncio.sleep(0)
        return bool(due)

    async def wait(self) -> None:
        """Waits for the latency of the node."""
        if self.faults.latency_ms:
            await asyncio.sleep(self.faults.latency_ms / 1000)

    async def work(self) -> None:
        """Waits for the extra time of an agent operation; without end while the node hangs."""
        if self.faults.operation_ms:
            await asyncio.sleep(self.faults.operation_ms / 1000)
        while self.faults.hangs:  # noqa: ASYNC110 - the faults are one value that several callers replace
            await asyncio.sleep(_LOOK_SECONDS)
