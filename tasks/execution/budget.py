"""The time of one step: one clock over all its attempts, requests and waits, and a session that observes it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from workers.errors import Cancelled, DeadlineExceeded
from workers.winrm.channel import never

if TYPE_CHECKING:
    from workers.winrm.channel import Counters
    from workers.winrm.greeting import Hello
    from workers.winrm.operations import Guard, Op, Reply
    from workers.winrm.session import Session, Way

__all__ = ["Budget", "BudgetedSession"]

_POLL = 0.25  #: seconds between two checks whether a wait is cancelled


class Budget:
    """The clock of one step of one node.

    Args:
        node: its name, for messages.
        seconds: for everything together.
        cancelled: whether the run is cancelled.
        since: when the step began, in seconds of the clock.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node: str,
        seconds: float,
        cancelled: Callable[[], bool],
        since: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._seconds = seconds
        self._clock = clock
        self._until = since + seconds
        self.cancelled = cancelled

    @property
    def left(self) -> float:
        """Seconds left; not below 0."""
        return max(0.0, self._until - self._clock())

    def check(self) -> None:
        """Raises DeadlineExceeded when the time is up."""
        if not self.left:
            raise DeadlineExceeded(
                f"{self._node}: the step took longer than its deadline of {self._seconds:g} s",
                remedy="check what keeps the server busy; policy.deadlines.step limits a step with all its attempts",
            )

    def sleep(self, seconds: float) -> None:
        """Waits, but not longer than the time left.

        Raises:
            Cancelled: the run is cancelled.
        """
        until = time.monotonic() + min(seconds, self.left)
        while (rest := until - time.monotonic()) > 0:
            if self.cancelled():
                raise Cancelled(f"{self._node}: not tried again, the run was cancelled")
            time.sleep(min(rest, _POLL))


class BudgetedSession:
    """A session within the time of one step: no request lasts longer than the step.

    Args:
        session: the session with the node.
        budget: of the step.
        touched: whether the step has begun to change the node. Until then a cancel ends every wait; from then on it
            ends only the waits for which the step itself allows that.
        given_up: whether the reconciler has ended this step; then the step changes nothing any more.
    """

    def __init__(
        self, session: "Session", budget: Budget, *, touched: Callable[[], bool], given_up: Callable[[], bool]
    ) -> None:
        self._session = session
        self._budget = budget
        self._touched = touched
        self._given_up = given_up

    @property
    def counters(self) -> "Counters":
        """The cost of the session so far."""
        return self._session.counters

    @property
    def fresh(self) -> bool:
        """Whether this is its first use since it was opened."""
        return self._session.fresh

    @property
    def way(self) -> "Way":
        """How the session talks: `conversation` or `batch`."""
        return self._session.way

    @property
    def greeting(self) -> "Hello | None":
        """What the node has reported about itself so far."""
        return self._session.greeting

    def ask(
        self,
        ops: "Sequence[Op]",
        *,
        deadline: float,
        keep_going: bool = False,
        guard: "Guard | None" = None,
        look: "Sequence[Op]" = (),
        cancelled: Callable[[], bool] = never,
    ) -> "list[Reply]":
        """As `Session.ask`, within the time left for the step.

        Raises:
            Cancelled: also when a change is requested in a step that the reconciler has ended.
        """
        self._budget.check()
        if guard is not None and self._given_up():
            raise Cancelled("nothing more is changed: this step took too long and was ended")
        return self._session.ask(
            ops,
            deadline=min(deadline, self._budget.left),
            keep_going=keep_going,
            guard=guard,
            look=look,
            cancelled=lambda: cancelled() or (not self._touched() and self._budget.cancelled()),
        )

    def hello(self) -> "Hello":
        """What the node reports about itself."""
        if self._session.greeting is None:
            self.ask([], deadline=self._budget.left)
        return self._session.hello()

    def leave(self, name: str, value: object, seconds: float) -> None:
        """As `Session.leave`."""
        self._session.leave(name, value, seconds)

    def found(self, name: str) -> object | None:
        """As `Session.found`."""
        return self._session.found(name)

    def close(self) -> None:
        """Ends the session."""
        self._session.close()
