"""The verbs that plan, start and steer runs: plan, rollout, watch, retry, pause, resume, cancel. Thin."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    CommandExit,
    Key,
    Reason,
    RolloutFile,
    RunId,
    Verbose,
    Yes,
    confirm,
    describe,
    notify,
    print_json,
    print_text,
    require_consent,
    stderr_console,
    stdout_console,
)
from pipelines.cli.follow import (
    exit_status,
    find_run,
    finish,
    follow,
    has_plan,
    is_active,
    run_and_exit,
    start_and_follow,
    workers_for,
)
from pipelines.cli.nodes import NodeNames, for_nodes
from pipelines.cli.output import OutputFile, ReportFolder
from pipelines.cluster_file.loader import load_cluster
from pipelines.engine import Engine
from pipelines.local.services import Running, engine_only
from pipelines.local.state import command_here
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.usecases import control, runs
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.plan_file import is_plan, load_plan
from tasks.steering import Steering
from workers.errors import InputRefused
from workers.host.private import write_private
from workers.records import RunRecord, Verdict
from workers.settings import load_settings

__all__ = ["VERBS"]


def plan(
    file: ClusterFile,
    *,
    node: NodeNames = None,
    output: OutputFile = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Show what a rollout would change on each node. Exit 0: nothing; 2: changes; others: no plan was made."""
    cluster = load_cluster(file)
    only = selected_nodes(cluster, node or ())
    notify(f"plan for cluster {describe(cluster)}{for_nodes(only)}")
    with workers_for("plan") as services:
        report = start_and_follow(services, cluster, stderr_console(), kind="plan", reason=reason, only=only)
        if not has_plan(report):
            raise CommandExit(_without_plan(report, as_json=as_json))
        saved = runs.saved_plan(services.engine, report.run)
    if output is not None:
        write_private(output, saved.model_dump_json() + "\n")
    if as_json:
        print_json(saved.model_dump(mode="json"))
    else:
        lines = plan_lines(cluster, saved.plan, saved.only)
        # On a terminal the end of the run has just shown the totals.
        totals = [] if stdout_console().is_terminal else [f"plan: {saved.plan.totals}"]
        print_text(stdout_console(), "\n".join([*lines, *totals]))
    if output is not None:
        notify(f"to apply exactly this plan: esync rollout {output}")
    raise CommandExit(exit_status(report))


def _without_plan(report: Report, *, as_json: bool) -> int:
    """No plan was made; prints why. The status is not 2, which says that changes are pending."""
    if as_json:
        print_json({"error": "no_plan", "message": report.summary, "file": "", "remedy": "", "run": report.run})
    return Verdict.INCONCLUSIVE.exit_code if report.verdict == Verdict.FAILED else exit_status(report)


def rollout(  # noqa: PLR0913 - a command's options
    file: RolloutFile,
    *,
    node: NodeNames = None,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Set eSync up on every node and prove it: show the plan, ask, apply. A saved plan is applied exactly."""
    saved = load_plan(file) if is_plan(file) else None
    cluster = saved.spec if saved else load_cluster(file)
    if saved and node:
        chosen = " ".join(f"--node {one}" for one in node)
        raise InputRefused(
            "--node cannot be combined with a saved plan, which is applied exactly; no server was contacted",
            remedy=f"make a plan for these nodes: esync plan CLUSTER {chosen} -o FILE",
        )
    only = saved.only if saved else selected_nodes(cluster, node or ())
    notify(f"rollout of cluster {describe(cluster)}{for_nodes(only)}")
    if saved:
        notify(f"exactly the plan of {saved.made:%Y-%m-%d %H:%M} UTC: {saved.plan.totals}")
        confirm(yes=yes)
    options = {"yes": yes, "as_json": as_json, "verbose": verbose}
    run_and_exit(cluster, "rollout", reason=reason, key=key, folder=report, plan=saved, only=only, **options)


def watch(run: RunId = "last", *, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Follow a run to its end; exit by its verdict. If its worker stopped with its command, start a new worker."""
    people, settings = stderr_console(), load_settings()
    with engine_only(settings) as engine:
        record = find_run(engine, run)
        without_worker = is_active(record) and not settings.broker_url and not command_here(settings.state)
        report = None if without_worker else follow(Running(engine), record, people, verbose=verbose)
    if report is None:
        with workers_for("watch") as services:
            notify(f"the worker of run {record.id} is gone; a new worker continues the run within a minute")
            report = follow(services, record, people, verbose=verbose)
    finish(report, as_json=as_json)


def retry(  # noqa: PLR0913 - a command's options
    run: RunId = "last",
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Nodes that failed.")] = False,
    unreachable: Annotated[bool, typer.Option("--unreachable", help="Nodes that were unreachable.")] = False,
    not_started: Annotated[bool, typer.Option("--not-started", help="Nodes that the run did not reach.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Finish the unfinished nodes of a run, and only those, with the same certificates. By default all three kinds."""
    require_consent(yes=yes)
    options = {"failed": failed, "unreachable": unreachable, "not_started": not_started}
    kinds = {name for name, chosen in options.items() if chosen} or control.RETRIABLE
    people = stderr_console()
    with workers_for("rollout") as services:
        parent = find_run(services.engine, run, lambda record: not kind_of(record.kind, record.id).retry, "rollout")
        shown = _end_of_parent(services, parent, people)
        if shown is None or control.unfinished(services.engine, parent.id):
            confirm(yes=yes)
            record = control.retry(services.engine, parent.id, kinds, reason=reason)
            notify(f"run {record.id} retries {', '.join(record.only)} of run {parent.id}")
            shown = follow(services, record, people, verbose=verbose)
    finish(shown, report, as_json=as_json)


def _end_of_parent(services: Running, parent: RunRecord, people: Console) -> Report | None:
    """The worker of this command first finishes a run whose own worker stopped with its command."""
    if not services.own or not is_active(parent) or Steering.of(services.engine.store, parent.id).paused:
        return None
    notify(f"the worker of run {parent.id} is gone; a new worker finishes that run first")
    return follow(services, parent, people)


def pause(run: RunId, *, reason: Reason = "") -> None:
    """Start no further step of a run. Running steps finish."""
    with engine_only(load_settings()) as engine:
        record = _active_run(engine, run)
        control.pause(engine, record.id, reason)
    notify(f"run {record.id} is paused; to continue: esync resume {record.id}")


def resume(run: RunId) -> None:
    """Continue a paused run."""
    with engine_only(load_settings()) as engine:
        record = _active_run(engine, run)
        control.resume(engine, record.id)
    notify(f"run {record.id} continues")


def cancel(run: RunId, *, reason: Reason = "") -> None:
    """Stop a run at the next safe point. Nodes finish their current step."""
    with engine_only(load_settings()) as engine:
        record = _active_run(engine, run)
        control.cancel(engine, record.id, reason)
    stopping = f"run {record.id} is stopping; to see its end: esync watch {record.id}"
    notify(stopping if is_active(record) else f"run {record.id} has ended already: {record.verdict}")


def _active_run(engine: Engine, name: str) -> RunRecord:
    """The run of that id, or the newest active one for `last`."""
    return find_run(engine, name, is_active, "active run")


#: In the order of `esync --help`.
VERBS: tuple[Callable[..., None], ...] = (plan, rollout, watch, retry, pause, resume, cancel)
