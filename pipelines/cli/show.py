"""The verbs that check and show: check, verify, status, runs, report. Thin."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.audit.bundle import write_bundle
from pipelines.audit.check import check_file
from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    CommandExit,
    Reason,
    RunId,
    Verbose,
    describe,
    notify,
    print_json,
    print_text,
    stderr_console,
    stdout_console,
)
from pipelines.cli.follow import (
    exit_status,
    find_run,
    follow,
    is_active,
    pretty,
    print_result,
    report_of,
    run_and_exit,
)
from pipelines.cli.live import draw, progress_of
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import BundleFile, OutputFile, ReportFolder
from pipelines.cluster_file.here import missing_here
from pipelines.cluster_file.loader import ClusterRefused, load_cluster
from pipelines.local.services import Running, engine_only
from pipelines.local.state import command_here
from pipelines.report.html import to_html
from pipelines.report.layout import printable
from pipelines.report.runs_text import run_lines
from pipelines.report.text import to_text
from pipelines.usecases import runs as commands
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.status import row_of
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.errors import RecordRefused
from workers.host.private import write_private
from workers.records import now
from workers.settings import load_settings

__all__ = ["VERBS"]


def check(file: ClusterFile, *, as_json: AsJson = False) -> None:
    """Read a cluster file and list every mistake in it. Contacts no server."""
    try:
        cluster = load_cluster(file)
        _check_here(file, cluster)
    except ClusterRefused as refused:
        if as_json:
            mistakes = [mistake.model_dump() for mistake in refused.mistakes]
            print_json({"ok": False, "cluster": None, "nodes": 0, "problems": mistakes})
            raise CommandExit(refused.exit_code) from None
        raise
    if as_json:
        print_json({"ok": True, "cluster": cluster.name, "nodes": len(cluster.nodes), "problems": []})
    else:
        typer.echo(f"{file}: cluster {describe(cluster)}: no mistakes")


def _check_here(file: Path, cluster: Cluster) -> None:
    """Checks what the worker needs to log on: on this machine, unless workers that run elsewhere will be used.

    Raises:
        ClusterRefused: something is missing. A warning is printed instead when other workers will be used.
    """
    settings = load_settings()
    missing = missing_here(file, cluster, settings)
    if missing and settings.broker_url is None and command_here(settings.state) != "up":
        raise ClusterRefused(str(file), missing)
    for mistake in missing:
        notify(f"warning: {mistake}", "yellow")
    if missing:
        notify("  Fix: ignore this if the workers have it: other processes than this command log on", "yellow")


def verify(
    file: ClusterFile,
    *,
    node: NodeNames = None,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Check every invariant of a cluster on its nodes. Changes nothing."""
    cluster = load_cluster(file)
    only = selected_nodes(cluster, node or ())
    notify(f"verify cluster {describe(cluster)}{for_nodes(only)}")
    run_and_exit(cluster, "verify", reason=reason, folder=report, as_json=as_json, only=only, verbose=verbose)


def status(
    run: RunId = "last",
    *,
    until_end: Annotated[bool, typer.Option("--follow", "-f", help="Follow to the end; exit by the verdict.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a run."""
    with engine_only(load_settings()) as engine:
        record = find_run(engine, run)
        if until_end and is_active(record):
            report = follow(Running(engine), record, stderr_console(), verbose=verbose)
        else:
            report = report_of(engine, record)
            if not as_json:
                shown = stdout_console()
                shown.print(draw(progress_of(engine.store, record), shown))
                print_result(report, shown, verbose=verbose)
        current = commands.status(engine, record.id)
    if as_json:
        print_json(current.model_dump(mode="json"))
    elif current.paused:
        print_text(stdout_console(), f"PAUSED: {current.paused}; to continue: esync resume {current.run}", "yellow")
    elif current.cancelling:
        print_text(stdout_console(), f"stopping: {current.cancelling}", "yellow")
    raise CommandExit(exit_status(report) if until_end else 0)


def runs(
    *, limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20, as_json: AsJson = False
) -> None:
    """List the newest runs, newest first."""
    refused: list[RecordRefused] = []
    with engine_only(load_settings()) as engine:
        records = engine.store.runs(limit, refused.append)
    if refused:
        notify(f"{counted(len(refused), 'run')} cannot be read:", "yellow")
        for error in refused:
            notify(f"  {error.run}: {error.message}", "yellow")
    if as_json:
        print_json([row_of(record).model_dump(mode="json") for record in records])
        return
    for line in run_lines(records, now()):
        typer.echo(line)
    if not records and not refused:
        notify("there are no runs yet")


def report(
    run: RunId = "last",
    *,
    form: Annotated[
        Literal["text", "json", "html"] | None,
        typer.Option("--format", help="The format. Default: by the ending of the output file, otherwise text."),
    ] = None,
    output: OutputFile = None,
    bundle: BundleFile = None,
    to_check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Check a bundle, offline. Exit 0: valid; 5: not.")
    ] = None,
) -> None:
    """Write the report of a run, or everything about the run as a bundle; or check a bundle."""
    if to_check is not None:
        _check_bundle(to_check, as_json=form == "json")
        return
    with engine_only(load_settings()) as engine:
        record = find_run(engine, run)
        if bundle is not None:
            manifest = write_bundle(engine, record.id, bundle)
            notify(f"bundle: {bundle}, {len(manifest.members) + 1} members")
            notify(f"head of the hash chain: {manifest.chain_head}; note it elsewhere to recognise this bundle later")
            return
        ending = output.suffix.removeprefix(".") if output else ""
        formats = {"text": to_text, "json": pretty, "html": to_html}
        text = formats.get(form or ending, to_text)(report_of(engine, record))
    if output is None:
        typer.echo(text, nl=False)
        return
    write_private(output, text)
    notify(f"report: {output}")


def _check_bundle(path: Path, *, as_json: bool) -> None:
    """Checks a bundle and prints what was checked. Needs no broker.

    Raises:
        InputRefused: the file cannot be read.
        BundleRefused: a check failed.
    """
    checked = check_file(path)
    if as_json:
        print_json(checked.model_dump(mode="json"))
        return
    typer.echo(printable(f"run {checked.run} of {checked.cluster}: {checked.verdict}"))
    for sentence in checked.checked:
        typer.echo(printable(f"  ok: {sentence}"))
    typer.echo(f"{path} is valid: {len(checked.checked)} of {len(checked.checked)} checks passed")


#: In the order of `esync --help`.
VERBS: tuple[Callable[..., None], ...] = (check, verify, status, runs, report)
