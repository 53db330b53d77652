"""The start of the `esync` command: all verbs, and the one place where an error becomes a message and exit status."""

import contextlib
import os
import signal
import sys
import traceback
from importlib.metadata import version
from typing import Annotated, NoReturn

try:  # loading the rest takes half a second; Ctrl-C must work in that time, too
    import typer

    from pipelines.cli import certs, knowledge, local, show, steer, undo
    from pipelines.cli.console import CommandExit, notify, print_error, print_json
    from pipelines.cli.output import end_streams, outlive_readers
    from pipelines.cli.usage import report_usage_error
    from workers.errors import EsyncError
    from workers.host.private import FILE_ERRORS, file_trouble
    from workers.logs import configure
    from workers.settings import load_settings, misspelt
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["app", "main", "run"]

app = typer.Typer(
    help="Set Ektron eSync up on every server of a load-balanced cluster, in parallel, and prove that it is joined.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (*show.VERBS, *steer.VERBS, *undo.VERBS, *knowledge.VERBS, *local.VERBS):
    app.command()(verb)
app.add_typer(certs.certs, name="certs")


def main() -> NoReturn:
    """Entry point of `esync`."""
    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _terminated)
    outlive_readers()
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # while the program was ending
        sys.exit(130)
    finally:
        end_streams()


def run(arguments: list[str]) -> int:
    """Runs one command. Exit status: 0 done, 1 refused or internal error, 64 usage, else by error or verdict."""
    as_json = "--json" in arguments
    try:
        return _status(arguments)
    except EsyncError as error:
        return _refused(error, as_json=as_json)
    except typer.TyperException as error:
        return report_usage_error(error, arguments)
    except Exception as error:  # noqa: BLE001 - the one border: people get a sentence, not a traceback
        return _internal(error, as_json=as_json)


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
    *, show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False
) -> None:
    if show:
        typer.echo(f"esync {version('esync-rollout')}")
        raise CommandExit(0)
    configure("WARNING")
    for name, meant in misspelt().items():
        notify(f"warning: {name} is not a setting and has no effect (did you mean {meant}?)", "yellow")
    load_settings()  # a wrong variable is refused by every command, also by those that do not need it


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _refused(error: EsyncError, *, as_json: bool) -> int:
    print_error(str(error), error.remedy)
    if as_json:
        with contextlib.suppress(OSError):  # a full disk behind stdout may be the very error
            problem = error.problem
            print_json({"error": problem.slug, **problem.model_dump(include={"message", "file", "remedy"})})
    _trace(error)
    return error.exit_code


def _internal(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, OSError) and error.errno in FILE_ERRORS:
        return _refused(file_trouble(error), as_json=as_json)
    print_error(
        f"internal error: {type(error).__name__}", "run the command again with ESYNC_DEBUG=1, and report the output"
    )
    _trace(error)
    return 1


def _trace(error: Exception) -> None:
    if os.environ.get("ESYNC_DEBUG"):
        traceback.print_exception(error)
