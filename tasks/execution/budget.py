"""The time of one step: one clock over all its attempts, asks and waits, and a session that keeps to it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from workers.errors import Cancelled, DeadlineExceeded
from workers.winrm.channel import never

if TYPE_CHECKING:
    from workers.winrm.channel import Counters
    from workers.winrm.operations import Guard, Hello, Op, Reply
    from workers.winrm.session import Session, Way

__all__ = ["Budget", "BudgetedSession"]

_LOOK = 0.25  #: seconds between two looks of a wait whether it is cancelled


class Budget:
    """The clock of one step of one node; it begins when this is made.

    Args:
        node: its name, for messages.
        seconds: for everything together.
        cancelled: whether an operator asked to stop.
    """

    def __init__(self, node: str, seconds: float, cancelled: Callable[[], bool]) -> None:
        self._node = node
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self.cancelled = cancelled

    @property
    def left(self) -> float:
        """Seconds; not below 0."""
        return max(0.0, self._until - time.monotonic())

    def check(self) -> None:
        """Raises DeadlineExceeded when the time is up."""
        if not self.left:
            raise DeadlineExceeded(
                f"{self._node}: the step took longer than its deadline of {self._seconds:g} s",
                remedy="see what the server is busy with; policy.deadlines.step bounds a step with all its tries",
            )

    def sleep(self, seconds: float) -> None:
        """Waits, no longer than there is time.

        Raises:
            Cancelled: an operator asked to stop.
        """
        until = time.monotonic() + min(seconds, self.left)
        while (rest := until - time.monotonic()) > 0:
            if self.cancelled():
                raise Cancelled(f"{self._node}: not tried again, the run was cancelled")
            time.sleep(min(rest, _LOOK))


class BudgetedSession:
    """A session as one step has it: nothing it asks outlasts the step.

    Args:
        session: the conversation.
        budget: of the step.
        touched: whether the step has begun to change the node. Until then every wait is left when the run is
            cancelled; from then on only those the step itself allows to be left.
        overtaken: whether somebody else has ended this step meanwhile; then it changes nothing any more.
    """

    def __init__(
        self, session: "Session", budget: Budget, *, touched: Callable[[], bool], overtaken: Callable[[], bool]
    ) -> None:
        self._session = session
        self._budget = budget
        self._touched = touched
        self._overtaken = overtaken

    @property
    def counters(self) -> "Counters":
        """What the session has cost so far."""
        return self._session.counters

    @property
    def fresh(self) -> bool:
        """Whether this is its first use since it was opened."""
        return self._session.fresh

    @property
    def way(self) -> "Way":
        """How it talks."""
        return self._session.way

    @property
    def greeting(self) -> "Hello | None":
        """What the node has said of itself so far."""
        return self._session.greeting

    def ask(
        self,
        ops: "Sequence[Op]",
        *,
        deadline: float,
        keep_going: bool = False,
        guard: "Guard | None" = None,
        cancelled: Callable[[], bool] = never,
    ) -> "list[Reply]":
        """As `Session.ask`, within what is left of the step's time.

        Raises:
            Cancelled: besides, when a change is asked for in a step that somebody else has ended.
        """
        self._budget.check()
        if guard is not None and self._overtaken():
            raise Cancelled("nothing more is changed: this step was ended by others, it took too long")
        return self._session.ask(
            ops,
            deadline=min(deadline, self._budget.left),
            keep_going=keep_going,
            guard=guard,
            cancelled=lambda: cancelled() or (not self._touched() and self._budget.cancelled()),
        )

    def hello(self) -> "Hello":
        """What the node says of itself."""
        if self._session.greeting is None:
            self.ask([], deadline=self._budget.left)
        return self._session.hello()

    def close(self) -> None:
        """Ends the conversation."""
        self._session.close()
