"""The verbs that steer runs: pause, resume, promote, approve, cancel. Thin."""

from typing import Annotated

import typer

from pipelines.cli.console import Reason, RunId, Yes, confirm, notify, print_text, stdout_console
from pipelines.cli.results import find_run, is_active
from pipelines.engine import Engine
from pipelines.local.reading import engine_only
from pipelines.report.plan_text import plan_lines
from pipelines.run.groups import is_group
from pipelines.usecases import control, runs
from pipelines.usecases.listing import runs_of_group
from pipelines.usecases.origin import user
from tasks.ektron.wording import counted
from tasks.steering import Steering
from workers.records import RunRecord
from workers.settings import load_settings

__all__ = ["approve", "cancel", "pause", "promote", "resume"]


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


def promote(
    run: RunId, *, by: Annotated[str, typer.Option("--by", help="Who decided it, for the history.")] = ""
) -> None:
    """Let a held run begin its next wave (policy.hold)."""
    with engine_only(load_settings()) as engine:
        record = _active_run(engine, run)
        turn = control.promote(engine, record.id, by)
        paused = Steering.of(engine.store, record.id).paused
    notify(f"run {record.id} begins {turn}{f' when it is resumed: esync resume {record.id}' if paused else ''}")


def approve(run: RunId, *, yes: Yes = False) -> None:
    """Approve the plan of a run that another person requested (policy.approval)."""
    with engine_only(load_settings()) as engine:
        record = _active_run(engine, run)
        known = runs.summary(engine, record.id)
        if known.plan is not None and known.unapproved:
            print_text(stdout_console(), "\n".join(plan_lines(known.cluster, known.plan, record.only)))
            confirm(yes=yes, what="lets a run change servers")
        control.approve(engine, record.id, who=user(), plan=known.plan.fingerprint if known.plan else "")
    notify(f"run {record.id} begins to change servers")


def cancel(run: RunId, *, reason: Reason = "") -> None:
    """Stop a run at the next safe point. Nodes finish their current step."""
    with engine_only(load_settings()) as engine:
        if several := control.cancel_group(engine, run, reason):
            notify(f"{counted(len(several), 'run')} of group {run} are stopping; to see their end: esync watch {run}")
            return
        if is_group(run) and runs_of_group(engine.store, run):
            notify(f"the runs of group {run} have ended already; to see how: esync status {run}")
            return
        record = _active_run(engine, run)
        control.cancel(engine, record.id, reason)
    stopping = f"run {record.id} is stopping; to see its end: esync watch {record.id}"
    notify(stopping if is_active(record) else f"run {record.id} has ended already: {record.verdict}")


def _active_run(engine: Engine, name: str) -> RunRecord:
    """The run of that id, or the newest active one for `last`."""
    return find_run(engine, name, is_active, "active run")
