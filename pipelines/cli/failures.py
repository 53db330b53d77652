"""The one place where an error becomes a message and an exit status."""

import contextlib
import os
import traceback
from collections.abc import Sequence

import typer

from pipelines.cli.console import print_error, print_json
from pipelines.cli.usage import report_usage_error
from workers.errors import EsyncError, FileTrouble
from workers.host.private import FILE_ERRORS, file_trouble
from workers.settings import load_settings

__all__ = ["report"]


def report(error: Exception, arguments: Sequence[str]) -> int:
    """Prints an error that ended a command; with `--json` among the arguments also as JSON. Returns the exit status."""
    as_json = "--json" in arguments
    if isinstance(error, EsyncError):
        return _refused(error, as_json=as_json)
    if isinstance(error, typer.TyperException):
        return report_usage_error(error, arguments)
    return _internal(error, as_json=as_json)


def _refused(error: EsyncError, *, as_json: bool) -> int:
    if isinstance(error, FileTrouble):
        _name_the_setting(error)
    print_error(str(error), error.remedy)
    if as_json:
        with contextlib.suppress(OSError):  # a full disk behind stdout may be the very error
            problem = error.problem
            print_json({"error": problem.slug, **problem.model_dump(include={"message", "file", "remedy"})})
    _trace(error)
    return error.exit_code


def _name_the_setting(error: FileTrouble) -> None:
    from pipelines.local.state import in_words_of  # noqa: PLC0415 - most errors are not about files

    with contextlib.suppress(EsyncError):  # a setting that is invalid
        in_words_of(load_settings().state, error)


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
