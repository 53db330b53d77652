"""Where the `esync` program begins: nothing is imported before Ctrl-C is understood."""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of `esync`. Loading everything takes half a second, in which people press Ctrl-C, too."""
    try:
        from pipelines.cli.main import main as command  # noqa: PLC0415 - the point of this module
    except KeyboardInterrupt:
        sys.exit(130)
    command()
