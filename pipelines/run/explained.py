"""Why a node is not joined, with the run that the answer is made from. Pure."""

from pydantic import AwareDatetime

from tasks.ektron.rules.explain import Answer, Explanation
from tasks.ektron.wording import ago
from workers.records import now

__all__ = ["NodeAnswer"]

_EXIT = {Answer.JOINED: 0, Answer.CAUSE: 5, Answer.ELSEWHERE: 5, Answer.UNKNOWN: 6}


class NodeAnswer(Explanation):
    """The explanation for one node, and its source (`esync explain --json`).

    Attributes:
        run: whose findings explain it.
        kind: of that run.
        ended: when that run ended; it may still last.
        outcome: the result of that run on this node, if it was not a success.
    """

    run: str
    kind: str
    ended: AwareDatetime | None = None
    outcome: str = ""

    @property
    def exit_code(self) -> int:
        """0 joined, 5 not joined, 6 not known."""
        return _EXIT[self.answer]

    @property
    def source(self) -> str:
        """The run, and how long ago it ended."""
        seconds = (now() - (self.ended or now())).total_seconds()
        return f"{self.kind} {self.run}, {ago(seconds)}"
