"""What this process knows of which runs are cancelled."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.steering import Steering
from workers.remembered import Remembered

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["FLAGS_FOR", "Cancellations"]

FLAGS_FOR = 1.0  #: seconds for which the flags of a run are not read again
_RUNS = 1000  #: whose flags are remembered: a worker lives for months


class Cancellations:
    """Reads the flags of a run once a second at most: a step asks at every turn of every wait.

    Args:
        store: has the flags.
        clock: monotonic seconds.
    """

    def __init__(self, store: "RunStore", clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._seen: Remembered[tuple[float, bool]] = Remembered(_RUNS)

    def has(self, run_id: str) -> bool:
        """Whether the run is cancelled."""
        read, cancelled = self._seen.get(run_id) or (0.0, False)
        if self._clock() - read > FLAGS_FOR:
            cancelled = bool(Steering.of(self._store, run_id).cancelled)
            self.saw(run_id, cancelled=cancelled)
        return cancelled

    def saw(self, run_id: str, *, cancelled: bool) -> None:
        """Remembers what was read just now."""
        self._seen.put(run_id, (self._clock(), cancelled))
