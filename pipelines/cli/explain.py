"""`esync explain`. Thin."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import AsJson, stderr_console
from pipelines.cli.explained import Node, print_and_exit
from pipelines.local.reading import engine_only
from pipelines.run.explained import NodeAnswer
from pipelines.usecases.explain import explain_node, newest_check
from pipelines.usecases.naming import is_file, one_node
from workers.errors import Misused
from workers.settings import load_settings

__all__ = ["explain"]


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
        raise Misused(
            f"{node} is a file, and the first argument is the name of a node; no server was contacted",
            remedy=f"write esync explain NODE {node}",
        )
    print_and_exit(_checked_now(node, Path(target)) if is_file(target) else _from_store(node, target), as_json=as_json)


def _checked_now(node: str, file: Path) -> NodeAnswer:
    """The answer from a verify run that starts now."""
    from pipelines.cli.follow import follow_progress, workers_for  # noqa: PLC0415 - the other answers do without
    from pipelines.cluster_file.loader import load_cluster  # noqa: PLC0415 - see above
    from pipelines.usecases import runs  # noqa: PLC0415 - see above

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
