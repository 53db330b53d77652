"""What a node itself knows its writers by: the number of a run there, and our claim of it (docs/agent-protocol.md).

The number is one more than the largest that the node has seen of another run, so no clock has a say in it. Of two runs
that saw the same the one that writes first has the node; the other finds out, looks again, and asks the store whether
it may still take a larger one. The order matters: first the node is looked at, then the store is asked, which answers
only the newest claim of a run that has its cluster. Whoever is overtaken before that asks in vain; whoever is overtaken
afterwards has looked before the other one, and so has no larger number.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from workers.errors import ClusterLocked, NodeError, NodeRefused
from workers.winrm.operations import LARGEST_NUMBER, Guard, Writer

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["FENCE_FILE", "Fence", "freeing"]

FENCE_FILE = "fence"  #: in our folder on a node


def freeing(node: str) -> str:
    """What to do about a node that takes no writer any more."""
    return f"when nothing else works on {node}, free it: esync cleanup --fence {node} CLUSTER"


class Fence:
    """One claim of a run on a node.

    Args:
        store: where the run's number on the node lies.
        run: the run.
        node: the node.
        claim: the number of the claim (`RunStore.claim`).
    """

    def __init__(self, store: "RunStore", run: str, node: str, claim: int) -> None:
        self._store = store
        self._run = run
        self._node = node
        self._claim = claim
        self._number = 0
        self._lost = False

    def looked(self, look: Callable[[], Writer]) -> None:
        """Takes a number by what was seen besides; what cannot be understood is looked at again when it matters."""
        with suppress(NodeError, ClusterLocked):  # a run that only looks does not have the cluster
            self._number = self._above(look())

    def guard(self, file: str, folders: tuple[str, ...], look: Callable[[], Writer]) -> Guard:
        """What a change of the node is held to.

        Args:
            file: the fence file.
            folders: that may be changed.
            look: who was the newest writer there; asked only where the run has no number on the node yet.

        Raises:
            NodeRefused: there is no larger number.
            Conflict: another worker has taken over the node.
            ClusterLocked: the run does not have its cluster, or has it no more.
            NodeError: as `look`.
        """
        if not self._number and not self._lost:
            self._number = self._store.number(self._run, self._node, self._claim)
        if not self._number:
            self._number = self._above(look())
        return Guard(self._number, file, folders, run=self._run, claim=self._claim)

    def lost(self) -> None:
        """The node has seen a newer writer: the next change looks again, and asks whether we are still the one."""
        self._number, self._lost = 0, True

    def _above(self, newest: Writer) -> int:
        seen = newest.number - 1 if newest.run == self._run else newest.number
        if seen >= LARGEST_NUMBER:
            raise NodeRefused(
                f"{self._node}: its fence file holds the largest number there is, so nobody can come after that writer",
                remedy=freeing(self._node),
            )
        return self._store.number(self._run, self._node, self._claim, max(seen, 0))
