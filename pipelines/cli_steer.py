"""The verbs that plan a run and steer it: plan, retry, pause, resume, cancel. Thin."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines import commands, steer
from pipelines.attend import attend, say, watch, write_report
from pipelines.console import (
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
    people_console,
    pretty,
    run_named,
    status_of,
)
from pipelines.inventory import load_cluster
from pipelines.plan_file import SavedPlan
from pipelines.plan_text import plan_lines
from pipelines.services import looking, working
from workers.errors import InputRefused
from workers.records import RunState
from workers.settings import load_settings

__all__ = ["VERBS"]


def plan(
    file: ClusterFile,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save it, for `esync rollout FILE`.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Show what a rollout would change, node by node. Exit 0: nothing; 2: changes."""
    cluster = load_cluster(file)
    people = people_console()
    say(people, f"plan for cluster {described(cluster)}")
    with working(load_settings(), lambda text: say(people, text), kind="plan") as services:
        shown = attend(services, cluster, people, kind="plan", reason=reason)
        if shown.verdict not in {"changes_pending", "nothing_to_do"}:
            raise Ended(status_of(shown))
        saved = commands.saved_plan(services.engine, shown.run)
    if as_json:
        data(saved.model_dump(mode="json"))
    else:
        typer.echo("\n".join(plan_lines(cluster, saved.plan)))
    if output is not None:
        _save(saved, output)
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
    chosen = {"failed": failed, "unreachable": unreachable, "not_started": not_started}
    which = {name for name, wanted in chosen.items() if wanted} or steer.RETRIABLE
    people = people_console()
    with working(load_settings(), lambda text: say(people, text), kind="rollout") as services:
        parent = run_named(services.engine, run)
        confirm(yes=yes)
        record = steer.retry(services.engine, parent.id, which, reason=reason)
        say(people, f"run {record.id} takes up {', '.join(record.only)} of {parent.id}")
        shown = watch(services, record, people)
    if report is not None:
        say(people, f"report: {write_report(shown, report)}")
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


def pause(run: RunId, *, reason: Reason = "") -> None:
    """Let no further step of a run begin. Steps in the middle end."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run)
        steer.pause(engine, record.id, reason)
    say(people_console(), f"run {record.id} is paused; go on: esync resume {record.id}")


def resume(run: RunId) -> None:
    """Let a paused run go on."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run)
        steer.resume(engine, record.id)
    say(people_console(), f"run {record.id} goes on")


def cancel(run: RunId, *, reason: Reason = "") -> None:
    """Ask a run to stop at the next safe point. Nodes finish the step they are in."""
    with looking(load_settings()) as engine:
        record = run_named(engine, run)
        steer.cancel(engine, record.id, reason)
    over = record.state is RunState.CONCLUDED
    say(people_console(), f"run {record.id} has ended already" if over else f"run {record.id} was asked to stop")


def _save(saved: SavedPlan, output: Path) -> None:
    """Whole or not at all: written beside, then moved into place."""
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        fresh.write_text(saved.model_dump_json() + "\n", "utf-8")
        fresh.replace(output)
    except OSError as error:
        raise InputRefused(f"the plan cannot be written: {error.strerror}", file=str(output)) from None


#: In the order `esync --help` shows them.
VERBS: tuple[Callable[..., Any], ...] = (plan, retry, pause, resume, cancel)
