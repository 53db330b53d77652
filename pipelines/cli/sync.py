"""The verbs about the sync itself: status, start, loadbalance, prove. Thin."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipelines.cli.command import Verb
from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    CommandExit,
    Key,
    Reason,
    Verbose,
    Yes,
    can_ask,
    confirm,
    describe,
    notify,
    print_json,
    print_text,
    stderr_console,
    stdout_console,
)
from pipelines.cli.follow import followed, workers_for
from pipelines.cli.output import ReportFolder
from pipelines.cli.results import exit_status, print_result, write_report
from pipelines.cluster_file.loader import load_cluster
from pipelines.coordinator import snapshot_of
from pipelines.report.sync_rows import build_sync
from pipelines.report.sync_text import sync_lines
from pipelines.usecases import sync as syncs
from tasks.cluster import Cluster
from tasks.syncing.options import SyncOptions

__all__ = ["sync"]

sync = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at a sync, start it, refresh a pool, or prove that a sync reaches every server.",
)
From = Annotated[str, typer.Option("--from", metavar="NODE", help="The staging server on which the sync is started.")]
Profile = Annotated[str, typer.Option("--profile", metavar="NAME", help="The sync profile. Default: sync.profile.")]
Gate = Annotated[bool, typer.Option("--gate", help="A person starts the sync; the run says where, and watches it.")]


@sync.command("status", cls=Verb)
def status(
    file: ClusterFile,
    *,
    clear_stale: Annotated[
        bool,
        typer.Option("--clear-stale", help="Move status files of a crash aside; restart the services of their pools."),
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show per server: service, profiles, a sync that runs, last entries, load balancing. Changes nothing.

    With --clear-stale: refused while a sync is in progress; what is moved aside is kept on the server.
    """
    cluster = load_cluster(file)
    if clear_stale:
        notify(f"clear status files that a crash has left in EktSyncStatus, of cluster {describe(cluster)}")
        notify("the services of a pool with such files are restarted before and after, one server of it at a time")
        confirm(yes=yes, what="restarts services")
    else:
        notify(f"asking cluster {describe(cluster)}")
    kind = syncs.CLEAR if clear_stale else syncs.STATUS
    _run(cluster, kind, SyncOptions(), reason, "", report, verbose=verbose, as_json=as_json)


@sync.command("start", cls=Verb)
def start(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    *,
    node: From = "",
    profile: Profile = "",
    gate: Gate = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Start a sync on a staging server, and follow it to its end."""
    cluster = load_cluster(file)
    asked = syncs.asked_for(cluster, node, profile, gate=gate)
    _announced(cluster, asked, syncs.START, yes=yes)
    _run(cluster, syncs.START, asked, reason, key, report, verbose=verbose, as_json=as_json)


@sync.command("loadbalance", cls=Verb)
def loadbalance(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    *,
    node: Annotated[str, typer.Option("--on", metavar="NODE", help="The server that refreshes its pool.")],
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Refresh the other servers of a pool from one of them, and show the evidence for each."""
    cluster = load_cluster(file)
    asked = syncs.refresh_of(cluster, node)
    _announced(cluster, asked, syncs.BALANCE, yes=yes)
    _run(cluster, syncs.BALANCE, asked, reason, key, report, verbose=verbose, as_json=as_json)


@sync.command("prove", cls=Verb)
def prove(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    *,
    node: From = "",
    profile: Profile = "",
    gate: Gate = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Send a small file through a sync, and prove that it reaches every server. It is removed everywhere, always."""
    cluster = load_cluster(file)
    asked = replace(syncs.asked_for(cluster, node, profile, gate=gate), repair=can_ask())
    _announced(cluster, asked, syncs.PROVE, yes=yes)
    _run(cluster, syncs.PROVE, asked, reason, key, report, verbose=verbose, as_json=as_json)


def _announced(cluster: Cluster, asked: SyncOptions, kind: str, *, yes: bool) -> None:
    """Says what is about to happen, and asks."""
    what = {syncs.BALANCE: "refresh of the pool", syncs.PROVE: "proof of a sync"}.get(kind, "sync")
    profile = f", profile {asked.profile}" if asked.profile else ""
    how = "requested over http" if asked.start == "http" else "started by a person"
    notify(f"{what} from {asked.node}{profile}, {how}, of cluster {describe(cluster)}")
    for caution in syncs.cautions(cluster, asked, kind):
        notify(f"warning: {caution}")
    confirm(yes=yes, what="starts a sync")


def _run(  # noqa: PLR0913 - options that the verbs share
    cluster: Cluster,
    kind: str,
    asked: SyncOptions,
    reason: str,
    key: str,
    folder: Path | None,
    *,
    verbose: bool,
    as_json: bool,
) -> NoReturn:
    people = stderr_console()
    with workers_for(kind) as services:
        record = syncs.begin(services.engine, cluster, kind, asked, reason=reason, key=key)
        notify(f"run {record.id}")
        report = followed(services, record, people, verbose=verbose)
        engine = services.engine
        found = build_sync(snapshot_of(engine, engine.store.run(record.id)))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_text(stdout_console(), "\n".join(sync_lines(found)))
    print_result(report, people, verbose=verbose)
    if folder is not None:
        notify(f"report: {write_report(report, folder)}")
    raise CommandExit(exit_status(report))
