"""What all commands share: arguments, output for people and programs, consent, and how they exit."""

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from pipelines.cli.exits import CommandExit
from pipelines.report.layout import TEXT_WIDTH, folded, printable
from pipelines.usecases.origin import KEY, LONGEST_REASON
from tasks.ektron.wording import counted
from workers.errors import InputRefused

if TYPE_CHECKING:  # loaded by those that use them: each takes as long as the rest of a command that prints one line
    from rich.console import Console

    from tasks.cluster import Cluster

__all__ = [
    "AsJson",
    "ClusterFile",
    "CommandExit",
    "Key",
    "Reason",
    "RunId",
    "RunIds",
    "RunOrGroup",
    "Verbose",
    "Yes",
    "can_ask",
    "confirm",
    "describe",
    "notify",
    "print_error",
    "print_json",
    "print_last",
    "print_lines",
    "print_text",
    "require_consent",
    "stderr_console",
    "stdout_console",
    "stdout_width",
    "terminal_width",
    "text_width",
]

ClusterFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The cluster file (YAML).", show_default=False, readable=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation. Required without a terminal.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, a cluster or its file, or `last`.")]
RunOrGroup = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The id of a run, a cluster or its file, the group of runs requested together, or `last`."
    ),
]
RunIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Runs: ids, clusters or their files, folders of files, the group of runs that were requested together, or "
        "`last`.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")]


def _reason(text: str) -> str:
    if len(text) > LONGEST_REASON:
        raise typer.BadParameter(f"it has {len(text):,} characters; allowed: at most {LONGEST_REASON}")
    return text


def _key(text: str) -> str:
    if not re.fullmatch(KEY, text):
        raise typer.BadParameter("allowed: at most 200 letters, digits and signs of ASCII")
    return text


Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="The reason, kept with the run.", callback=_reason)
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show every finding, cause and step in full."),
]
Key = Annotated[
    str,
    typer.Option("--key", metavar="TEXT", help="Idempotency key: the same key twice is one run.", callback=_key),
]

_NARROW = 40  #: columns; in a narrower terminal the rest of a long line is not indented further


def stderr_console() -> "Console":
    """Created when needed: stderr may have been replaced since this module was imported."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, highlight=False)


def stdout_console() -> "Console":
    """For texts that are the result of a command."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(highlight=False)


def print_text(console: "Console", text: str, style: str = "") -> None:
    """Prints one or several lines. Never as markup: the text of a node must not be able to style our output."""
    from rich.text import Text  # noqa: PLC0415 - see above

    for line in text.splitlines():
        for part in _fitted(printable(line), terminal_width(console)):
            console.print(Text(part, style=style), soft_wrap=True)


def print_last(console: "Console", text: str) -> None:
    """Prints what a command that ends early has to say; nowhere, if that is because its terminal was closed."""
    with contextlib.suppress(OSError):
        print_text(console, text, "magenta")


def terminal_width(console: "Console") -> int:
    """Columns of the terminal; 0 if it is none: what is written to a file has whole lines."""
    return console.width if console.is_terminal else 0


def stdout_width() -> int:
    """The same of stdout, without the library that draws: a list of runs needs nothing else of it."""
    return shutil.get_terminal_size().columns if _is_terminal(sys.stdout) else 0


def text_width() -> int:
    """Columns of a text on stdout: those of the terminal, but at most those of a text that is written to a file."""
    return min(stdout_width() or TEXT_WIDTH, TEXT_WIDTH)


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines to stdout, without the library that draws; on a terminal a long one is broken between words."""
    width = stdout_width()
    for line in lines:
        for part in _fitted(printable(line), width):
            typer.echo(part)


def notify(text: str, style: str = "") -> None:
    """Prints lines for people, on stderr."""
    print_text(stderr_console(), text, style)


def _fitted(line: str, width: int) -> list[str]:
    """On a terminal a long line is broken between words and indented from there on; elsewhere it stays whole."""
    if not width or len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    deeper = indent + "  " if width > _NARROW else indent
    return folded(line.lstrip(), width, indent, deeper) or [line]


def print_json(value: object) -> None:
    """Prints JSON to stdout, in ASCII: no character of it can control a terminal."""
    typer.echo(json.dumps(value, indent=2))


def print_error(message: str, remedy: str) -> None:
    """What happened, where, and the fix: one block on stderr."""
    notify(f"error: {message}", "bold red")
    if remedy:
        notify(f"  Fix: {remedy}")


def confirm(*, yes: bool, what: str = "changes servers") -> None:
    """Asks whether to continue. Any answer but yes ends the command.

    Args:
        yes: the answer, given in advance.
        what: what the command does.

    Raises:
        InputRefused: there is no terminal to ask on.
    """
    require_consent(yes=yes, what=what)
    try:
        agreed = yes or typer.confirm("Continue?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of input
        agreed = False
    if not agreed:
        notify("nothing was changed")
        raise CommandExit(130)


def require_consent(*, yes: bool, what: str = "changes servers") -> None:
    """For commands that change something, before they start anything: requires `--yes`, or a terminal to ask on.

    Raises:
        InputRefused: there is neither.
    """
    if not yes and not can_ask():
        raise InputRefused(
            f"this command {what}, and there is no terminal to ask for confirmation; nothing was changed",
            remedy="confirm in advance with the option -y (--yes)",
        )


def can_ask() -> bool:
    """Whether a person can read a question and answer it."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a person can answer. A stream that was closed before the program started is None."""
    return stream is not None and not stream.closed and stream.isatty()


def describe(cluster: "Cluster") -> str:
    """A cluster in one line."""
    pools: dict[str, int] = {}
    for node in cluster.nodes:
        pools[node.pool] = pools.get(node.pool, 0) + 1
    listed = ", ".join(f"{count} in {pool}" for pool, count in pools.items())
    count = counted(len(cluster.nodes), "node")
    return f"{cluster.name} (edition {cluster.edition}, origin {cluster.origin}), {count}: {listed}"
