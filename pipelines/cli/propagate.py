"""`esync propagate`. Thin."""

import re
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import AsJson, print_json, print_lines
from pipelines.cluster_file.loader import load_cluster
from pipelines.report.knowledge_text import propagation_lines
from tasks.cluster import Role
from tasks.ektron.propagation import Direction, Sync
from tasks.ektron.propagation import propagate as reached
from tasks.ektron.refusals import Refused
from workers.errors import InputRefused, Misused

__all__ = ["propagate"]

_EXAMPLE = (("S1", "S2"), ("P1", "P2"))  #: the servers of the procedure, used without a cluster file


def propagate(  # noqa: PLR0913 - a command's options
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The cluster file. Default: S1, S2, P1, P2.", readable=False)
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
    _refuse(path, to, start)
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
        print_lines(propagation_lines(answer))


def _refuse(path: str, to: str, start: str) -> None:
    if re.match(r"[\\/]|[A-Za-z]:", path):
        raise Misused(
            f"--path {path[:64]!r} is not a path below the site root",
            remedy=r"leave out the drive and the folder of the site: bin\a.dll",
        )
    if to and not start:
        raise Misused(
            "--to is the other end of a sync, and --from is missing",
            remedy="name the server on which it starts: --from",
        )


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
        raise Misused(
            f"--then {text[:64]!r} is not a sync",
            remedy=f"write NODE:DIRECTION or NODE:DIRECTION:POOL; a direction is one of {choices}",
        ) from None
