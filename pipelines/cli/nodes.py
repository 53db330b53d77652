"""The option `--node` of commands that work on some nodes of a cluster."""

from typing import Annotated

import typer

from pipelines.report.layout import name_ranges

__all__ = ["NodeNames", "for_nodes"]

NodeNames = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME", help="Only these nodes; repeatable; patterns such as `P*` are allowed."),
]


def for_nodes(only: tuple[str, ...]) -> str:
    """The end of a headline: which nodes are selected; empty for all."""
    return f"; only {name_ranges(only)}, the others are only looked at" if only else ""
