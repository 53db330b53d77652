"""The verbs that look at nodes and at a run: verify, status. Thin."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    CommandExit,
    Reason,
    Verbose,
    describe,
    notify,
    print_json,
    print_text,
    stderr_console,
    stdout_console,
)
from pipelines.cli.files import AtMost, ClusterFiles, are_many, load_all, refuse_for_many
from pipelines.cli.follow import (
    exit_status,
    find_run,
    follow,
    is_active,
    print_result,
    report_of,
    run_and_exit,
)
from pipelines.cli.many import Asked, run_many
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import ReportFolder
from pipelines.cli.picture import draw
from pipelines.cli.runs import waits_of
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.reading import engine_only
from pipelines.local.services import Running
from pipelines.report.runs_text import run_lines
from pipelines.run.groups import AT_MOST
from pipelines.usecases import runs as commands
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.updates import progress_of
from workers.errors import InputRefused
from workers.records import now
from workers.settings import load_settings

__all__ = ["status", "verify"]


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
        refuse_for_many(node=node)
        asked = Asked(at_most, reason, folder=report, as_json=as_json, verbose=verbose)
        run_many("verify", load_all(files), asked)
    cluster = load_cluster(files[0])
    only = selected_nodes(cluster, node or ())
    notify(f"verify cluster {describe(cluster)}{for_nodes(only)}")
    run_and_exit(cluster, "verify", reason=reason, folder=report, as_json=as_json, only=only, verbose=verbose)


RunIds = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs as in other commands, or `last`.")]


def _status_of_several(runs: Sequence[str], *, as_json: bool) -> None:
    with engine_only(load_settings()) as engine:
        records = [find_run(engine, run) for run in runs]
        states = [commands.status(engine, record.id) for record in records] if as_json else []
    if as_json:
        print_json([state.model_dump(mode="json") for state in states])
        return
    for line in run_lines(records, now()):
        typer.echo(line)


def status(
    run: RunIds = None,
    *,
    until_end: Annotated[bool, typer.Option("--follow", "-f", help="Follow to the end; exit by the verdict.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a run; of several a line each."""
    first, *others = run or ["last"]
    if others:
        if until_end:
            raise InputRefused("several runs cannot be followed together", remedy="esync watch RUN")
        _status_of_several([first, *others], as_json=as_json)
        return
    with engine_only(load_settings()) as engine:
        record = find_run(engine, first)
        if until_end and is_active(record):
            report = follow(Running(engine), record, stderr_console(), verbose=verbose)
        else:
            report = report_of(engine, record)
            if not as_json:
                shown = stdout_console()
                shown.print(draw(progress_of(engine.store, record), shown))
                print_result(report, shown, verbose=verbose)
        waits = waits_of(engine, [engine.store.run(record.id)])
        current = commands.status(engine, record.id).model_copy(update={"waiting": waits.get(record.id, "")})
    if as_json:
        print_json(current.model_dump(mode="json"))
    elif current.paused:
        print_text(stdout_console(), f"PAUSED: {current.paused}; to continue: esync resume {current.run}", "magenta")
    elif current.held:
        verb = "approve" if current.unapproved else "promote"
        print_text(
            stdout_console(), f"HELD before {current.held}; to let it begin: esync {verb} {current.run}", "magenta"
        )
    elif current.cancelling:
        print_text(stdout_console(), f"stopping: {current.cancelling}", "magenta")
    if current.waiting and not as_json:
        print_text(stdout_console(), current.waiting, "magenta")
    raise CommandExit(exit_status(report) if until_end else 0)
