"""Small texts that belong to no run. They stay when runs are forgotten.

Who may ask for what, and what has been asked; what persons have confirmed about a cluster; which servers are out of
their balancer, and by whom.

A *kind* names what the texts are, a *name* identifies one of them. Texts without an end are listed; texts with an end
vanish by themselves, on the clock of the server.
"""

from typing import Protocol

__all__ = ["DRAINED", "Kept", "attested"]

DRAINED = "drained"  #: the kind of the marks of servers that runs have taken out of their balancers, by server


def attested(cluster: str) -> str:
    """The kind of what persons have confirmed about a cluster (`RunRecord.scope`), by rule."""
    return f"attested {cluster}"


class Kept(Protocol):
    """Small texts by kind and name. What this installation did not write is as if it were not there."""

    def keep(self, kind: str, name: str, text: str) -> None:
        """Keeps a text without an end, in place of an earlier one; an empty text removes it."""

    def kept(self, kind: str, name: str) -> str:
        """A text without an end; empty if there is none."""

    def all_kept(self, kind: str) -> dict[str, str]:
        """All texts of a kind without an end, by name."""

    def remember(self, kind: str, name: str, text: str, seconds: float, *, replace: bool = False) -> str:
        """Keeps a text for some time, unless there is one of that name; all at once.

        Args:
            kind: of the text.
            name: of the text.
            text: not empty.
            seconds: more than 0.
            replace: whether it takes the place of an earlier one.

        Returns:
            The text that is kept now: this one, or the earlier one.
        """

    def remembered(self, kind: str, name: str) -> str:
        """A text that is kept for some time; empty if there is none, or its time has ended."""

    def take(self, kind: str, name: str) -> str:
        """Removes a text that is kept for some time and returns it, to one caller only; empty if there is none."""
