"""The seam under a session: something that runs one command line at a time, with three streams, somewhere else."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Channel", "Chunk", "Counters", "never"]


def never() -> bool:
    """Nobody cancels."""
    return False


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
    """Runs command lines for a session, one at a time. `within` is seconds; errors are those of `workers.errors`."""

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""

    def start(self, command: str, *, within: float) -> None:
        """Starts a command line.

        Raises:
            Unreachable: no connection; nothing ran.
            LogonRefused: the node refused the credentials.
            NodeError: the node takes no command.
        """

    def send(self, data: bytes, *, end: bool = False, within: float) -> None:
        """Gives the command input; `end` closes its stdin.

        Raises:
            SessionLost: the command is gone, or nobody knows.
        """

    def receive(self, *, within: float) -> Chunk:
        """Waits for output, at most a few seconds and at most `within`.

        Raises:
            SessionLost: the command is gone, or nobody knows.
        """

    def stop(self) -> None:
        """Ends the command and everything it started. Never raises."""

    def close(self) -> None:
        """Ends the command and lets go of the node. Never raises."""
