"""Steering a run: pause, resume and cancel while it goes on, retry when it has ended."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.node_results import NodeResult
from pipelines.usecases.runs import RunSummary, start, summary, user
from tasks.steering import CANCEL, PAUSE, RESUMED, Steering
from workers.celery_app import CONTROL_QUEUE
from workers.errors import InputRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, Status

__all__ = ["RETRIABLE", "cancel", "pause", "resume", "retry", "unfinished"]

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
    instead = kind_of(parent.kind, run_id).retry
    if instead:
        raise InputRefused(
            f"run {run_id} is a {parent.kind}; only a rollout can be retried",
            remedy=instead.format(parent=parent.parent),
        )
    if parent.state is not RunState.CONCLUDED:
        raise InputRefused(
            f"run {run_id} still goes on",
            remedy=f"see its end: esync watch {run_id}; or stop it: esync cancel {run_id}",
        )
    left = _left(engine, known)
    eligible = tuple(node for node, kind in left.items() if kind in which)
    if not eligible:
        raise _nothing(run_id, left, which)
    family = engine.documents(parent).family()
    return start(engine, known.cluster, kind=parent.kind, parent=run_id, only=eligible, family=family, **asked)


def unfinished(engine: Engine, run_id: str) -> dict[str, str]:
    """The nodes that a run, and those it retries, left: `failed`, `unreachable` or `not_started`.

    Raises:
        RunUnknown: there is no such run.
    """
    return {node: kind for node, kind in _left(engine, summary(engine, run_id)).items() if kind}


def _left(engine: Engine, known: RunSummary) -> dict[str, str]:
    """What each node is to a retry; empty when it is done. A node that a retry was to leave alone is as before it."""
    left = {result.node: _kind(result) for result in known.nodes if _asked(known.record, result.node)}
    if known.record.parent and len(left) < len(known.nodes):
        with suppress(RunUnknown):  # too old to be kept: what it left is not known any more
            left = _left(engine, summary(engine, known.record.parent)) | left
    return left


def _asked(record: RunRecord, node: str) -> bool:
    return not record.only or node in record.only


def _nothing(run_id: str, left: Mapping[str, str], which: Collection[str]) -> InputRefused:
    other = ", ".join(f"{node} {kind.replace('_', ' ')}" for node, kind in islice(left.items(), 12) if kind)
    if not other:
        return InputRefused(
            f"nothing of run {run_id} is left: no node failed, was unreachable or was not started",
            remedy="look whether all is well: esync verify FILE",
        )
    options = ", ".join(f"--{kind.replace('_', '-')}" for kind in sorted({kind for kind in left.values() if kind}))
    chosen = " or ".join(kind.replace("_", " ") for kind in sorted(which))
    return InputRefused(f"no node of run {run_id} is {chosen}; left are {other}", remedy=f"choose {options}, or all")


def _kind(result: NodeResult) -> str:
    """What a node's result is to a retry; empty when it is done."""
    if result.status is Status.UNREACHABLE:
        return "unreachable"
    if result.status is Status.FAILED:
        return "failed"
    return "not_started" if result.status in {Status.SKIPPED, Status.CANCELLED} else ""


def pause(engine: Engine, run_id: str, why: str = "") -> None:
    """Lets no further step begin; steps in the middle end.

    Raises:
        InputRefused: the run has ended, or is being cancelled.
        RunUnknown: there is no such run.
    """
    _still_steered(engine, run_id)
    value = why or f"by {user()}"
    engine.store.flag(run_id, PAUSE, value)
    engine.store.note(run_id, Event(kind="run.pause_asked", message=value))


def resume(engine: Engine, run_id: str) -> None:
    """Lets a paused run go on, now.

    Raises:
        InputRefused: the run has ended, or is being cancelled.
        RunUnknown: there is no such run.
    """
    if _still_steered(engine, run_id).paused:
        # In this order: should this process end in between, the run is paused or goes on, and never just lies there.
        engine.store.flag(run_id, RESUMED)
        engine.store.flag(run_id, PAUSE, "")
    engine.store.note(run_id, Event(kind="run.resume_asked"))
    _look_now(engine, run_id)


def _still_steered(engine: Engine, run_id: str) -> Steering:
    """What a run is told so far, where it can be told anything else."""
    record = engine.store.run(run_id)
    if record.state is RunState.CONCLUDED:
        raise InputRefused(f"run {run_id} has ended: {record.verdict}")
    steering = Steering.of(engine.store.flags(run_id))
    if steering.cancelled:
        raise InputRefused(
            f"run {run_id} is being cancelled ({steering.cancelled}); that cannot be taken back",
            remedy=f"see its end: esync watch {run_id}; then take up what is left: esync retry {run_id}",
        )
    return steering


def cancel(engine: Engine, run_id: str, why: str = "") -> None:
    """Asks a run to stop at the next safe point; nodes in the middle of a step finish it. An ended run is left alone.

    A paused run is cancelled as well.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    if record.state is not RunState.CONCLUDED:
        engine.store.flag(run_id, CANCEL, why or f"by {user()}")
        engine.store.note(run_id, Event(kind="run.cancel_asked", message=why))
        _look_now(engine, run_id)


def _look_now(engine: Engine, run_id: str) -> None:
    """Has some worker look at the run at once; should the message get lost, the reconciler sees the flags."""
    engine.app.send_task("esync.begin", args=(run_id,), queue=CONTROL_QUEUE, ignore_result=True)
