"""How `esync explain` ends: with the reason why a node is not joined, wherever that was worked out."""

from typing import Annotated, NoReturn

import typer

from pipelines.cli.console import CommandExit, print_json, print_lines, text_width
from pipelines.report.knowledge_text import explanation_lines
from pipelines.run.explained import NodeAnswer

__all__ = ["Node", "print_and_exit"]

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]


def print_and_exit(answer: NodeAnswer, *, as_json: bool) -> NoReturn:
    """Prints the answer, and ends the command with its exit status."""
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        print_lines(explanation_lines(answer, answer.source, answer.outcome, text_width()))
    raise CommandExit(answer.exit_code)
