"""Usage errors: an unknown command or option, a missing argument, a value that an option does not accept."""

import re
from collections.abc import Sequence

import typer
from typer.core import TyperOption

from pipelines.cli.console import print_error, print_json
from pipelines.cli.exits import USAGE

__all__ = ["report_usage_error"]

_NO_OPTION = "No such option"
_BRACES = re.compile(r"\{(\w+)\}")  #: how typer marks a required argument in a usage line
_NEAR = re.compile(r"\.? \(Possible options: (.*)\)|\.? Did you mean:? (.*)\?")
#: Sentences of the libraries, and ours.
_WORDS = (
    (re.compile(r"Value error, |Invalid value: (?=option )"), ""),
    (re.compile(r"Input should be a valid (integer|number), .*"), "must be a number"),
    (re.compile(r"Input should be "), "must be "),
    (re.compile(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.IGNORECASE), r"there is no argument for: \1"),
    (re.compile(r"(option .*) requires an argument", re.IGNORECASE), r"\1 requires a value after it"),
)


def report_usage_error(error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Prints what is wrong, in which command, what is allowed there, and how to go on. Returns the exit status.

    Args:
        error: as typer raised it.
        arguments: of the command line; with `--json` among them the error is also JSON on stdout.
    """
    said = " ".join(error.format_message().split())
    if not said:  # a command without arguments: its help has been printed
        return USAGE
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else " ".join(["esync", *arguments[:1]])
    message, near = _plain(said)
    message = f"{command}: {message}{_range(error)}{near}"
    verbs = [] if near or context is None else list(getattr(context.command, "commands", ()))
    allowed = [_usage(context)] if context else []
    allowed += [f"commands are {', '.join(verbs)}"] if verbs else []
    options = _options(context) if context and said.startswith(_NO_OPTION) else []
    allowed += [f"options are {', '.join(options)}"] if options else []
    remedy = "; ".join([*allowed, f"more: {command} --help"])
    print_error(message, remedy)
    if "--json" in arguments:
        print_json({"error": "usage", "message": message, "file": "", "remedy": remedy})
    return USAGE


def _usage(context: typer.Context) -> str:
    return "write " + _BRACES.sub(r"\1", " ".join(context.get_usage().split())).removeprefix("Usage: ")


def _options(context: typer.Context) -> list[str]:
    return [option.opts[-1] for option in context.command.params if isinstance(option, TyperOption)]


def _plain(said: str) -> tuple[str, str]:
    """A sentence of typer in the form of ours, and what was probably meant (may be empty)."""
    near = _NEAR.search(said)
    said = _NEAR.sub("", said).rstrip(".")
    for theirs, ours in _WORDS:
        said = theirs.sub(ours, said)
    return said[:1].lower() + said[1:], f" (did you mean {(near[1] or near[2]).strip()}?)" if near else ""


def _range(error: typer.TyperException) -> str:
    """The limits of the number that was refused; empty for anything else."""
    parameter = getattr(error, "param", None)
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    return "" if low is None or high is None else f"; allowed: {low} to {high}"
