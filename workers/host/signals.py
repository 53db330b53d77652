"""The signals that ask a command to end. Apart from what ends processes: every command needs them at its start."""

import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["ENDING", "Handler", "handle_ending"]

Handler = Callable[[int, FrameType | None], object]

#: Ctrl-C, the request of another program, and the end of the terminal. Several may come: both the shell and the kernel
#: tell a command that its terminal is closed.
ENDING = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)  # Windows has no SIGHUP


def handle_ending(handler: Handler) -> None:
    """Handles them so, except Ctrl-C, which raises KeyboardInterrupt, and those that are ignored.

    With `nohup` the end of the terminal is ignored: the command outlives it.

    Raises:
        ValueError: this is not the main thread.
    """
    for number in ENDING:
        if number != signal.SIGINT and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
