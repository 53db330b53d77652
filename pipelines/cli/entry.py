"""The start of the `esync` program: nothing is imported before Ctrl-C is handled."""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of `esync`. Loading all modules takes half a second; Ctrl-C must work in that time, too."""
    try:
        from pipelines.cli.main import main as command  # noqa: PLC0415 - the purpose of this module
    except KeyboardInterrupt:
        sys.exit(130)
    command()
