"""Options of commands that work on the nodes of a cluster: `--node`, `--prune`."""

from typing import Annotated

import typer

from pipelines.report.layout import name_ranges

__all__ = [
    "AllAtOnce",
    "Failed",
    "NodeNames",
    "NotStarted",
    "Overwrite",
    "Prune",
    "Unreachable",
    "for_nodes",
    "pruning",
]

Failed = Annotated[bool, typer.Option("--failed", help="Nodes that failed.")]
Unreachable = Annotated[bool, typer.Option("--unreachable", help="Nodes that were unreachable.")]
NotStarted = Annotated[bool, typer.Option("--not-started", help="Nodes that the run did not reach.")]
AllAtOnce = Annotated[
    bool,
    typer.Option("--all-at-once", help="Restore all nodes together, not half of a pool at a time: a short outage."),
]
Overwrite = Annotated[bool, typer.Option("--force", help="Overwrite files that were changed after the run.")]
NodeNames = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME", help="Only these nodes; repeatable; patterns such as `P*` are allowed."),
]


Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Also remove keys and certificate files of servers that are neither nodes nor partners, and those in "
        "folders that are not used any more.",
    ),
]


def for_nodes(only: tuple[str, ...]) -> str:
    """The end of a headline: which nodes are selected; empty for all."""
    return f"; only {name_ranges(only)}, the others are only looked at" if only else ""


def pruning(*, prune: bool) -> tuple[str, ...]:
    """The options of a run."""
    from tasks.documents import PRUNE  # noqa: PLC0415 - a check needs none

    return (PRUNE,) if prune else ()
