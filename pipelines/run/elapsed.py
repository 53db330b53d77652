"""How long things have lasted, as one observer measured it: no clock of another machine has a say.

The elected reconciler looks at every active run every few seconds. What it sees for the first time it takes the time
of, on its own monotonic clock. Only the seconds a run has gone on are kept in the store, as a flag (a flag is no sign
of progress), so that the next observer goes on counting where the last one ended.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

__all__ = ["SPENT", "Watch"]

SPENT = "spent"  #: the flag that holds the seconds a run has gone on so far


@dataclass
class _Seen:
    """What this observer knows of one run."""

    spent: float
    looked: float
    cancelled: float | None = None
    held: dict[str, tuple[int, float]] = field(default_factory=dict)  #: node -> outcomes it had, since when


class Watch:
    """What one observer has measured.

    Args:
        gap: seconds between two looks; a run is not believed to be older when it is first seen.
        clock: counts seconds.
    """

    def __init__(self, gap: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = gap
        self._clock = clock
        self._runs: dict[str, _Seen] = {}
        self.due = gap  #: seconds until the next look

    def within(self, seconds: float) -> None:
        """The next look is to be no later than that."""
        self.due = min(self.due, max(0.05, seconds))

    def only(self, runs: Collection[str]) -> None:
        """A look begins, at these runs; others have ended, or somebody else looks after them."""
        self.due = self._gap
        self._runs = {run: seen for run, seen in self._runs.items() if run in runs}

    def spent(self, run: str, flags: Mapping[str, str], age: float, *, going: bool) -> float:
        """Seconds the run has gone on, since it was asked for and without the time it was paused.

        Args:
            run: the run.
            flags: of the run; they hold what an observer before this one had counted.
            age: seconds since it was asked for, by wall clocks that may disagree.
            going: whether the time since the last look counts.
        """
        now = self._clock()
        seen = self._runs.get(run)
        if seen is None:
            counted = float(flags[SPENT]) if SPENT in flags else min(max(age, 0.0), self._gap)
            self._runs[run] = _Seen(counted, now)
            return counted
        seen.spent += now - seen.looked if going else 0.0
        seen.looked = now
        return seen.spent

    def cancelled(self, run: str) -> float:
        """Seconds since this observer first saw that the run is cancelled."""
        seen, now = self._runs[run], self._clock()
        seen.cancelled = now if seen.cancelled is None else seen.cancelled
        return now - seen.cancelled

    def held(self, run: str, counts: Mapping[str, int]) -> dict[str, float]:
        """Seconds that nodes have been held without another outcome.

        Args:
            run: the run.
            counts: node -> how many outcomes it has, of those that are held now.
        """
        seen, now = self._runs[run], self._clock()
        known = seen.held
        seen.held = {
            node: known[node] if node in known and known[node][0] == count else (count, now)
            for node, count in counts.items()
        }
        return {node: now - since for node, (_, since) in seen.held.items()}
