"""Who holds something, without any clock but the observer's own.

A lease, a cluster's lock and a leadership lie in the store as one text: a random word, how many milliseconds the hold
outlives its last renewal, and the holder. Each renewal writes a new word. No time is stored: every process remembers
when it first saw the present word, on its own monotonic clock, and takes the hold for lapsed when it has seen it
unchanged for that long. So no clock of any machine has to be right, and none may be set back or forth to any effect.
"""

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

__all__ = ["Watch", "hold", "holder_of", "next_number"]

_HOLD = re.compile(r"([0-9a-f]{16}) ([0-9]{1,9}) (.*)", re.DOTALL)
REMEMBERED = 20_000  #: what one process watches at a time: the leases of some runs of thousands of nodes


def hold(holder: str, ttl: float) -> str:
    """The text of a hold that was just taken or renewed; `ttl` in seconds."""
    return f"{secrets.token_hex(8)} {max(1, round(ttl * 1000))} {holder}"


def holder_of(text: str) -> str | None:
    """Who holds it; None for what is no hold."""
    match = _HOLD.fullmatch(text)
    return match[3] if match else None


def next_number(given: int, whose: str, run_id: str, seen: int | None) -> int:
    """The number of a run on a node (`RunStore.number`); 0 when it has none and none can be told yet.

    Args:
        given: the last number that was given out for the node, 0 for none.
        whose: the run that it was given to.
        run_id: who asks.
        seen: the largest number that the node has seen of any other run, or None.
    """
    if whose == run_id and (seen is None or given > seen):
        return given
    return 0 if seen is None else max(seen, given) + 1


class Watch:
    """How long this process has seen things unchanged.

    Args:
        clock: seconds that only go forwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def unchanged(self, name: str, value: str) -> float:
        """Seconds for which what bears that name has been seen with that value: 0 at the first look."""
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
        """Whether the hold of that name has been seen unchanged for as long as it lasts; what is no hold has."""
        match = _HOLD.fullmatch(text)
        return match is None or self.unchanged(name, text) >= int(match[2]) / 1000

    def forget(self) -> None:
        """Begins all over: what could not be looked at for a while may have been renewed meanwhile."""
        with self._lock:
            self._seen.clear()
