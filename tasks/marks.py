"""Our marks on servers that were taken out of their balancer: who did it, and which run. Evidence, not memory.

The balancer knows that a server is out; only a mark tells whether esync took it out, or an operator did. A mark is kept
before the balancer is asked and removed after it has the server back. So a death at any moment leaves a mark at most,
and a server without one is never put back by esync.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field, ValidationError

from workers.records import Record, now
from workers.store.kept import DRAINED

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["Balancing", "Mark", "Marks", "place_of", "read_marks"]

_TURN = 3.0  #: seconds after which the turn of a dead worker lapses
_POLL = 0.05  #: seconds between two attempts to get the turn of a pool


class Mark(Record):
    """A server that a run has taken out of its balancer, or was about to.

    Attributes:
        listened: whether its service listened before.
    """

    run: str
    node: str
    pool: str
    listened: bool = False
    at: AwareDatetime = Field(default_factory=now)

    def __str__(self) -> str:
        return f"run {self.run} took {self.node} out of the balancer at {self.at:%Y-%m-%d %H:%M:%S} UTC"


def place_of(cluster: str, server: str) -> str:
    """Where the mark of a server is kept: servers may be part of several clusters, each with its own balancer.

    Args:
        cluster: its name.
        server: `Cluster.server`.
    """
    return f"{cluster} {server}"


def read_marks(texts: Mapping[str, str]) -> dict[str, Mark]:
    """Place -> mark; what cannot be read was written by another version, and is left out."""
    marks: dict[str, Mark] = {}
    for place, text in texts.items():
        with suppress(ValidationError):
            marks[place] = Mark.model_validate_json(text)
    return marks


class Marks:
    """The marks of all servers, for one worker process.

    Args:
        store: keeps them.
        holder: a unique name of this process.
    """

    def __init__(self, store: "RunStore", holder: str) -> None:
        self._store = store
        self._holder = holder

    def all(self) -> dict[str, Mark]:
        """Place -> mark."""
        return read_marks(self._store.all_kept(DRAINED))

    def keep(self, place: str, mark: Mark) -> None:
        """Keeps a mark in place of an earlier one."""
        self._store.keep(DRAINED, place, mark.to_json())

    def remove(self, place: str) -> None:
        """Removes the mark of a server."""
        self._store.keep(DRAINED, place, "")

    @contextmanager
    def turn(self, pool: str, node: str) -> Iterator[bool]:
        """One node at a time decides whether a server of its pool may be taken out.

        Args:
            pool: a name of the pool that no other cluster has.
            node: whose turn.

        Yields:
            Whether it is the node's turn.
        """
        name, holder, until = f"drain:{pool}", f"{self._holder}/{node}", time.monotonic() + 2 * _TURN
        while not (granted := self._store.elect(name, holder, _TURN)) and time.monotonic() < until:
            time.sleep(_POLL)
        try:
            yield granted
        finally:
            if granted:
                self._store.elect(name, holder, 0.0)


@dataclass(frozen=True, slots=True)
class Balancing:
    """What a step may use to operate a balancer.

    Attributes:
        marks: of the servers that are out.
        program: the path of a program that this worker may run.
    """

    marks: Marks
    program: Callable[[str], str]
