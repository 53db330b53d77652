"""How long things have lasted, measured by one observer: no clock of another machine is used.

The elected reconciler checks every active run every few seconds and measures on its own monotonic clock. Only the
seconds that a run has lasted are kept in the store, as a flag (a flag does not count as progress), so that the next
observer continues from there.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

__all__ = ["SPENT", "Stopwatch"]

SPENT = "spent"  #: the flag that holds the seconds a run has lasted so far


@dataclass
class _Seen:
    """What this observer knows about one run; times are those of its clock, in seconds."""

    spent: float  #: seconds that the run has lasted
    checked: float  #: when it was last checked
    cancelled: float | None = None  #: when it was first seen cancelled
    turn: str = ""  #: before which it waits
    waited: float = 0.0  #: seconds that it has waited there
    looked: float = 0.0  #: when that was last counted
    held: dict[str, tuple[int, float]] = field(default_factory=dict)  #: leased node -> its outcomes, and since when
    orphans: dict[str, tuple[int, float]] = field(
        default_factory=dict
    )  #: node without a worker -> outcomes, until when


class Stopwatch:
    """The measurements of one observer.

    Args:
        gap: seconds between two checks; a run that is seen for the first time counts as no older than this.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, gap: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = gap
        self._clock = clock
        self._runs: dict[str, _Seen] = {}
        self.due = gap  #: seconds until the next check
        self.died = False  #: whether a worker was found dead in this round, whatever it worked on

    def within(self, seconds: float) -> None:
        """Requests the next check within that time."""
        self.due = min(self.due, max(0.05, seconds))

    def only(self, runs: Collection[str], *, died: bool = False) -> None:
        """Begins a round of checks of these runs; forgets all others, which have ended or have another observer.

        Args:
            runs: their ids.
            died: whether a worker was found dead since the last round.
        """
        self.due, self.died = self._gap, died
        self._runs = {run: seen for run, seen in self._runs.items() if run in runs}

    def spent(self, run: str, counted: Callable[[], str], age: float, *, going: bool) -> float:
        """Seconds the run has lasted since it was requested, without the time it was paused or held.

        Args:
            run: its id.
            counted: the seconds that earlier observers counted (the flag `SPENT`), or empty; read only once per run.
            age: seconds since it was requested, by wall clocks that may disagree.
            going: whether the time since the last check counts.
        """
        now = self._clock()
        seen = self._runs.get(run)
        if seen is None:
            before = counted()
            seen = self._runs[run] = _Seen(float(before) if before else min(max(age, 0.0), self._gap), now)
        seen.spent += now - seen.checked if going else 0.0
        seen.checked = now
        return seen.spent

    def waited(self, run: str, turn: str, counted: Callable[[], str], *, going: bool) -> float:
        """Seconds the run has waited before a turn.

        Args:
            run: its id.
            turn: the turn.
            counted: the seconds that earlier observers counted (the flag `waited` of the turn), or empty.
            going: whether the time since the last check counts.
        """
        seen, now = self._runs[run], self._clock()
        if seen.turn != turn:
            seen.turn, seen.waited, seen.looked = turn, float(counted() or 0), now
        seen.waited += now - seen.looked if going else 0.0
        seen.looked = now
        return seen.waited

    def cancelled(self, run: str) -> float:
        """Seconds since this observer first saw that the run is cancelled."""
        seen, now = self._runs[run], self._clock()
        seen.cancelled = now if seen.cancelled is None else seen.cancelled
        return now - seen.cancelled

    def held(self, run: str, counts: Mapping[str, int]) -> dict[str, float]:
        """Seconds that nodes have been leased without a new outcome.

        Args:
            run: its id.
            counts: node -> the number of its outcomes, for the nodes that are leased now.
        """
        seen, now = self._runs[run], self._clock()
        known = seen.held
        seen.held = {
            node: known[node] if node in known and known[node][0] == count else (count, now)
            for node, count in counts.items()
        }
        return {node: now - since for node, (_, since) in seen.held.items()}

    def orphans(self, run: str, waiting: Mapping[str, int], patience: float, *, died: bool) -> Collection[str]:
        """Nodes that no worker has worked on since one died, `patience` seconds before. Each is named once a death.

        The worker may have had their messages: between two steps, or waiting for its turn.

        Args:
            run: its id.
            waiting: node -> the number of its outcomes, for the unfinished nodes that are not leased now.
            patience: seconds; counts when a worker was found dead.
            died: whether one was found dead just now.
        """
        seen, now = self._runs[run], self._clock()
        known = {node: one for node, one in seen.orphans.items() if waiting.get(node) == one[0]}
        if died:
            known = {node: (count, now + patience) for node, count in waiting.items()} | known
        named = [node for node, (_, until) in known.items() if until <= now]
        seen.orphans = {node: one for node, one in known.items() if node not in named}
        for _, until in seen.orphans.values():
            self.within(until - now)
        return named
