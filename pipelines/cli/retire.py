"""The verb that takes a node out of its cluster: retire. Thin."""

from typing import Annotated

import typer

from pipelines.cli.console import AsJson, ClusterFile, Key, Reason, Verbose, Yes, describe, notify
from pipelines.cli.follow import run_and_exit
from pipelines.cli.output import ReportFolder
from pipelines.cluster_file.loader import load_cluster
from pipelines.usecases.retire import leaving, options_of

__all__ = ["retire"]


def retire(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node that leaves the cluster.")],
    *,
    host: Annotated[
        str, typer.Option("--host", help="Where to reach a node that is not in the cluster file any more.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also if the server serves other sites, whose eSync ends, too.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Take a node out of the cluster: remove its certificates, keys and flags, restart its service, and prove it.

    Retire the node, remove it from the cluster file, then run `esync rollout FILE --prune`: that removes its keys from
    the other nodes.
    """
    cluster, name = leaving(load_cluster(file), node, host)
    notify(f"retire {name} of cluster {describe(cluster)}")
    run_and_exit(
        cluster,
        "retire",
        yes=yes,
        reason=reason,
        key=key,
        folder=report,
        as_json=as_json,
        only=(name,),
        options=options_of(force=force),
        verbose=verbose,
    )
