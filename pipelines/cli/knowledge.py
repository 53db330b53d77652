"""The verbs that answer questions: doctor, explain, propagate. Thin."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    Reason,
    Verbose,
    describe,
    notify,
    print_json,
    stderr_console,
)
from pipelines.cli.explained import Node, print_and_exit
from pipelines.cli.files import AtMost, ClusterFiles, are_many, load_all, refuse_for_many
from pipelines.cli.follow import follow_progress, run_and_exit, workers_for
from pipelines.cli.many import Asked, run_many
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import ReportFolder
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.reading import engine_only
from pipelines.local.services import remarks_here
from pipelines.report.knowledge_text import propagation_lines, set_aside_lines
from pipelines.report.layout import printable
from pipelines.run.explained import NodeAnswer
from pipelines.run.groups import AT_MOST
from pipelines.usecases import runs
from pipelines.usecases.explain import explain_node, newest_check
from pipelines.usecases.naming import is_file, one_node, selected_nodes
from tasks.cluster import Role
from tasks.ektron.propagation import Direction, Sync
from tasks.ektron.propagation import propagate as reached
from tasks.ektron.refusals import Refused
from workers.broker import set_aside
from workers.errors import InputRefused
from workers.redis.connection import connect
from workers.settings import load_settings

__all__ = ["doctor", "explain", "propagate"]

_EXAMPLE = (("S1", "S2"), ("P1", "P2"))  #: the servers of the procedure, used without a cluster file


def doctor(  # noqa: PLR0913 - a command's options
    files: ClusterFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
    forget: Annotated[
        bool,
        typer.Option("--forget-set-aside", help="Show the messages that workers have set aside, then delete them."),
    ] = False,
) -> None:
    """Check whether a rollout can start: logon, limits, prerequisites, competing tools, certificates. Changes nothing.

    Also reports problems of the broker, and messages that workers have set aside as unusable.
    """
    if are_many(files):
        refuse_for_many(node=node)
        sources = load_all(files)
        for line in _about_the_broker(forget=forget):
            notify(line)
        run_many("doctor", sources, Asked(at_most, reason, folder=report, as_json=as_json, verbose=verbose))
    cluster = load_cluster(files[0])
    only = selected_nodes(cluster, node or ())
    for line in _about_the_broker(forget=forget):
        notify(line)
    notify(f"checking cluster {describe(cluster)}{for_nodes(only)}")
    run_and_exit(cluster, "doctor", reason=reason, folder=report, as_json=as_json, only=only, verbose=verbose)


def _about_the_broker(*, forget: bool) -> Sequence[str]:
    """Problems of the broker, and the messages set aside there; these are deleted afterwards if requested."""
    with engine_only(load_settings()) as engine, connect(engine.settings.broker()) as client:
        warnings = [f"warning: {remark}" for remark in (*engine.remarks(), *remarks_here(load_settings()))]
        lines = set_aside_lines(set_aside.stored(client))
        if forget:
            set_aside.clear(client)
    return [*warnings, *(lines if not (lines and forget) else (*lines[:-1], "The list is deleted."))]


def explain(
    node: Node,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A cluster file: check it now. A run, the name of a cluster, `last`: use that result.",
        ),
    ] = "last",
    *,
    as_json: AsJson = False,
) -> None:
    """Explain why a node is not joined: the first cause. Exit 0: joined; 5: not joined; 6: unknown."""
    if is_file(node):
        raise InputRefused(
            f"{node} is a file, and the first argument is the name of a node; no server was contacted",
            remedy=f"write esync explain NODE {node}",
        )
    print_and_exit(_checked_now(node, Path(target)) if is_file(target) else _from_store(node, target), as_json=as_json)


def propagate(  # noqa: PLR0913 - a command's options
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The cluster file. Default: S1, S2, P1, P2.")
    ] = None,
    *,
    changed: Annotated[str, typer.Option("--changed", metavar="NODE", help="The server where the file was changed.")],
    start: Annotated[str, typer.Option("--from", metavar="NODE", help="The server where the sync is started.")] = "",
    direction: Annotated[
        Direction, typer.Option("--direction", help="Direction, as seen from that server.")
    ] = Direction.UPLOAD,
    to: Annotated[
        str, typer.Option("--to", metavar="POOL", help="The pool at the other end, where there are several.")
    ] = "",
    then: Annotated[
        list[str] | None, typer.Option("--then", metavar="NODE:DIRECTION[:POOL]", help="A further sync; repeatable.")
    ] = None,
    down: Annotated[
        list[str] | None, typer.Option("--down", metavar="NODE", help="A server that is down; repeatable.")
    ] = None,
    path: Annotated[
        str, typer.Option("--path", help=r"The path of the file below the site root, such as bin\a.dll.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show which servers receive a changed file by a sync, and where to start the sync. Contacts no server."""
    if re.match(r"[\\/]|[A-Za-z]:", path):
        raise InputRefused(
            f"--path {path[:64]!r} is not a path below the site root",
            remedy=r"leave out the drive and the folder of the site: bin\a.dll",
        )
    staging, production, pools = _servers(file)
    first = [Sync(start=start, direction=direction, to=to)] if start else []
    try:
        answer = reached(
            staging=staging,
            production=production,
            changed=changed,
            syncs=[*first, *map(_sync, then or ())],
            unavailable=down or (),
            path=path,
            pools=pools,
        )
    except Refused as refused:
        raise InputRefused(str(refused), remedy=refused.remedy) from None
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        typer.echo("\n".join(map(printable, propagation_lines(answer))))


def _checked_now(node: str, file: Path) -> NodeAnswer:
    """The answer from a verify run that starts now."""
    cluster = load_cluster(file)
    node = one_node(cluster, node)
    with workers_for("verify") as services:
        record = runs.start(services.engine, cluster, kind="verify", reason=f"explain {node}")
        follow_progress(services, record, stderr_console())
        return explain_node(services.engine, record.id, node)


def _from_store(node: str, target: str) -> NodeAnswer:
    """The answer from a run that has ended."""
    with engine_only(load_settings()) as engine:
        return explain_node(engine, newest_check(engine, target).id, node)


def _servers(file: Path | None) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Staging and production servers, and the pool of each."""
    if file is None:
        return (*_EXAMPLE, {})
    nodes = load_cluster(file).nodes
    return (
        tuple(node.name for node in nodes if node.role is Role.STAGING),
        tuple(node.name for node in nodes if node.role is Role.PRODUCTION),
        {node.name: node.pool for node in nodes},
    )


def _sync(text: str) -> Sync:
    start, _, rest = text.partition(":")
    direction, _, to = rest.partition(":")
    try:
        return Sync(start=start, direction=Direction(direction.lower()), to=to)
    except ValueError:
        choices = ", ".join(Direction)
        raise InputRefused(
            f"--then {text[:64]!r} is not a sync",
            remedy=f"write NODE:DIRECTION or NODE:DIRECTION:POOL; a direction is one of {choices}",
        ) from None
