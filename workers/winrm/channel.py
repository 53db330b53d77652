"""The seam under a session: something that runs one command line at a time, with three streams, somewhere else."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from workers.errors import Cancelled, DeadlineExceeded

__all__ = ["TURN", "Channel", "Chunk", "Counters", "Limit", "never"]

TURN = 5.0  #: seconds of one wait for output


def never() -> bool:
    """Nobody cancels."""
    return False


class Limit:
    """When an exchange with a node must have ended: after some seconds on our monotonic clock, or once it is cancelled.

    Args:
        node: its name, for messages.
        seconds: from now.
        cancelled: whether somebody asked to stop; looked at during every wait.
    """

    def __init__(self, node: str, seconds: float, cancelled: Callable[[], bool] = never) -> None:
        self._node = node
        self._seconds = seconds
        self._cancelled = cancelled
        self._started = time.monotonic()

    @property
    def passed(self) -> float:
        """Seconds since it was set."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until it ends; never zero, so that it can bound a wait. `check` is what ends the exchange."""
        return max(self._seconds - self.passed, 0.001)

    def check(self, grace: float = 0.0) -> None:
        """Ends the exchange when it is time, or `grace` seconds after that.

        Raises:
            Cancelled: an operator asked to stop.
            DeadlineExceeded: the time is over.
        """
        if self._cancelled():
            raise Cancelled(f"stopped waiting for {self._node}: the run was cancelled")
        if self.passed >= self._seconds + grace:
            raise DeadlineExceeded(
                f"{self._node} did not answer within {self._seconds:g} s",
                remedy="check what keeps the server busy, then retry this run",
            )


@dataclass(frozen=True, slots=True)
class Counters:
    """What a session has cost so far.

    Attributes:
        round_trips: HTTP requests, those of the logon included.
        shells: PowerShell processes started.
        bytes_sent, bytes_received: bodies of requests and answers.
    """

    round_trips: int = 0
    shells: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What arrived in one turn of waiting; all empty when nothing did. `exit_status` is set once the command ended."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_status: int | None = None


class Channel(Protocol):
    """Runs command lines for a session, one at a time. Errors are those of `workers.errors`.

    Every method with a limit ends by it, whatever the other side does, and raises Cancelled or DeadlineExceeded then.
    """

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""

    def start(self, command: str, limit: Limit) -> None:
        """Starts a command line.

        Raises:
            Unreachable: no connection; nothing ran.
            LogonRefused: the node refused the credentials.
            NodeError: the node takes no command.
        """

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Gives the command input; `end` closes its stdin.

        Raises:
            SessionLost: the command is gone, or nobody knows.
        """

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Waits for output, at most `turn` seconds.

        Raises:
            SessionLost: the command is gone, or nobody knows.
        """

    def stop(self) -> None:
        """Ends the command and everything it started, within seconds. Never raises."""

    def close(self) -> None:
        """Ends the command and lets go of the node, within seconds. Never raises."""
