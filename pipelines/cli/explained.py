"""How `esync explain` ends: with the reason why a node is not joined, wherever that was worked out."""

from typing import Annotated, NoReturn

import typer

from pipelines.cli.console import CommandExit, print_json
from pipelines.report.knowledge_text import explanation_lines
from pipelines.report.layout import printable
from pipelines.run.explained import NodeAnswer

__all__ = ["Node", "print_and_exit"]

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]


def print_and_exit(answer: NodeAnswer, *, as_json: bool) -> NoReturn:
    """Prints the answer, and ends the command with its exit status."""
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        lines = explanation_lines(answer, answer.source, answer.outcome)
        typer.echo("\n".join(map(printable, lines)))
    raise CommandExit(answer.exit_code)
