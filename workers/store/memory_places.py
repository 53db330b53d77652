"""Which nodes of a run are in work, and which wait until another one is no more: for the store in memory."""

from collections.abc import Collection
from dataclasses import dataclass, field

from workers.store.port import Beginning, Finishing

__all__ = ["Places"]


@dataclass
class Places:
    """The places of one run.

    Attributes:
        between: node -> the turn in which it is between two of its steps.
        waiting: turn and node, in the order they asked.
    """

    between: dict[str, str] = field(default_factory=dict)
    waiting: dict[tuple[str, str], None] = field(default_factory=dict)

    def admits(self, beginning: Beginning, leased: Collection[str]) -> bool:
        """Whether a step may begin while these nodes are leased; if not, its node is remembered as one that waits."""
        in_work = {*leased, *(node for node, turn in self.between.items() if turn == beginning.turn)}
        waits = beginning.limit and not beginning.earlier and beginning.node not in in_work
        if waits and len(in_work) >= beginning.limit:
            self.waiting.setdefault((beginning.turn, beginning.node))
            return False
        self.waiting.pop((beginning.turn, beginning.node), None)
        return True

    def ended(self, finishing: Finishing, *, released: bool, kept: bool) -> str:
        """Keeps or frees the place of a node.

        Args:
            finishing: what ended.
            released: whether the lease of its holder ended with it.
            kept: whether its outcome is the first one.

        Returns:
            The node that may begin in its place; empty for none.
        """
        node, turn = finishing.outcome.node, finishing.outcome.turn
        if released and kept and finishing.more:
            self.between[node] = turn
            return ""
        if released or (kept and not finishing.more):
            self.between.pop(node, None)
        following = next((one for one in self.waiting if one[0] == turn), ("", "")) if released else ("", "")
        self.waiting.pop(following, None)
        return following[1]
