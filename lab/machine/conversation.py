"""What a WinRM client said to a node, and what its programs answered: to be recorded, and to be said again.

A replay sends the recorded messages anew, and each program answers with the recorded bytes as soon as it has read as
much input as it had read then. So another client can be compared on the same round trips and bytes.
"""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Conversation", "Mode", "Program"]

Mode = Literal["off", "record", "play"]


@dataclass(slots=True)
class Program:
    """One start of a program.

    Attributes:
        output: bytes of input read before, stream, what it wrote.
        status: its exit status; None if it was ended.
    """

    output: list[tuple[int, str, bytes]] = field(default_factory=list)
    status: int | None = None


@dataclass(slots=True)
class Conversation:
    """The conversation of one node.

    Attributes:
        messages: of the client, in order, as JSON.
        programs: in the order of their starts.
    """

    mode: Mode = "off"
    messages: list[dict[str, object]] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    _next: int = 0

    def begin(self, mode: Mode) -> None:
        """Starts to record anew, starts the replay from the beginning, or ends both."""
        self.mode = mode
        self._next = 0
        if mode == "record":
            self.messages, self.programs = [], []

    def note(self, message: dict[str, object]) -> None:
        """Records a message of the client."""
        if self.mode == "record":
            self.messages.append(message)

    def next_program(self) -> Program | None:
        """The program to record now, or the next one to replay; None if there is neither."""
        if self.mode == "record":
            self.programs.append(Program())
            return self.programs[-1]
        self._next += 1
        return self.programs[self._next - 1] if self._next <= len(self.programs) else None
