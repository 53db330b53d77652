"""Steering a run: pause, resume and cancel while it is active, retry when it has ended."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import islice
from typing import Unpack

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.node_results import NodeResult
from pipelines.usecases.runs import Origin, RunSummary, ended_run, start, summary, user
from tasks.steering import Steering, request_cancel, request_pause, request_resume
from workers.celery_app import CONTROL_QUEUE
from workers.errors import InputRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, Status

__all__ = ["RETRIABLE", "cancel", "pause", "resume", "retry", "unfinished"]

#: What a retry may include.
RETRIABLE = frozenset({"failed", "unreachable", "not_started"})


def retry(engine: Engine, run_id: str, which: Collection[str] = RETRIABLE, **origin: Unpack[Origin]) -> RunRecord:
    """Starts a run on the nodes that an earlier run left unfinished, with the certificate family of that run.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        which: of `failed`, `unreachable`, `not_started`.
        origin: who requests the retry, from where and why.

    Raises:
        InputRefused: the run has not ended, is not a rollout, or no node is eligible; the message gives the reason.
        RunUnknown: there is no such run.
    """
    parent = engine.store.run(run_id)
    instead = kind_of(parent.kind, run_id).retry
    if instead:
        raise InputRefused(
            f"run {run_id} is a {parent.kind}; only a rollout can be retried",
            remedy=instead.format(parent=parent.parent),
        )
    known = ended_run(engine, run_id)
    left = _left(engine, known)
    eligible = tuple(node for node, kind in left.items() if kind in which)
    if not eligible:
        raise _nothing(run_id, left, which)
    family = engine.documents(parent).family()
    return start(engine, known.cluster, kind=parent.kind, parent=run_id, only=eligible, family=family, **origin)


def unfinished(engine: Engine, run_id: str) -> dict[str, str]:
    """The nodes that a run, and the runs it retries, left unfinished: `failed`, `unreachable` or `not_started`.

    Raises:
        RunUnknown: there is no such run.
    """
    return {node: kind for node, kind in _left(engine, summary(engine, run_id)).items() if kind}


def _left(engine: Engine, known: RunSummary) -> dict[str, str]:
    """What each node is to a retry; empty when it is done. A node that was not selected is as the parent left it."""
    only = frozenset(known.record.only)
    left = {result.node: _kind(result) for result in known.nodes if not only or result.node in only}
    if known.record.parent and len(left) < len(known.nodes):
        with suppress(RunUnknown):  # too old to be kept: what it left is unknown
            left = _left(engine, summary(engine, known.record.parent)) | left
    return left


def _nothing(run_id: str, left: Mapping[str, str], which: Collection[str]) -> InputRefused:
    other = ", ".join(f"{node} {kind.replace('_', ' ')}" for node, kind in islice(left.items(), 12) if kind)
    if not other:
        return InputRefused(
            f"run {run_id} left nothing to retry: no node failed, was unreachable or was not started",
            remedy="check the cluster: esync verify FILE",
        )
    options = ", ".join(f"--{kind.replace('_', '-')}" for kind in sorted({kind for kind in left.values() if kind}))
    chosen = " or ".join(kind.replace("_", " ") for kind in sorted(which))
    return InputRefused(f"no node of run {run_id} is {chosen}; left are {other}", remedy=f"choose {options}, or all")


def _kind(result: NodeResult) -> str:
    """What a node's result is to a retry; empty when it is done."""
    if result.status in {Status.UNREACHABLE, Status.FAILED}:
        return result.status.value
    return "not_started" if result.status in {Status.SKIPPED, Status.CANCELLED} else ""


def pause(engine: Engine, run_id: str, why: str = "") -> None:
    """Pauses a run: no further step starts; running steps finish.

    Raises:
        InputRefused: the run has ended, or is being cancelled.
        RunUnknown: there is no such run.
    """
    _steering_of_active(engine, run_id)
    reason = why or f"by {user()}"
    request_pause(engine.store, run_id, reason)
    engine.store.note(run_id, Event(kind="run.pause_asked", message=reason))


def resume(engine: Engine, run_id: str) -> None:
    """Continues a paused run at once.

    Raises:
        InputRefused: the run has ended, or is being cancelled.
        RunUnknown: there is no such run.
    """
    if _steering_of_active(engine, run_id).paused:
        request_resume(engine.store, run_id)
    engine.store.note(run_id, Event(kind="run.resume_asked"))
    _check_now(engine, run_id)


def _steering_of_active(engine: Engine, run_id: str) -> Steering:
    """The requests that apply to a run which can still be paused or resumed."""
    record = engine.store.run(run_id)
    if record.state is RunState.CONCLUDED:
        raise InputRefused(f"run {run_id} has ended: {record.verdict}")
    steering = Steering.of(engine.store, run_id)
    if steering.cancelled:
        raise InputRefused(
            f"run {run_id} is being cancelled ({steering.cancelled}); a cancel is final",
            remedy=f"wait for it: esync watch {run_id}; then retry what is left: esync retry {run_id}",
        )
    return steering


def cancel(engine: Engine, run_id: str, why: str = "") -> None:
    """Cancels a run, paused or not: it stops at the next safe point. Has no effect on a run that has ended.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    if record.state is not RunState.CONCLUDED:
        request_cancel(engine.store, run_id, why or f"by {user()}")
        engine.store.note(run_id, Event(kind="run.cancel_asked", message=why))
        _check_now(engine, run_id)


def _check_now(engine: Engine, run_id: str) -> None:
    """Asks a worker to check the run at once; if the message is lost, the reconciler sees the flags."""
    engine.app.send_task("esync.begin", args=(run_id,), queue=CONTROL_QUEUE, ignore_result=True)
