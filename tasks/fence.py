"""How a node tells its writers apart: by the number of the run on that node, and our claim (docs/agent-protocol.md).

The number of a run is one more than the largest number that the node has seen of another run; no clock is involved. If
two runs saw the same number, the one that writes first gets the node; the other one is refused, reads the fence file
again, and asks the store whether it may still take a larger number. The order matters: first the node is read, then
the store is asked, and the store answers only the newest claim of a run that holds its cluster. A writer that is
replaced before the store answers gets no number; one that is replaced afterwards has read the node earlier than its
successor, and so has no larger number.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from workers.errors import ClusterLocked, NodeError, NodeRefused
from workers.winrm.operations import Guard
from workers.winrm.writers import LARGEST_NUMBER, Writer

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["FENCE_FILE", "Fence", "free_node"]

FENCE_FILE = "fence"  #: in our folder on a node


def free_node(node: str) -> str:
    """The remedy for a node that accepts no further writer."""
    return f"when no other run works on {node}, free it: esync cleanup --fence {node} CLUSTER"


class Fence:
    """One claim of a run on a node.

    Args:
        store: holds the run's number on the node.
        run: the run.
        node: the node.
        claim: the number of the claim (`Begun.claim`).
        number: of the run on the node, as far as the store has given it (`Begun.number`).
    """

    def __init__(self, store: "RunStore", run: str, node: str, claim: int, number: int = 0) -> None:
        self._store = store
        self._run = run
        self._node = node
        self._claim = claim
        self._number = number
        self._lost = False

    def observe(self, newest: Callable[[], Writer]) -> None:
        """Gets a number early, from the newest writer that an observation of the node has found.

        An error is ignored here: the node is read again when it is changed.
        """
        with suppress(NodeError, ClusterLocked):  # a run that only reads does not hold the cluster
            writer = newest()
            others = writer.run != self._run and writer.number >= self._number
            if not self._number or others or self._is_forgotten(writer):
                self._number = self._next_number(writer)

    def guard(self, file: str, folders: tuple[str, ...], newest: Callable[[], Writer]) -> Guard:
        """The guard of a change: the node checks it before it makes the change.

        Args:
            file: the fence file.
            folders: that may be changed.
            newest: reads the newest writer from the node; called only when the run has no number on the node yet.

        Raises:
            NodeRefused: there is no larger number, or another run works on this server.
            Conflict: another worker has claimed the node.
            ClusterLocked: the run does not hold its cluster, or no longer.
            NodeError: as `newest`.
        """
        if not self._number and not self._lost:
            self._number = self._store.number(self._run, self._node, self._claim)
        if not self._number:
            self._number = self._next_number(newest())
        return Guard(self._number, file, folders, run=self._run, claim=self._claim)

    def lost(self) -> None:
        """The node has seen a newer writer: the next change reads the node and asks the store again."""
        self._number, self._lost = 0, True

    def has_forgotten(self, newest: Writer) -> bool:
        """Whether the node was changed by this run without the store knowing: it has lost its last moments since."""
        return newest.run == self._run and (not self._number or self._is_forgotten(newest))

    def _next_number(self, newest: Writer) -> int:
        seen = newest.number - 1 if newest.run == self._run and not self._is_forgotten(newest) else newest.number
        if seen >= LARGEST_NUMBER:
            raise NodeRefused(
                f"{self._node}: its fence file holds the largest possible number, so it accepts no further writer",
                remedy=free_node(self._node),
            )
        if newest.run and newest.run != self._run:
            self._refuse_beside(newest.run)
        return self._store.number(self._run, self._node, self._claim, max(seen, 0))

    def _is_forgotten(self, newest: Writer) -> bool:
        """Whether the node knows a later claim of this run than ours, which the store has lost if ours is the newest.

        A broker that was killed, or a replica in its place, may not know the last second. A larger number of the run
        goes before that claim; the store gives none to a claim that is not the newest.
        """
        return newest.run == self._run and newest.claim > self._claim

    def _refuse_beside(self, other: str) -> None:
        """Refuses this run while the other one, which has changed the node, has its servers, and this one has its own.

        Then their cluster files name this server by different addresses.
        """
        self._store.number(self._run, self._node, self._claim)  # raises an error if this run does not have its servers
        if self._store.has_servers(other):
            raise NodeRefused(
                f"{self._node}: run {other} works on this server, which its cluster file names by another address",
                remedy=f"wait for it: esync watch {other}; or stop it: esync cancel {other}",
            )
