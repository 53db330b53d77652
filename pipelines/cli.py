"""The `esync` command: thin. stdout is data, stderr is for people, the exit status follows from the verdict."""

import contextlib
import json
import os
import signal
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from pipelines.marks import TONES, UNDER_WAY, printable
from workers.errors import EsyncError
from workers.records import RunRecord
from workers.settings import load_settings

__all__ = ["app", "main"]

app = typer.Typer(
    help="Set Ektron eSync up on every server of a load-balanced cluster, in parallel, and prove that it is joined.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
people = Console(stderr=True, highlight=False)

ClusterFile = Annotated[Path, typer.Argument(help="The cluster file (YAML).", show_default=False)]
Run = Annotated[str, typer.Argument(help="A run's id, or `last`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Key = Annotated[str, typer.Option("--key", help="Idempotency key: the same key twice is one run.")]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", help="Write the report (HTML and JSON) into this folder.")
]


class Ended(Exception):
    """A command is over, with this exit status. Not an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def main() -> NoReturn:
    """Entry point of `esync`."""
    signal.signal(signal.SIGTERM, _terminated)
    with contextlib.suppress(AttributeError):  # no such signal on Windows
        signal.signal(signal.SIGHUP, _terminated)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """One command; its exit status: 0 done, 1 usage or internal error, the rest by verdict (design: 0 to 7, 130)."""
    try:
        app(arguments, prog_name="esync")
    except Ended as ended:
        return ended.status
    except EsyncError as error:
        return _refused(error, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our stdout has left; what is still buffered must not be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stopped:
        # Typer's own: help ends with 0, a usage error with 2, which here would mean failed nodes.
        return 1 if stopped.code == 2 else int(stopped.code or 0)  # noqa: PLR2004 - click's usage error
    except Exception as error:  # noqa: BLE001 - the one border: people see a sentence, not a traceback
        return _broken(error)
    return 0


@app.callback(invoke_without_command=True)
def _every(
    *, show: Annotated[bool, typer.Option("--version", help="Show the version and end.", is_eager=True)] = False
) -> None:
    if show:
        typer.echo(f"esync {version('esync-rollout')}")
        raise Ended(0)


@app.command()
def check(file: ClusterFile, *, as_json: AsJson = False) -> None:
    """Read and validate a cluster file. Contacts nobody."""
    from pipelines import commands_of_cli as use  # noqa: PLC0415

    raise Ended(use.check(file, as_json=as_json))
