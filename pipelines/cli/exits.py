"""How a command ends without an error."""

__all__ = ["INTERRUPTED", "USAGE", "CommandExit"]

USAGE = 64  #: exit status of a usage error, EX_USAGE of sysexits.h
#: How a command is asked to end: by Ctrl-C; by a signal of another program, or because its terminal is closed.
INTERRUPTED = (KeyboardInterrupt, SystemExit)


class CommandExit(Exception):
    """Ends a command with this exit status. Not an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
