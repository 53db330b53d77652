"""Values that a process remembers, so that it does not read or parse them again: the ones used last, up to a weight."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Remembered"]

V = TypeVar("V")


class Remembered(Generic[V]):
    """Values by name, for all threads of a process.

    Args:
        most: weight of all values together; those that were not used for the longest time are forgotten first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: Hashable) -> V | None:
        """The value of that name; None when it is not known, or forgotten."""
        with self._lock:
            known = self._values.get(name)
            if known is None:
                return None
            self._values.move_to_end(name)
            return known[0]

    def put(self, name: Hashable, value: V, weight: int = 1) -> V:
        """Remembers a value in place of the one before, and returns it; one that is too heavy is not remembered."""
        with self._lock:
            self._drop(name)
            if weight <= self._most:
                self._values[name] = (value, weight)
                self._weight += weight
            while self._weight > self._most:
                self._drop(next(iter(self._values)))
        return value

    def forget(self, name: Hashable) -> None:
        """Forgets a value, if there is one."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: Hashable) -> None:
        _, weight = self._values.pop(name, (None, 0))
        self._weight -= weight
