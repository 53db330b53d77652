"""How a node is at present: its faults, what is left of those that count down, what is still to come, what happened."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from lab.machine.faults import COUNTED, Faults, Later

__all__ = ["Condition", "Counters", "Seen"]

Counted = Literal["http_errors", "reset_replies", "lose_requests", "receive_timeouts", "refuse_operations"]

_REMEMBERED = 1000
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """One operation of the agent, or message of WinRM, as it began. `at` is seconds since 1970."""

    at: float
    operation: str
    target: str


@dataclass
class Counters:
    """What happened on a node since the lab started.

    Attributes:
        round_trips: HTTP requests answered, those for a logon included.
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
    """The present faults of a node and how much of those that count down is left.

    Attributes:
        begin: makes the faults of a moment that has come hold; of the node that this is the condition of.
        begun: how many moments have come since the faults were set.
    """

    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    begin: Callable[[Later], Awaitable[None]] | None = None
    begun: int = 0
    _left: dict[str, int | None] = field(default_factory=dict)
    _waiting: list[tuple[Later, int]] = field(default_factory=list)

    def set(self, faults: Faults) -> None:
        """Replaces all faults; everything that counts starts anew."""
        self.change(faults, frozenset(COUNTED))
        self._waiting = [(later, later.at.nth) for later in faults.later]
        self.begun = 0

    def change(self, faults: Faults, names: frozenset[str]) -> None:
        """Replaces all faults; of what counts down, that named starts anew."""
        self.faults = faults
        for name in names.intersection(COUNTED):
            self._left[name] = faults.http_errors.times if name == "http_errors" else getattr(faults, name)

    def happens(self, what: Counted) -> bool:
        """Whether one of the remaining occurrences is due now; uses it up."""
        left = self._left.get(what) or 0
        if left:
            self._left[what] = left - 1
        return left > 0

    def dies(self) -> bool:
        """Whether PowerShell dies before the operation that comes now; uses it up."""
        left = self._left.get("dies_after_operations")
        if left is not None:
            self._left["dies_after_operations"] = left - 1 if left else None
        return left == 0

    async def reached(self, operation: str, target: str = "", *, after: bool = False) -> bool:
        """An operation is about to be done, or has been done; gives whether faults began with it."""
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
            # Whatever a fault ended ends here, before the operation is done.
            await asyncio.sleep(0)
        return bool(due)

    async def wait(self) -> None:
        """The node's latency."""
        if self.faults.latency_ms:
            await asyncio.sleep(self.faults.latency_ms / 1000)

    async def work(self) -> None:
        """What an operation of the agent takes, besides what it does; without end while the node hangs."""
        if self.faults.operation_ms:
            await asyncio.sleep(self.faults.operation_ms / 1000)
        while self.faults.hangs:  # noqa: ASYNC110 - all faults are replaced as one value, by several
            await asyncio.sleep(_LOOK_SECONDS)
