"""`esync doctor`. Thin."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.cli.console import AsJson, Reason, Verbose, describe, notify
from pipelines.cli.files import AtMost, ClusterFiles, are_many, load_usable, refuse_for_many
from pipelines.cli.follow import run_and_exit
from pipelines.cli.many import run_many
from pipelines.cli.many_results import Asked
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import ReportFolder
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.reading import engine_only
from pipelines.local.services import remarks_here
from pipelines.report.knowledge_text import set_aside_lines
from pipelines.run.groups import AT_MOST
from pipelines.usecases.naming import selected_nodes
from workers.broker import set_aside
from workers.redis.connection import connect
from workers.settings import load_settings

__all__ = ["doctor"]


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
        sources = load_usable(files)
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
    with engine_only(load_settings()) as engine, connect(engine.settings.broker(), waits=engine.waits) as client:
        warnings = [f"warning: {remark}" for remark in (*engine.remarks(), *remarks_here(load_settings()))]
        lines = set_aside_lines(set_aside.stored(client))
        if forget:
            set_aside.clear(client)
    return [*warnings, *(lines if not (lines and forget) else (*lines[:-1], "The list is deleted."))]
