"""Results of pure functions, kept by the content that they were computed from: many nodes have the same files."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The latest results, up to a number of them and a size. Safe for threads; two may compute the same at a time.

    Args:
        entries: how many results.
        size: of all of them together, in the unit in which `of` gets it.
    """

    def __init__(self, entries: int, size: int) -> None:
        self._entries = entries
        self._size = size
        self._held = 0
        self._results: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, key: K, make: Callable[[], V], size: int = 0) -> V:
        """The result for a key: computed where it is not kept. An exception is not kept.

        Args:
            key: everything that the result depends on.
            make: computes it. The result must not be changed later.
            size: of the result, for the limit.
        """
        with self._guard:
            found = self._results.get(key)
            if found is not None:
                self._results.move_to_end(key)
                return found[0]
        made = make()
        with self._guard:
            before = self._results.pop(key, None)
            self._held += size - (before[1] if before else 0)
            self._results[key] = (made, size)
            while len(self._results) > self._entries or self._held > self._size:
                self._held -= self._results.popitem(last=False)[1][1]
        return made
