"""Holds (leases, locks on servers, leadership) that lapse by the observer's own clock.

A hold is one text in the store: a random word, the milliseconds after which it lapses without a renewal, and the
holder. Each renewal writes a new word. No time is stored: every process remembers when it first saw the present word,
on its own monotonic clock, and takes the hold as lapsed when it has seen it unchanged for that time. So no clock of any
machine must be right, and setting a clock has no effect. A hold of a process of this machine that has ended has lapsed
at once.
"""

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from workers.host.holders import has_ended

__all__ = ["Observer", "hold", "holder_of", "next_number"]

_HOLD = re.compile(r"([0-9a-f]{16}) ([0-9]{1,9}) (.*)", re.DOTALL)
REMEMBERED = 20_000  #: holds that one process observes: the leases of some runs with thousands of nodes


def hold(holder: str, ttl: float) -> str:
    """The text of a new or renewed hold; `ttl` in seconds."""
    return f"{secrets.token_hex(8)} {max(1, round(ttl * 1000))} {holder}"


def holder_of(text: str) -> str | None:
    """The holder; None when the text is not a hold."""
    match = _HOLD.fullmatch(text)
    return match[3] if match else None


def next_number(given: int, owner: str, run_id: str, seen: int | None) -> int:
    """The number of a run on a node (`RunStore.number`); 0 when it has none and `seen` is not known yet.

    Args:
        given: the last number given for the node, 0 for none.
        owner: the run that got it.
        run_id: the run that asks.
        seen: the largest number that the node has seen of any other run, or None.
    """
    if owner == run_id and (seen is None or given > seen):
        return given
    return 0 if seen is None else max(seen, given) + 1


class Observer:
    """Measures for how long this process has seen values unchanged.

    Args:
        clock: seconds that only go forwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def unchanged(self, name: str, value: str) -> float:
        """Seconds for which this name was seen with this value: 0 at the first look."""
        time = self._clock()
        with self._lock:
            before, since = self._seen.get(name, ("", time))
            since = since if before == value else time
            self._seen[name] = (value, since)
            self._seen.move_to_end(name)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return time - since

    def lapsed(self, name: str, text: str) -> bool:
        """Whether the hold of that name was seen unchanged for its duration, or its holder has ended here.

        A text that is not a hold has lapsed.
        """
        match = _HOLD.fullmatch(text)
        return match is None or self.unchanged(name, text) >= int(match[2]) / 1000 or has_ended(match[3])

    def forget(self) -> None:
        """Starts all measurements again: after an interruption, a hold may have been renewed meanwhile."""
        with self._lock:
            self._seen.clear()
