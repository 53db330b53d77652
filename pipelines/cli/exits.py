"""How a command ends without an error."""

__all__ = ["USAGE", "CommandExit"]

USAGE = 64  #: exit status of a usage error, EX_USAGE of sysexits.h


class CommandExit(Exception):
    """Ends a command with this exit status. Not an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
