"""What every verb does first: logs of this process, and the variables of the environment."""

import logging

from pipelines.cli.console import notify
from workers.settings import load_settings, misspelt

__all__ = ["prepare"]


class _FirstLine(logging.Handler):
    """Configures the logs of this process when something is logged: seldom, and that takes a tenth of a second."""

    def emit(self, record: logging.LogRecord) -> None:
        """Configures, which replaces this handler, and hands the record on."""
        from workers.logs import configure  # noqa: PLC0415 - see above

        configure("WARNING")
        logging.getLogger().handle(record)


def prepare() -> None:
    """Prepares the logs, and warns about variables that only look like a setting.

    Raises:
        InputRefused: a variable has an invalid value; every verb refuses it, also one that does not need it.
    """
    logging.getLogger().handlers[:] = [_FirstLine(logging.WARNING)]
    logging.getLogger().setLevel(logging.WARNING)
    for name, meant in misspelt().items():
        notify(f"warning: {name} is not a setting and has no effect (did you mean {meant}?)", "magenta")
    load_settings()
