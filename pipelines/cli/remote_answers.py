"""The verbs with ESYNC_SERVER that ask and answer questions: explain, attest. Thin."""

from typing import Annotated

import typer

from pipelines.cli.attest import Note, Rule, Until, Withdraw, day_of
from pipelines.cli.console import AsJson, notify, print_json, print_text, stdout_console, text_width
from pipelines.cli.explained import Node, print_and_exit
from pipelines.cli.server import ServersFile, connected
from pipelines.report.knowledge_text import question_lines
from pipelines.usecases.naming import LAST, is_file
from workers.errors import InputRefused, Misused

__all__ = ["attest", "explain"]


def explain(
    node: Node,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A run, the name of a cluster or of a cluster file of the server, `last`: use that result.",
        ),
    ] = LAST,
    *,
    as_json: AsJson = False,
) -> None:
    """Explain why a node is not joined: the first cause. Exit 0: joined; 5: not joined; 6: unknown."""
    for given in (node, target):
        if is_file(given):
            raise InputRefused(
                f"{given} is a file of this machine, and ESYNC_SERVER is set; nothing was sent",
                remedy="name a cluster file of the server, without its suffix; to check it now: esync verify NAME",
            )
    with connected() as client:
        answer = client.explain(node, target)
    print_and_exit(answer, as_json=as_json)


def attest(
    file: ServersFile,
    rule: Rule = "",
    *,
    until: Until = "",
    note: Note = "",
    withdraw: Withdraw = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question that no program can answer, or list the questions about a cluster. Contacts no server.

    The answer has the name of your token.
    """
    with connected() as client:
        if withdraw and rule:
            client.withdraw(file, rule)
            notify(f"{rule} is asked again")
        elif rule:
            given = client.answer(file, rule, until=day_of(until), note=note)
            if as_json:
                print_json(given.model_dump(mode="json"))
            else:
                notify(f"{rule}: {given.sentence}")
        elif until or note or withdraw:
            raise Misused("RULE is missing", remedy=f"to list the questions: esync attest {file}")
        elif as_json:
            print_json({"cluster": file, **client.questions(file).model_dump(mode="json")})
        else:
            found = client.questions(file)
            lines = question_lines([one.asked for one in found.questions], found.others, text_width())
            print_text(stdout_console(), "\n".join([f"cluster {file}", *lines]))
