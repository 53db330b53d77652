"""The verbs that undo runs and remove what they left on nodes: rollback, cleanup. Thin."""

from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    Key,
    Reason,
    RunId,
    Verbose,
    Yes,
    confirm,
    describe,
    notify,
    require_consent,
    stderr_console,
)
from pipelines.cli.follow import follow, workers_for
from pipelines.cli.nodes import AllAtOnce, NodeNames, Overwrite
from pipelines.cli.output import ReportFolder
from pipelines.cli.results import find_run, finish
from pipelines.cluster_file.loader import load_cluster
from pipelines.report.layout import name_ranges
from pipelines.usecases import rollback as undoing
from pipelines.usecases.naming import selected_nodes
from workers.errors import Misused

__all__ = ["cleanup", "rollback"]


def rollback(  # noqa: PLR0913 - a command's options
    run: RunId = "last",
    *,
    node: NodeNames = None,
    force: Overwrite = False,
    all_at_once: AllAtOnce = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Undo a run: restore bytes, names and service state from before it. Proves the result by comparing every file."""
    require_consent(yes=yes)
    with workers_for("rollback") as services:
        engine = services.engine
        parent = find_run(engine, run, lambda found: undoing.changed_a_node(engine, found), "run that changed a node")
        if run != parent.id:
            undoing.require_not_half_undone(parent)
        nodes = undoing.nodes_to_undo(engine, parent.id, node or ())
        on = f"on {name_ranges(nodes)}"
        forced = ", also files that were changed after the run" if force else ""
        notify(f"rollback of run {parent.id} ({parent.kind} of {parent.cluster}), {on}{forced}")
        waves = undoing.waves_to_undo(engine, parent.id, nodes)
        if len(waves) > 1 and not all_at_once:
            planned = " | ".join(map(name_ranges, waves))
            notify(f"{planned} if all of them work: at most half of a pool at a time, servers that are down first")
        confirm(yes=yes)
        record = undoing.rollback(
            engine, parent.id, nodes, force=force, all_at_once=all_at_once, reason=reason, key=key
        )
        notify(f"run {record.id}")
        shown = follow(services, record, stderr_console(), verbose=verbose)
    finish(shown, report, as_json=as_json)


def cleanup(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all backups, not only expired ones: no rollback after that.")
    ] = False,
    fence: Annotated[
        list[str] | None,
        typer.Option("--fence", metavar="NAME", help="Only unlock this node for the next writer; repeatable."),
    ] = None,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Remove expired backups and leftover temporary files from the nodes, and prove that they are gone.

    With --fence: remove only the file that blocks every writer on these nodes. Refused while another run is active.
    """
    cluster = load_cluster(file)
    freed = selected_nodes(cluster, fence or ())
    if fence and everything:
        raise Misused("--fence and --all cannot be combined", remedy="unlock the nodes first, then clean up")
    what = "all backups" if everything else f"backups older than {cluster.policy.keep_backups_days} days"
    what = f"only the fence of {name_ranges(freed)}" if fence else what
    notify(f"cleanup ({what}) of cluster {describe(cluster)}")
    confirm(yes=yes)
    with workers_for("cleanup") as services:
        if fence:
            record = undoing.free(services.engine, cluster, freed, reason=reason)
        else:
            record = undoing.cleanup(services.engine, cluster, everything=everything, reason=reason)
        notify(f"run {record.id}")
        shown = follow(services, record, stderr_console(), verbose=verbose)
    finish(shown, report, as_json=as_json)
