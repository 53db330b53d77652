"""Small texts that belong to no run, in the memory of one process."""

import threading
from collections.abc import Callable

from typing_extensions import override

from workers.store.kept import Kept

__all__ = ["MemoryKept", "Shelf"]


class Shelf:
    """The texts that several stores of one process share; those with an end have the time of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: dict[tuple[str, str], str] = {}
        self.lent: dict[tuple[str, str], tuple[str, float]] = {}


class MemoryKept(Kept):
    """The part of the store for small texts.

    Args:
        shelf: where they are.
        clock: monotonic seconds.
    """

    def __init__(self, shelf: Shelf, clock: Callable[[], float]) -> None:
        self._shelf, self._time = shelf, clock

    @override
    def keep(self, kind: str, name: str, text: str) -> None:
        with self._shelf.lock:
            self._shelf.kept.pop((kind, name), None)
            if text:
                self._shelf.kept[kind, name] = text

    @override
    def kept(self, kind: str, name: str) -> str:
        with self._shelf.lock:
            return self._shelf.kept.get((kind, name), "")

    @override
    def all_kept(self, kind: str) -> dict[str, str]:
        with self._shelf.lock:
            return {name: text for (of, name), text in self._shelf.kept.items() if of == kind}

    @override
    def remember(self, kind: str, name: str, text: str, seconds: float, *, replace: bool = False) -> str:
        with self._shelf.lock:
            present = self._present(kind, name)
            if present and not replace:
                return present
            self._shelf.lent[kind, name] = (text, self._time() + seconds)
            return text

    @override
    def remembered(self, kind: str, name: str) -> str:
        with self._shelf.lock:
            return self._present(kind, name)

    @override
    def take(self, kind: str, name: str) -> str:
        with self._shelf.lock:
            present = self._present(kind, name)
            self._shelf.lent.pop((kind, name), None)
            return present

    def _present(self, kind: str, name: str) -> str:
        text, end = self._shelf.lent.get((kind, name), ("", 0.0))
        return text if self._time() < end else ""
