"""The verbs that steer runs: pause, resume, promote, approve, cancel. Thin."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.cli import steering
from pipelines.cli.console import Reason, RunId, RunOrGroup, Yes, confirm, notify, print_text, stdout_console
from pipelines.cli.results import find_run, is_active
from pipelines.engine import Engine
from pipelines.local.reading import engine_only
from pipelines.report.plan_text import plan_lines
from pipelines.usecases import control, runs
from pipelines.usecases.listing import runs_of_group
from pipelines.usecases.origin import user
from tasks.steering import Steering
from workers.records import RunRecord
from workers.settings import load_settings

__all__ = ["approve", "cancel", "pause", "promote", "resume"]


class SteeredRuns:
    """The runs of a store: see Steered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def active(self, name: str) -> RunRecord:
        """See Steered."""
        return find_run(self._engine, name, is_active, "active run")

    def of_group(self, group: str) -> Sequence[str]:
        """See Steered."""
        return runs_of_group(self._engine.store, group)

    def steering(self, run: str) -> Steering | None:
        """See Steered."""
        store = self._engine.store
        return Steering.of(store, run) if is_active(store.run(run)) else None

    def pause(self, run: str, reason: str) -> None:
        """See Steered."""
        control.pause(self._engine, run, reason)

    def resume(self, run: str) -> None:
        """See Steered."""
        control.resume(self._engine, run)

    def promote(self, run: str, by: str) -> str:
        """See Steered."""
        return control.promote(self._engine, run, by)

    def cancel(self, run: str, reason: str) -> None:
        """See Steered."""
        control.cancel(self._engine, run, reason)


def pause(run: RunOrGroup, *, reason: Reason = "") -> None:
    """Start no further step of a run. Running steps finish."""
    with engine_only(load_settings()) as engine:
        steering.pause(SteeredRuns(engine), run, reason)


def resume(run: RunOrGroup) -> None:
    """Continue a paused run."""
    with engine_only(load_settings()) as engine:
        steering.resume(SteeredRuns(engine), run)


def promote(
    run: RunOrGroup, *, by: Annotated[str, typer.Option("--by", help="Who decided it, for the history.")] = ""
) -> None:
    """Let a held run begin its next wave (policy.hold)."""
    with engine_only(load_settings()) as engine:
        steering.promote(SteeredRuns(engine), run, by)


def approve(run: RunId, *, yes: Yes = False) -> None:
    """Approve the plan of a run that another person requested (policy.approval)."""
    with engine_only(load_settings()) as engine:
        record = SteeredRuns(engine).active(run)
        known = runs.summary(engine, record.id)
        if known.plan is not None and known.unapproved:
            print_text(stdout_console(), "\n".join(plan_lines(known.cluster, known.plan, record.only)))
            confirm(yes=yes, what="lets a run change servers")
        control.approve(engine, record.id, who=user(), plan=known.plan.fingerprint if known.plan else "")
    notify(f"run {record.id} begins to change servers")


def cancel(run: RunOrGroup, *, reason: Reason = "") -> None:
    """Stop a run at the next safe point. Nodes finish their current step."""
    with engine_only(load_settings()) as engine:
        steering.cancel(SteeredRuns(engine), run, reason)
