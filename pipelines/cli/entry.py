"""The start of the `esync` command. What a verb needs is loaded when it is called: most verbs need little."""

import contextlib
import gc
import os
import sys
from typing import Annotated, NoReturn

gc.set_threshold(200_000)  # most of what a command creates while it starts are classes and modules, which stay
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # a look for them reads the metadata of all installed packages

try:  # loading takes a moment; Ctrl-C must work in that time, too
    import typer

    from pipelines.cli.exits import USAGE, CommandExit
    from pipelines.cli.streams import end_streams, outlive_readers
    from pipelines.cli.verbs import VerbGroup
    from workers.host.signals import handle_ending
    from workers.host.unneeded import leave_out
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["app", "main", "run"]

app = typer.Typer(
    cls=VerbGroup,
    help="Set Ektron eSync up on every server of a load-balanced cluster, in parallel, and prove that it is joined.",
    rich_markup_mode=None,  # plain text: the library for frames takes twice as long to load as everything else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Entry point of `esync`."""
    with contextlib.suppress(ValueError):  # not the main thread
        handle_ending(_terminated)
    outlive_readers()
    leave_out(but={"rich"})
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # while the program was ending
        sys.exit(130)
    finally:
        end_streams()
        gc.freeze()  # what is left is not searched for garbage before the memory of the process is given back


def run(arguments: list[str]) -> int:
    """Runs one command. Exit status: 0 done, 1 refused or internal error, 64 usage, else by error or verdict."""
    try:
        return _status(arguments)
    except Exception as error:  # noqa: BLE001 - the one border: people get a sentence, not a traceback
        from pipelines.cli.failures import report  # noqa: PLC0415 - the tree of errors takes longer than `--help`

        return report(error, arguments)


def _status(arguments: list[str]) -> int:
    """Runs one command that raises no error. Without its standalone mode typer returns the status of Ctrl-C."""
    try:
        status = app(arguments, prog_name="esync", standalone_mode=False)
    except CommandExit as ended:
        return ended.status
    except typer.Abort:
        return 130
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 1
    return status if isinstance(status, int) else 0


@app.callback(invoke_without_command=True)
def _every(
    context: typer.Context,
    *,
    show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if show:
        from importlib.metadata import version  # noqa: PLC0415 - reads mail headers: slower than the rest of this

        typer.echo(f"esync {version('esync-rollout')}")
        raise CommandExit(0)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise CommandExit(USAGE)
    from pipelines.cli.preparation import prepare  # noqa: PLC0415 - `--help` needs no settings

    prepare()


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)
