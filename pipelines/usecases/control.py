"""Steering a run: pause, resume, promote and cancel while it is active, retry when it has ended."""

import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import islice
from typing import Unpack

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.evidence import APPROVED
from pipelines.run.node_results import NodeResult
from pipelines.usecases.listing import each_run_of
from pipelines.usecases.origin import Origin, user
from pipelines.usecases.runs import RunSummary, ended_run, start, summary
from tasks.ektron.certificates.family import Family
from tasks.steering import Steering, let_begin, request_cancel, request_pause, request_resume, verb_for_held
from workers.broker.names import CONTROL_QUEUE
from workers.errors import InputRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, Status
from workers.texts import cleaned

__all__ = ["RETRIABLE", "approve", "cancel", "pause", "promote", "resume", "retry", "unfinished"]

#: What a retry may include.
RETRIABLE = frozenset({"failed", "unreachable", "not_started"})


def retry(engine: Engine, run_id: str, which: Collection[str] = RETRIABLE, **origin: Unpack[Origin]) -> RunRecord:
    """Starts a run on the nodes that an earlier run left unfinished, with the certificates that it has handed out.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        which: of `failed`, `unreachable`, `not_started`.
        origin: who requests the retry, from where and why.

    Raises:
        InputRefused: the run has not ended, is not a rollout, no node is eligible, or a later run has handed out other
            certificates; the message gives the reason.
        RunUnknown: there is no such run.
    """
    known = _retriable(engine, run_id)
    only = () if _begins_again(known) else _eligible(engine, known, which)
    family = engine.documents(known.record).family() if _handed_out(engine, known.record) else None
    if family and only:
        _require_newest(engine, known, family)
    kind, options = known.record.kind, known.record.options
    return start(engine, known.cluster, kind=kind, parent=run_id, only=only, options=options, family=family, **origin)


def _handed_out(engine: Engine, record: RunRecord) -> bool:
    """Whether a node may have the certificates of a run: that run, or one that it retries, has begun to change nodes.

    Else the nodes may have got others since, from the origin or from another run: these are the ones that count.
    """
    if kind_of(record.kind, record.id).changing_turns(record):
        return True
    with suppress(RunUnknown):
        return bool(record.parent) and _handed_out(engine, engine.store.run(record.parent))
    return True  # its parent is too old to be kept: what that has changed is unknown


def _require_newest(engine: Engine, known: RunSummary, family: Family) -> None:
    """Passes unless a later run of the cluster has handed out other certificates: the nodes would refuse each other.

    Raises:
        InputRefused: one has; the message names it.
    """
    for later in each_run_of(engine.store, [known.cluster]):
        if later.id == known.record.id:
            return
        other = (
            engine.documents(later).family_digests() if kind_of(later.kind, later.id).changing_turns(later) else None
        )
        if other is not None and other.hashes != family.hashes:
            raise InputRefused(
                f"run {later.id} has handed out other certificates since run {known.record.id}, and with those of that "
                "run its nodes and the others would refuse each other; nothing was started",
                remedy="begin anew, with the present certificates: esync rollout FILE",
            )


def nodes_to_retry(engine: Engine, run_id: str, which: Collection[str] = RETRIABLE) -> tuple[str, ...]:
    """The nodes that a retry of a run would finish; see `retry` for arguments and errors. Contacts no server."""
    known = _retriable(engine, run_id)
    return known.cluster.node_names if _begins_again(known) else _eligible(engine, known, which)


def _retriable(engine: Engine, run_id: str) -> RunSummary:
    parent = engine.store.run(run_id)
    instead = kind_of(parent.kind, run_id).retry
    if instead:
        raise InputRefused(
            f"run {run_id} is a {parent.kind}; only a rollout can be retried",
            remedy=instead.format(parent=parent.parent),
        )
    return ended_run(engine, run_id)


def _begins_again(known: RunSummary) -> bool:
    """Whether a retry takes all nodes again: none of them may be ahead of the others."""
    return known.kind.whole and not _ended_well(known.record)


def _eligible(engine: Engine, known: RunSummary, which: Collection[str]) -> tuple[str, ...]:
    left = _left(engine, known)
    eligible = tuple(node for node, kind in left.items() if kind in which)
    if not eligible:
        raise _nothing(known.record.id, left, which)
    return eligible


def _ended_well(record: RunRecord) -> bool:
    return record.verdict is not None and record.verdict.exit_code == 0


def unfinished(engine: Engine, run_id: str) -> dict[str, str]:
    """The nodes that a run, and the runs it retries, left unfinished: `failed`, `unreachable` or `not_started`.

    Of a run that takes all nodes or none, each node is left until the run has succeeded.

    Raises:
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    if _begins_again(known):
        return dict.fromkeys(known.cluster.node_names, "not_started")
    return {node: kind for node, kind in _left(engine, known).items() if kind}


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


def pause(engine: Engine, run_id: str, why: str = "", by: str = "") -> None:
    """Pauses a run: no further step starts; running steps finish.

    Args:
        engine: where.
        run_id: the run.
        why: the reason.
        by: who asks, and from where; this user when empty.

    Raises:
        InputRefused: the run has ended, or is being cancelled.
        RunUnknown: there is no such run.
    """
    _steering_of_active(engine, run_id)
    reason = _said(why, by)
    request_pause(engine.store, run_id, reason)
    engine.store.note(run_id, Event(kind="run.pause_asked", message=reason))


def resume(engine: Engine, run_id: str, by: str = "") -> None:
    """Continues a paused run at once. `by` as in `pause`.

    Raises:
        InputRefused: the run has ended, is being cancelled, or waits for something else.
        RunUnknown: there is no such run.
    """
    steering = _steering_of_active(engine, run_id)
    if steering.held and not steering.paused:
        verb = verb_for_held(unapproved=steering.unapproved)
        raise InputRefused(
            f"run {run_id} is not paused: it is held before {steering.held}",
            remedy=f"to let it begin: esync {verb} {run_id}",
        )
    if steering.paused:
        request_resume(engine.store, run_id)
    engine.store.note(run_id, Event(kind="run.resume_asked", message=_said("", by)))
    _check_now(engine, run_id)


def promote(engine: Engine, run_id: str, who: str = "", turn: str = "") -> str:
    """Lets a held run begin its next wave, at once or when it is resumed. Returns the turn that begins.

    Args:
        engine: where.
        run_id: the run.
        who: the person who decided it; this user when empty.
        turn: the turn that is meant: a request that is repeated lets no later wave begin. Empty for the present one.

    Raises:
        InputRefused: the run is not held, or before another turn, has ended, or is being cancelled; or it waits for
            a second person (`approve`).
        RunUnknown: there is no such run.
    """
    steering = _steering_of_active(engine, run_id)
    held = steering.held
    if not held or turn not in {"", held}:
        before = f" before {turn}" if turn else ""
        now = f": it is held before {held}" if held else ""
        raise InputRefused(f"run {run_id} is not held{before}{now}", remedy=f"look at it: esync status {run_id}")
    if steering.unapproved:
        raise InputRefused(
            f"run {run_id} waits for the approval of its plan by a second person (policy.approval)",
            remedy=f"that person looks at the plan and approves it: esync approve {run_id}",
        )
    let_begin(engine.store, run_id, held, Event(kind="run.promoted", turn=held, message=f"by {who or user()}"))
    _check_now(engine, run_id)
    return held


def approve(engine: Engine, run_id: str, *, who: str, where: str = "", plan: str = "") -> None:
    """Lets a run begin to change servers whose plan waits for a second person (`policy.approval`).

    Args:
        engine: where.
        run_id: the run.
        who: the person who has looked at the plan; not the one who requested the run.
        where: the machine that the approval comes from; this one when empty.
        plan: fingerprint of the plan that the person has seen; empty for the present one.

    Raises:
        InputRefused: the run does not wait for an approval; the same person requested it; or its plan has changed.
        RunUnknown: there is no such run.
    """
    steering = _steering_of_active(engine, run_id)
    if not steering.unapproved:
        raise InputRefused(f"run {run_id} does not wait for an approval", remedy=f"look at it: esync status {run_id}")
    record = engine.store.run(run_id)
    if who.strip().casefold() == record.who.strip().casefold():
        raise InputRefused(
            f"{who} requested run {run_id} and cannot approve its plan as well (policy.approval: second-person)",
            remedy="another person approves it, under another name",
        )
    known = summary(engine, run_id).plan
    fingerprint = known.fingerprint if known else ""
    if plan not in {"", fingerprint}:
        raise InputRefused(f"run {run_id} waits with another plan", remedy="look at its plan again, then approve that")
    message = APPROVED.format(who=cleaned(who), where=cleaned(where or socket.gethostname()))
    approved = Event(kind="run.approved", turn=steering.held, digest=fingerprint, message=message)
    let_begin(engine.store, run_id, steering.held, approved)
    _check_now(engine, run_id)


def _said(why: str, by: str) -> str:
    """The reason of a request, and who made it."""
    return f"{why} (by {by})" if why and by else why or f"by {by or user()}"


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


def cancel(engine: Engine, run_id: str, why: str = "", by: str = "") -> None:
    """Cancels a run, paused or not: it stops at the next safe point. Has no effect on a run that has ended.

    `by` as in `pause`.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    if record.state is not RunState.CONCLUDED:
        reason = _said(why, by)
        request_cancel(engine.store, run_id, reason)
        engine.store.note(run_id, Event(kind="run.cancel_asked", message=reason if by else why))
        _check_now(engine, run_id)


def _check_now(engine: Engine, run_id: str) -> None:
    """Asks a worker to check the run at once; if the message is lost, the reconciler sees the flags."""
    engine.app.send_task("esync.begin", args=(run_id,), queue=CONTROL_QUEUE, ignore_result=True)
