"""The verbs that answer questions: doctor, explain, propagate. Thin."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.certs import certs
from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    Ended,
    Reason,
    ReportFolder,
    data,
    described,
    people_console,
    run_on,
)
from pipelines.cli.follow import look_on, say
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.services import looking, working
from pipelines.report.knowledge_text import explanation_lines, propagation_lines, set_aside_lines
from pipelines.report.styles import printable
from pipelines.usecases import runs
from pipelines.usecases.explain import NodeAnswer, explain_node, is_file, newest_check
from tasks.cluster import Role
from tasks.ektron.propagation import Direction, Sync
from tasks.ektron.propagation import propagate as reached
from tasks.ektron.refusals import Refused
from workers.broker import set_aside
from workers.errors import InputRefused
from workers.redis.connection import connect
from workers.settings import load_settings

__all__ = ["VERBS", "certs"]

_FOUR = (("S1", "S2"), ("P1", "P2"))  #: the procedure's example, where no cluster file is given


def doctor(
    file: ClusterFile,
    *,
    reason: Reason = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
    forget: Annotated[
        bool,
        typer.Option("--forget-set-aside", help="Show the messages that workers have set aside, then delete them."),
    ] = False,
) -> None:
    """Look whether a rollout could begin: logon, limits, prerequisites, rivals, the family. Changes no server.

    Says as well whether workers have set messages aside that nobody could use.
    """
    cluster = load_cluster(file)
    people = people_console()
    for line in _set_aside(forget=forget):
        say(people, line)
    say(people, f"looking at cluster {described(cluster)}")
    run_on(cluster, "doctor", reason=reason, folder=report, as_json=as_json)


def _set_aside(*, forget: bool) -> Sequence[str]:
    """What workers have set aside, in lines; deleted afterwards when that is asked for."""
    with looking(load_settings()) as engine, connect(engine.settings.broker()) as client:
        lines = set_aside_lines(set_aside.shown(client))
        if forget:
            set_aside.forget(client)
    return lines if not (lines and forget) else (*lines[:-1], "they are deleted")


def explain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A cluster file: looked at now. A run, a cluster's name, `last`: as seen."
        ),
    ] = "last",
    *,
    as_json: AsJson = False,
) -> None:
    """Say why a node is not joined: the first cause. Exit 0: it is joined; 5: it is not; 6: not known."""
    answer = _looked_at(node, Path(target)) if is_file(target) else _remembered(node, target)
    if as_json:
        run = answer.run
        origin = {"run": run.id, "kind": run.kind, "ended": run.ended and run.ended.isoformat()}
        data({**answer.explanation.model_dump(mode="json"), **origin, "outcome": answer.outcome})
    else:
        lines = explanation_lines(answer.explanation, answer.source, answer.outcome)
        typer.echo("\n".join(map(printable, lines)))
    raise Ended(answer.exit_code)


def propagate(  # noqa: PLR0913 - a command's options
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The cluster file; S1, S2, P1, P2 without one.")
    ] = None,
    *,
    changed: Annotated[str, typer.Option("--changed", metavar="NODE", help="Where the file was changed.")],
    start: Annotated[str, typer.Option("--from", metavar="NODE", help="Where the sync is started.")] = "",
    direction: Annotated[Direction, typer.Option("--direction", help="Seen from there.")] = Direction.UPLOAD,
    then: Annotated[
        list[str] | None, typer.Option("--then", metavar="NODE:DIRECTION", help="A further sync; may be repeated.")
    ] = None,
    down: Annotated[list[str] | None, typer.Option("--down", metavar="NODE", help="A server that is down.")] = None,
    path: Annotated[str, typer.Option("--path", help=r"The file below the site root, such as bin\a.dll.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which servers a sync brings a changed file to, which not, and who had better start it. Contacts nobody."""
    staging, production = _pools(file)
    first = [Sync(start=start, direction=direction)] if start else []
    try:
        answer = reached(
            staging=staging,
            production=production,
            changed=changed,
            syncs=[*first, *map(_sync, then or ())],
            unavailable=down or (),
            path=path,
        )
    except Refused as refused:
        raise InputRefused(str(refused), remedy=refused.remedy) from None
    if as_json:
        data(answer.model_dump(mode="json"))
    else:
        typer.echo("\n".join(map(printable, propagation_lines(answer))))


def _looked_at(node: str, file: Path) -> NodeAnswer:
    """From a verify run that begins now."""
    cluster = load_cluster(file)
    people = people_console()
    with working(load_settings(), lambda text: say(people, text), kind="verify") as services:
        record = runs.start(services.engine, cluster, kind="verify", reason=f"explain {node}")
        look_on(services, record, people)
        return explain_node(services.engine, record.id, node)


def _remembered(node: str, target: str) -> NodeAnswer:
    with looking(load_settings()) as engine:
        return explain_node(engine, newest_check(engine, target).id, node)


def _pools(file: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Staging and production servers."""
    if file is None:
        return _FOUR
    nodes = load_cluster(file).nodes
    return (
        tuple(node.name for node in nodes if node.role is Role.STAGING),
        tuple(node.name for node in nodes if node.role is Role.PRODUCTION),
    )


def _sync(text: str) -> Sync:
    start, _, direction = text.partition(":")
    try:
        return Sync(start=start, direction=Direction(direction.lower()))
    except ValueError:
        choices = ", ".join(Direction)
        raise InputRefused(f"--then {text[:64]!r} is no sync", remedy=f"NODE:DIRECTION, one of {choices}") from None


#: In the order `esync --help` shows them.
VERBS: tuple[Callable[..., Any], ...] = (doctor, explain, propagate)
