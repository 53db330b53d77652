"""One clock for what all workers have seen: their own clocks may differ, and may jump."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from workers.errors import EsyncError
from workers.records import now

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["ASKED_EVERY", "SharedClock"]

ASKED_EVERY = 10.0  #: seconds between two questions; the time between is counted


class SharedClock:
    """The clock of the store. While that does not answer, the one of this machine.

    Args:
        store: has the clock.
        clock: monotonic seconds.
    """

    def __init__(self, store: "RunStore", clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: tuple[datetime, float] | None = None  #: the last answer, and when it came

    def time(self) -> datetime:
        """The time by that clock."""
        known, at = self._known, self._clock()
        if known is None or at - known[1] > ASKED_EVERY:
            known = self._known = self._asked()
        told, since = known
        return told + timedelta(seconds=self._clock() - since)

    def _asked(self) -> tuple[datetime, float]:
        try:
            return self._store.time_of_day(), self._clock()
        except EsyncError:
            return now(), self._clock()
