"""The verbs that plan a run and steer it: plan, watch, retry, pause, resume, cancel. Thin."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    Ended,
    Reason,
    ReportFolder,
    RunId,
    Yes,
    confirm,
    data,
    described,
    goes_on,
    is_planned,
    people_console,
    pretty,
    require_consent,
    run_named,
    status_of,
)
from pipelines.cli.follow import attend, say, write_report
from pipelines.cli.follow import watch as to_its_end
from pipelines.cli.output import OutputFile
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.services import Running, looking, working
from pipelines.local.state import who_runs
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.usecases import control, runs
from tasks.steering import Steering
from workers.host.private import write_private
from workers.records import RunRecord, Verdict
from workers.settings import load_settings

__all__ = ["VERBS"]

GOING_ON = "run that goes on"  #: what `last` is to verbs that steer one


def plan(
    file: ClusterFile,
    *,
    output: OutputFile = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Show what a rollout would change, node by node. Exit 0: nothing; 2: changes; others: there is no plan."""
    cluster = load_cluster(file)
    people = people_console()
    say(people, f"plan for cluster {described(cluster)}")
    with working(load_settings(), lambda text: say(people, text), kind="plan") as services:
        shown = attend(services, cluster, people, kind="plan", reason=reason)
        if not is_planned(shown):
            raise Ended(_without_plan(shown, as_json=as_json))
        saved = runs.saved_plan(services.engine, shown.run)
    if output is not None:
        write_private(output, saved.model_dump_json() + "\n")
    if as_json:
        data(saved.model_dump(mode="json"))
    else:
        say(Console(highlight=False), "\n".join(plan_lines(cluster, saved.plan)))
    if output is not None:
        say(people, f"apply exactly this: esync rollout {output}")
    raise Ended(status_of(shown))


def retry(  # noqa: PLR0913 - a command's options
    run: RunId = "last",
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Nodes that failed.")] = False,
    unreachable: Annotated[bool, typer.Option("--unreachable", help="Nodes that did not answer.")] = False,
    not_started: Annotated[bool, typer.Option("--not-started", help="Nodes the run did not get to.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take up what a run left, on those nodes only and with the same certificates. All three kinds by default."""
    require_consent(yes=yes)
    chosen = {"failed": failed, "unreachable": unreachable, "not_started": not_started}
    which = {name for name, wanted in chosen.items() if wanted} or control.RETRIABLE
    people = people_console()
    with working(load_settings(), lambda text: say(people, text), kind="rollout") as services:
        parent = run_named(services.engine, run, _is_rollout, "rollout")
        shown = _first_its_end(services, parent, people)
        if shown is None or control.unfinished(services.engine, parent.id):
            confirm(yes=yes)
            record = control.retry(services.engine, parent.id, which, reason=reason)
            say(people, f"run {record.id} takes up {', '.join(record.only)} of {parent.id}")
            shown = to_its_end(services, record, people)
    if report is not None:
        say(people, f"report: {write_report(shown, report)}")
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


def watch(run: RunId = "last", *, as_json: AsJson = False) -> None:
    """Stay with a run until it ends; exit by its verdict. Where its worker went with its command, bring one back."""
    people, settings = people_console(), load_settings()
    with looking(settings) as engine:
        record = run_named(engine, run)
        orphan = goes_on(record) and not settings.broker_url and not who_runs(settings.state)
        shown = None if orphan else to_its_end(Running(engine), record, people)
    if shown is None:
        with working(settings, lambda text: say(people, text), kind="watch") as services:
            say(people, f"the worker of run {record.id} is gone; a new one goes on with it in less than a minute")
            shown = to_its_end(services, record, people)
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


def pause(run: RunId, *, reason: Reason = "") -> None:
    """Let no further step of a run begin. Steps in the middle end."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run, goes_on, GOING_ON)
        control.pause(engine, record.id, reason)
    say(people_console(), f"run {record.id} is paused; go on: esync resume {record.id}")


def resume(run: RunId) -> None:
    """Let a paused run go on."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run, goes_on, GOING_ON)
        control.resume(engine, record.id)
    say(people_console(), f"run {record.id} goes on")


def cancel(run: RunId, *, reason: Reason = "") -> None:
    """Ask a run to stop at the next safe point. Nodes finish the step they are in."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run, goes_on, GOING_ON)
        control.cancel(engine, record.id, reason)
    asked = f"run {record.id} was asked to stop; see its end: esync watch {record.id}"
    say(people_console(), asked if goes_on(record) else f"run {record.id} has ended already: {record.verdict}")


def _is_rollout(record: RunRecord) -> bool:
    return record.kind == "rollout"


def _first_its_end(services: Running, parent: RunRecord, people: Console) -> Report | None:
    """A run whose worker went with its command is brought to its end, by the worker of this command."""
    if not services.own or not goes_on(parent) or Steering.of(services.engine.store, parent.id).paused:
        return None
    say(people, f"the worker of run {parent.id} is gone; first a new one brings it to its end")
    return to_its_end(services, parent, people)


def _without_plan(shown: Report, *, as_json: bool) -> int:
    """There is no plan, and why. Not 2, which says that changes are pending."""
    if as_json:
        data({"error": "no_plan", "message": shown.summary, "file": "", "remedy": "", "run": shown.run})
    return Verdict.INCONCLUSIVE.exit_code if shown.verdict == Verdict.FAILED else status_of(shown)


#: In the order `esync --help` shows them.
VERBS: tuple[Callable[..., Any], ...] = (plan, watch, retry, pause, resume, cancel)
