"""The verbs that take a run back and remove what runs left: rollback, cleanup. Thin."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    Ended,
    Key,
    Reason,
    ReportFolder,
    RunId,
    Yes,
    confirm,
    described,
    people_console,
    pretty,
    require_consent,
    run_named,
    status_of,
)
from pipelines.cli.follow import say, watch, write_report
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.services import engine_with_worker
from pipelines.report.rows import Report
from pipelines.usecases import rollback as undoing
from workers.errors import InputRefused
from workers.settings import load_settings

__all__ = ["VERBS"]


def rollback(  # noqa: PLR0913 - a command's options
    run: RunId = "last",
    *,
    node: Annotated[list[str] | None, typer.Option("--node", metavar="N", help="Only there; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that were changed since.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take a run back: bytes, names and service state as they were before it. Proves it by comparing every file."""
    require_consent(yes=yes)
    people = people_console()
    with engine_with_worker(load_settings(), lambda text: say(people, text), kind="rollback") as services:
        parent = run_named(services.engine, run, undoing.wrote, "run that wrote to a node")
        on = f"on {', '.join(node)}" if node else "on every node it wrote to"
        say(people, f"rollback of run {parent.id} ({parent.kind} of {parent.cluster}), {on}{_forced(force=force)}")
        confirm(yes=yes)
        record = undoing.rollback(services.engine, parent.id, node or (), force=force, reason=reason, key=key)
        say(people, f"run {record.id}")
        shown = watch(services, record, people)
    _end(shown, report, as_json=as_json)


def cleanup(
    file: ClusterFile,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is not expired: no rollback after that.")
    ] = False,
    fence: Annotated[
        list[str] | None,
        typer.Option("--fence", metavar="N", help="Only free this node for the next writer; may be repeated."),
    ] = None,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove expired backups and stray temporary files from the nodes, and prove that they are gone.

    With --fence: remove only what keeps every writer from these nodes. Refused while another run works on the cluster.
    """
    cluster = load_cluster(file)
    if fence and everything:
        raise InputRefused("--fence and --all are two things", remedy="free the nodes first, then clean up")
    people = people_console()
    what = "all backups" if everything else f"backups older than {cluster.policy.keep_backups_days} days"
    what = f"only the fence of {', '.join(fence)}" if fence else what
    say(people, f"cleanup ({what}) of cluster {described(cluster)}")
    confirm(yes=yes)
    with engine_with_worker(load_settings(), lambda text: say(people, text), kind="cleanup") as services:
        if fence:
            record = undoing.free(services.engine, cluster, fence, reason=reason)
        else:
            record = undoing.cleanup(services.engine, cluster, everything=everything, reason=reason)
        say(people, f"run {record.id}")
        shown = watch(services, record, people)
    _end(shown, report, as_json=as_json)


def _forced(*, force: bool) -> str:
    return ", also over files that were changed since" if force else ""


def _end(shown: Report, folder: Path | None, *, as_json: bool) -> NoReturn:
    if folder is not None:
        say(people_console(), f"report: {write_report(shown, folder)}")
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


#: In the order `esync --help` shows them.
VERBS: tuple[Callable[..., Any], ...] = (rollback, cleanup)
