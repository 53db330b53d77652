"""`esync verify`. What follows a run and prints its result is loaded while the services start."""

from importlib import import_module

from pipelines.cli.console import AsJson, Reason, Verbose, describe, notify, stderr_console
from pipelines.cli.files import AtMost, ClusterFiles, are_many, load_usable, refuse_for_many
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import ReportFolder
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.services import engine_with_worker
from pipelines.run.groups import AT_MOST
from pipelines.usecases.naming import selected_nodes
from workers.settings import load_settings

__all__ = ["verify"]


def verify(
    files: ClusterFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Check every invariant of a cluster on its nodes. Changes nothing."""
    if are_many(files):
        from pipelines.cli.many import run_many  # noqa: PLC0415 - only for several
        from pipelines.cli.many_results import Asked  # noqa: PLC0415 - the same

        refuse_for_many(node=node)
        asked = Asked(at_most, reason, folder=report, as_json=as_json, verbose=verbose)
        run_many("verify", load_usable(files), asked)
    cluster = load_cluster(files[0])
    only = selected_nodes(cluster, node or ())
    notify(f"verify cluster {describe(cluster)}{for_nodes(only)}")
    with engine_with_worker(load_settings(), notify, kind="verify", meanwhile=_load) as services:
        from pipelines.cli.follow import start_and_follow  # noqa: PLC0415 - see above
        from pipelines.cli.results import finish  # noqa: PLC0415 - see above

        found = start_and_follow(
            services, cluster, stderr_console(), kind="verify", reason=reason, only=only, verbose=verbose
        )
    finish(found, report, as_json=as_json)


def _load() -> None:
    for name in ("pipelines.cli.follow", "pipelines.usecases.runs"):
        import_module(name)
