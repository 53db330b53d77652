"""Moves a run from turn to turn: sends the messages of a turn, joins it, and saves the decision. The only writer.

Decisions are pure (`pipelines.run`); this module saves them. Messages carry ids only. The join is idempotent: the
chord's errback and the reconciler also call it.
"""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress

from celery import chain, chord
from celery.canvas import Signature

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.abandoned import Ending, missing_steps, outcome_of
from pipelines.run.evidence import conclusion, evidence_of
from pipelines.run.snapshot import Snapshot, Stop
from pipelines.run.transitions import Next, after, first
from tasks.ektron.wording import counted
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import RecordRefused, RunUnknown
from workers.logs import logger
from workers.records import Event, RunRecord, RunState, Turn, Verdict, now

__all__ = [
    "LOCK_TTL",
    "begin",
    "describe",
    "end_steps",
    "join_and_verify",
    "publish",
    "snapshot_of",
    "watch_or_cancel",
]

log = logger(__name__)

LOCK_TTL = 120.0  #: seconds a cluster stays locked by a run after the last process that worked on the run has gone
_UNFENCED = 2**53  #: larger than any claim of a node, so that an outcome recorded here overrides the current holder


def snapshot_of(engine: Engine, record: RunRecord) -> Snapshot:
    """The run as it is in the store now."""
    return Snapshot(record, engine.store, engine.documents(record))


def begin(engine: Engine, run_id: str) -> None:
    """Starts a run: locks the cluster and opens the first turn. A second call changes nothing."""
    record = engine.store.run(run_id)
    if record.turns or record.state is RunState.CONCLUDED:
        return
    kind, holder = kind_of(record.kind, run_id), None
    if not kind.read_only:
        holder = engine.store.lock_cluster(record.cluster, run_id, LOCK_TTL)
    if holder is not None:
        _conclude(engine, record, Stop(Verdict.LOCKED, _locked_by(engine, record, holder)))
        return
    engine.store.note(run_id, Event(kind="run.started", message=f"{record.kind} of {record.cluster}"))
    _save(engine, record, first(kind, snapshot_of(engine, record)))


def _locked_by(engine: Engine, record: RunRecord, holder: str) -> str:
    """Which run has locked the cluster, since when, and what the operator can do."""
    named = f"run {holder}"
    with suppress(RunUnknown, RecordRefused):
        named = describe(engine.store.run(holder))
    return f"{named} works on cluster {record.cluster}; {watch_or_cancel(holder)}"


def describe(record: RunRecord) -> str:
    """A run for a sentence: its id, kind, user, host and time of creation."""
    origin = f"{record.kind} by {record.who or '?'} on {record.origin_host or '?'}"
    return f"run {record.id} ({origin}, since {record.created:%Y-%m-%d %H:%M:%S} UTC)"


def watch_or_cancel(run_id: str) -> str:
    """What an operator can do about a run that blocks another one."""
    return f"wait for it: esync watch {run_id}; or stop it: esync cancel {run_id}"


def join_and_verify(engine: Engine, run_id: str, turn_name: str) -> None:
    """Decides what follows a turn. Any number of callers may call it any number of times; exactly one of them decides.

    Does nothing while a node of the turn lacks the outcome of its last step, or while the run is paused: `resume` and
    the reconciler call it again.
    """
    record = engine.store.run(run_id)
    turn = record.turn
    if record.state is RunState.CONCLUDED or turn is None or turn.name != turn_name:
        return
    snapshot = snapshot_of(engine, record)
    if snapshot.unfinished(turn) or snapshot.steering.paused:
        log.info("the turn cannot be joined yet", run=run_id, turn=turn_name)
        return
    _save(engine, record, after(kind_of(record.kind, run_id), snapshot, turn))


def publish(engine: Engine, record: RunRecord, nodes: Sequence[str]) -> None:
    """Sends the current turn's steps for these nodes: one chain per node, with the join as the body of the chord.

    A step's task id is derived from run, turn, node and step. The chord's own id is random: Celery remembers for
    minutes which chord ids have joined, and would not call the body a second time when a turn is sent again. A second
    join does nothing.
    """
    turn = record.turn
    if turn is None:
        return
    header = [chain(*(_step(engine, record.id, turn.name, step, node) for step in turn.steps)) for node in nodes]
    body = _join(engine, record.id, turn.name)
    body.on_error(_join(engine, record.id, turn.name))
    chord(header, app=engine.app, task_id=str(uuid.uuid4()))(body)


def _step(engine: Engine, run_id: str, turn: str, step: str, node: str) -> Signature:
    task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"esync/{run_id}/{turn}/{step}/{node}"))
    signature = engine.app.signature(f"esync.{step}", args=(run_id, turn, node), immutable=True)
    return signature.set(task_id=task_id, queue=NODES_QUEUE)


def _join(engine: Engine, run_id: str, turn: str) -> Signature:
    signature = engine.app.signature("esync.join_and_verify", args=(run_id, turn), immutable=True)
    return signature.set(queue=CONTROL_QUEUE)


def _save(engine: Engine, record: RunRecord, decision: Next | Stop) -> None:
    """Saves a decision about `record`: the verdict, or the next turn, whose messages are then sent."""
    for document in decision.documents:
        engine.store.put(record.id, document.kind, document.name, document.text)
    if isinstance(decision, Stop):
        _conclude(engine, record, decision)
        return
    turn, snapshot = decision.turn, decision.snapshot
    plan = snapshot.plan.fingerprint if snapshot.plan else record.plan_fingerprint
    update = {
        "state": RunState.RUNNING,
        "joined": snapshot.record.joined,
        "turns": (*record.turns, turn),
        "plan_fingerprint": plan,
    }
    events = [Event(kind="turn.opened", turn=turn.name, message=counted(len(turn.nodes), "node"))]
    if snapshot.plan and _begins_to_change(record, turn):
        events.insert(0, Event(kind="run.planned", digest=plan, message=snapshot.plan.totals))
    saved = engine.store.save(record.model_copy(update=update), *events)
    if saved is not None and not snapshot.steering.paused:
        publish(engine, saved, turn.nodes)


def _begins_to_change(record: RunRecord, turn: Turn) -> bool:
    """Whether this is the first turn after the read-only turns that lead to the plan."""
    kind, before = kind_of(record.kind, record.id), record.turn
    return before is not None and kind.stage_of(before).plans and not kind.stage_of(turn).plans


def end_steps(engine: Engine, snapshot: Snapshot, turn: Turn, nodes: Iterable[str], ending: Ending) -> None:
    """Records an outcome for the first step that has none on each of these nodes, and skips the steps after it.

    A step that ends by itself in the meantime keeps its own outcome. Steps that always run are not ended.
    """
    steps = kind_of(snapshot.record.kind, snapshot.record.id).steps()
    for node, (begun, *later) in missing_steps(snapshot, turn, nodes).items():
        if steps[begun].always and not ending.given_up:
            continue
        recorded = engine.store.record(outcome_of(snapshot, turn, node, steps[begun], ending), _UNFENCED)
        if not recorded.status.ends_node:
            continue  # it has just ended by itself; the next check handles the steps after it
        for step in later:
            if not steps[step].always:
                skipped = Ending.not_tried(recorded)
                engine.store.record(outcome_of(snapshot, turn, node, steps[step], skipped), _UNFENCED)


def _conclude(engine: Engine, record: RunRecord, stop: Stop) -> None:
    """Saves the verdict, once; in the same write the store unlocks the cluster."""
    ended = now()
    update = {
        "state": RunState.CONCLUDED,
        "verdict": stop.verdict,
        "summary": stop.summary,
        "ended": ended,
        "joined": (*record.joined, *((record.turn.name,) if record.turn else ())),
    }
    concluded = record.model_copy(update=update)
    digest = conclusion(concluded, evidence_of(engine.store, record.id))
    event = Event(kind="run.concluded", at=ended, status=stop.verdict, message=stop.summary, digest=digest)
    if engine.store.save(concluded, event) is None:
        return
    # Also in the log: an attacker who rewrites the history in the store cannot rewrite the log.
    log.info("run concluded", run=record.id, verdict=stop.verdict.value, chain=engine.store.chain(record.id).head)
