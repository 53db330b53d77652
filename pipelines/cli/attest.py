"""The verb with which a person answers what no program can: attest. Thin."""

from datetime import date
from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    describe,
    notify,
    print_json,
    print_text,
    stdout_console,
    text_width,
)
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.reading import engine_only
from pipelines.report.knowledge_text import question_lines
from pipelines.usecases import attest as attesting
from pipelines.usecases.origin import user
from tasks.cluster import Cluster
from workers.errors import Misused
from workers.records import now
from workers.settings import load_settings

__all__ = ["Note", "Rule", "Until", "Withdraw", "attest", "day_of"]


Rule = Annotated[str, typer.Argument(metavar="RULE", help="The question; without it, all are listed.")]
Until = Annotated[str, typer.Option("--until", metavar="DATE", help="The last day it counts: 2027-03-31.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="What was checked, and how.")]
Withdraw = Annotated[bool, typer.Option("--withdraw", help="Remove the answer: it is asked again.")]


def attest(
    file: ClusterFile,
    rule: Rule = "",
    *,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who confirms it; you, by default.")] = "",
    until: Until = "",
    note: Note = "",
    withdraw: Withdraw = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question that no program can answer, or list the questions about a cluster. Contacts no server.

    An answer is about this cluster with these servers. It is part of each run's report and bundle, and expires.
    """
    cluster = load_cluster(file)
    if not rule:
        if by or until or note or withdraw:
            raise Misused("RULE is missing", remedy=f"to list the questions: esync attest {file}")
        _list(cluster, as_json=as_json)
        return
    with engine_only(load_settings()) as engine:
        if withdraw:
            attesting.withdraw(engine, cluster, rule)
            notify(f"{rule} is asked again")
            return
        day = day_of(until)
        confirmation = attesting.attest(engine, cluster, rule, by=by or user(), until=day, note=note)
    if as_json:
        print_json(confirmation.model_dump(mode="json"))
    else:
        notify(f"{rule}: {confirmation.sentence}")


def _list(cluster: Cluster, *, as_json: bool) -> None:
    with engine_only(load_settings()) as engine:
        asked, others = attesting.listed(engine, cluster)
    if as_json:
        questions = [{**one.attestation.model_dump(mode="json"), **_answer(one)} for one in asked]
        rest = [one.model_dump(mode="json") for one in others]
        print_json({"cluster": cluster.name, "questions": questions, "others": rest})
        return
    print_text(
        stdout_console(), "\n".join([f"cluster {describe(cluster)}", *question_lines(asked, others, text_width())])
    )


def _answer(asked: attesting.Asked) -> dict[str, object]:
    confirmed = asked.confirmation.model_dump(mode="json") if asked.confirmation else None
    return {"confirmed": confirmed, "answered": asked.counts}


def day_of(text: str) -> date:
    """The day of an option.

    Raises:
        Misused: it is missing, or no day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        example = now().date().replace(day=1)
        raise Misused(
            f"--until is {'missing' if not text else 'not a date'}: an answer counts until a day",
            remedy=f"write the day as YYYY-MM-DD, for example --until {example.replace(year=example.year + 1)}",
        ) from None
