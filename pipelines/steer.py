"""Steering a run: pause, resume and cancel while it goes on, retry when it has ended."""

from collections.abc import Collection
from typing import Any

from pipelines.commands import NodeResult, start, summary, user
from pipelines.engine import Engine
from tasks.runner import CANCEL, PAUSE
from workers.errors import InputRefused
from workers.records import Event, RunRecord, RunState, Status

__all__ = ["RETRIABLE", "cancel", "pause", "resume", "retry"]

#: What a retry may take up.
RETRIABLE = frozenset({"failed", "unreachable", "not_started"})


def retry(engine: Engine, run_id: str, which: Collection[str] = RETRIABLE, **asked: Any) -> RunRecord:  # noqa: ANN401 - Asked checks them
    """Starts a run that takes up what an earlier one left: with its own family, on those nodes only.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        which: of `failed`, `unreachable`, `not_started`.
        asked: the fields of `Asked`.

    Raises:
        InputRefused: the run goes on, is no rollout, or no node is eligible; the reason is named.
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    parent = known.record
    if parent.kind != "rollout":
        raise InputRefused(f"run {run_id} is a {parent.kind}; only a rollout can be retried")
    if parent.state is not RunState.CONCLUDED:
        raise InputRefused(f"run {run_id} still goes on", remedy=f"wait for it, or cancel it: esync cancel {run_id}")
    eligible = {result.node: left for result in known.nodes if (left := _left(result)) in which}
    if not eligible:
        states = ", ".join(f"{result.node} {_left(result) or result.status}" for result in known.nodes[:12])
        raise InputRefused(f"nothing of run {run_id} can be retried as {', '.join(sorted(which))}: {states}")
    family = engine.material(parent).family()
    return start(engine, known.cluster, parent=run_id, only=tuple(eligible), family=family, **asked)


def _left(result: NodeResult) -> str:
    """What a node is to a retry; empty when it is done."""
    if result.status is Status.UNREACHABLE:
        return "unreachable"
    if result.status is Status.FAILED:
        return "failed"
    return "not_started" if result.status in {Status.SKIPPED, Status.CANCELLED} else ""


def pause(engine: Engine, run_id: str, why: str = "") -> None:
    """Lets no further step begin; steps in the middle end.

    Raises:
        InputRefused: the run has ended.
        RunUnknown: there is no such run.
    """
    _steer(engine, run_id, PAUSE, why or f"by {user()}")


def resume(engine: Engine, run_id: str) -> None:
    """Lets a paused run go on.

    Raises:
        InputRefused: the run has ended.
        RunUnknown: there is no such run.
    """
    _steer(engine, run_id, PAUSE, "")


def _steer(engine: Engine, run_id: str, flag: str, value: str) -> None:
    record = engine.store.run(run_id)
    if record.state is RunState.CONCLUDED:
        raise InputRefused(f"run {run_id} has ended: {record.verdict}")
    engine.store.flag(run_id, flag, value)
    word = flag if value else "resume"
    engine.store.note(run_id, Event(kind=f"run.{word}_asked", message=value))


def cancel(engine: Engine, run_id: str, why: str) -> None:
    """Asks a run to stop at the next safe point; nodes in the middle of a step finish it.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    if record.state is not RunState.CONCLUDED:
        engine.store.flag(run_id, CANCEL, why or f"by {user()}")
        engine.store.note(run_id, Event(kind="run.cancel_asked", message=why))
