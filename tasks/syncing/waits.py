"""Waits of a step: in parts, each in its own turn, so that no thread of a worker is held for the length of a sync."""

import time
from dataclasses import dataclass, field

from tasks.step import Work
from workers.errors import Cancelled

__all__ = ["Part"]

_POLL = 0.25  #: seconds between two checks whether the run is cancelled
_FIRST = 15.0  #: seconds of the part in the first turn; each one is twice as long as the one before it
_OF_STEP = 0.6  #: of the deadline of a step, at most


@dataclass
class Part:
    """The part of a wait that a step does in one turn.

    Args:
        work: the step.
        longest: seconds at most, whatever the turn.
    """

    work: Work
    longest: float = 0.0
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        _, _, number = self.work.turn.rpartition("-")
        turn = int(number) if number.isdigit() else 1
        allowed = self.work.deadline * _OF_STEP
        seconds = self.longest or _FIRST * 2 ** min(turn - 1, 10)
        self._until = time.monotonic() + min(seconds, allowed)

    @property
    def is_over(self) -> bool:
        """Whether the next turn has to continue."""
        return time.monotonic() >= self._until

    def pause(self, seconds: float) -> None:
        """Waits so long, or until this part is over.

        Raises:
            Cancelled: the run was cancelled.
        """
        until = min(time.monotonic() + seconds, self._until)
        while (left := until - time.monotonic()) > 0:
            if self.work.cancelled():
                raise Cancelled(f"{self.work.node.name}: the wait ended, because the run was cancelled")
            time.sleep(min(left, _POLL))
