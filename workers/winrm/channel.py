"""The interface below a session: runs one command line at a time, with three streams, on the node."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from workers.errors import Cancelled, DeadlineExceeded

__all__ = ["OPEN", "TURN", "Channel", "Chunk", "Counters", "Gate", "Limit", "never"]

TURN = 5.0  #: seconds of one wait for output


def never() -> bool:
    """The default for `cancelled`: there is no cancellation."""
    return False


def _nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a logon has to pass, if refusals of its account are limited.

    Attributes:
        admit: called directly before a message by which the account may be refused; may wait, or raise. A second call
            does nothing.
        accepted: called when a node has accepted it.
    """

    admit: Callable[[], None] = _nothing
    accepted: Callable[[], None] = _nothing


OPEN = Gate()  #: every logon passes


class Limit:
    """The end of an exchange with a node: a number of seconds on the monotonic clock, or its cancellation.

    Args:
        node: its name, for messages.
        seconds: from now.
        cancelled: whether the run was cancelled; called during every wait.
    """

    def __init__(self, node: str, seconds: float, cancelled: Callable[[], bool] = never) -> None:
        self._node = node
        self._seconds = seconds
        self._cancelled = cancelled
        self._started = time.monotonic()

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the end; never zero, so that it can bound a wait. `check` ends the exchange."""
        return max(self._seconds - self.passed, 0.001)

    def over(self) -> None:
        """Forgets the caller: the exchange is over, and a connection that is kept open keeps its last limit."""
        self._cancelled = never

    def check(self, grace: float = 0.0) -> None:
        """Ends the exchange at the deadline plus `grace` seconds, or when it is cancelled.

        Raises:
            Cancelled: the run was cancelled.
            DeadlineExceeded: the deadline has passed.
        """
        if self._cancelled():
            raise Cancelled(f"stopped waiting for {self._node}: the run was cancelled")
        if self.passed >= self._seconds + grace:
            raise DeadlineExceeded(
                f"{self._node} did not answer within {self._seconds:g} s",
                remedy="find out what keeps the server busy, then retry",
            )


@dataclass(frozen=True, slots=True)
class Counters:
    """The cost of a session so far.

    Attributes:
        round_trips: HTTP requests, including those of the logon.
        shells: PowerShell processes started.
        bytes_sent, bytes_received: bodies of requests and answers.
    """

    round_trips: int = 0
    shells: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What arrived during one wait; empty if nothing did. `exit_status` is set when the command has ended."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_status: int | None = None


class Channel(Protocol):
    """Runs command lines for a session, one at a time. Errors are those of `workers.errors`.

    Every method with a limit ends by that limit, whatever the node does, and then raises Cancelled or DeadlineExceeded.
    """

    @property
    def counters(self) -> Counters:
        """The cost so far."""

    @property
    def keeps_for(self) -> float:
        """Seconds without any message after which the node ends everything; infinite if it never does."""

    def start(self, command: str, limit: Limit) -> None:
        """Starts a command line.

        Raises:
            Unreachable: no connection; nothing ran.
            LogonRefused: the node refused the credentials.
            NodeError: the node does not accept a command.
        """

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Sends input to the command; `end` closes its stdin.

        Raises:
            SessionLost: the command has ended, or its state is unknown.
        """

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Waits for output, at most `turn` seconds.

        Raises:
            SessionLost: the command has ended, or its state is unknown.
        """

    def stop(self) -> None:
        """Ends the command and all its child processes, within seconds. Never raises."""

    def close(self) -> None:
        """Ends the command and the connection to the node, within seconds. Never raises."""
