"""How one turn leads to the next: sends a turn's messages, joins it, and saves what was decided. The only writer.

Decisions are pure (`pipelines.run`); this module saves them. Messages carry ids only. The join is idempotent and is
also called by the errback of the chord and by the reconciler.
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
from pipelines.run.snapshot import Document, Snapshot, Stop
from pipelines.run.transitions import Next, after, first
from tasks.ektron.wording import counted
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import RecordRefused, RunUnknown
from workers.logs import logger
from workers.records import Event, RunRecord, RunState, Turn, Verdict, now

__all__ = ["LOCK_TTL", "begin", "end_steps", "introduced", "join_and_verify", "publish", "snapshot_of", "steering"]

log = logger(__name__)

LOCK_TTL = 120.0  #: seconds a cluster stays locked by a run that no process works on any more
_UNFENCED = 2**53  #: no claim of a node comes near it: what is recorded here counts against whoever holds the node


def snapshot_of(engine: Engine, record: RunRecord) -> Snapshot:
    """The run as the store has it now."""
    return Snapshot(record, engine.store, engine.documents(record))


def begin(engine: Engine, run_id: str) -> None:
    """Starts a run: locks the cluster for it and opens the first turn. A second call changes nothing."""
    record = engine.store.run(run_id)
    if record.turns or record.state is RunState.CONCLUDED:
        return
    kind, holder = kind_of(record.kind, run_id), None
    if not kind.read_only:
        holder = engine.store.lock_cluster(record.cluster, run_id, LOCK_TTL)
    if holder is not None:
        _conclude(engine, record, Stop(Verdict.LOCKED, _held(engine, record, holder)))
        return
    engine.store.note(run_id, Event(kind="run.started", message=f"{record.kind} of {record.cluster}"))
    _save(engine, record, first(kind, snapshot_of(engine, record)))


def _held(engine: Engine, record: RunRecord, holder: str) -> str:
    """Who has the cluster, since when, and what to do."""
    named = f"run {holder}"
    with suppress(RunUnknown, RecordRefused):
        named = introduced(engine.store.run(holder))
    return f"{named} works on cluster {record.cluster}; {steering(holder)}"


def introduced(record: RunRecord) -> str:
    """A run by its id, with what it is, whose, from where and since when."""
    asked = f"{record.kind} by {record.who or '?'} on {record.origin_host or '?'}"
    return f"run {record.id} ({asked}, since {record.created:%Y-%m-%d %H:%M:%S} UTC)"


def steering(run_id: str) -> str:
    """What to do about a run that is in the way."""
    return f"see its end: esync watch {run_id}; or stop it: esync cancel {run_id}"


def join_and_verify(engine: Engine, run_id: str, turn_name: str) -> None:
    """Decides what follows a turn. Any number of callers may call it any number of times; one of them wins.

    Does nothing while a node of the turn has no outcome for its last step, or while the run is paused: `resume` and
    the reconciler call it again.
    """
    record = engine.store.run(run_id)
    turn = record.turn
    if record.state is RunState.CONCLUDED or turn is None or turn.name != turn_name:
        return
    snapshot = snapshot_of(engine, record)
    if snapshot.unfinished(turn) or snapshot.steering.paused:
        log.info("not the time to join", run=run_id, turn=turn_name)
        return
    _save(engine, record, after(kind_of(record.kind, run_id), snapshot, turn))


def publish(engine: Engine, record: RunRecord, nodes: Sequence[str]) -> None:
    """Sends the current turn's steps for these nodes: one chain a node, and the join as the chord's body.

    A step's task id follows from run, turn, node and step. The chord's own id does not: Celery remembers for minutes
    that a chord of an id has joined, and would ring no second time for a turn that is sent again. Joining twice does
    nothing.
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
    """Saves what was decided about `record`: the verdict, or the next turn, whose messages it then sends."""
    for document in decision.documents:
        _put(engine, record, document)
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


def _put(engine: Engine, record: RunRecord, document: Document) -> None:
    engine.store.put(record.id, document.kind, document.name, document.text)


def _begins_to_change(record: RunRecord, turn: Turn) -> bool:
    """Whether this is the first turn after those that only looked for the plan."""
    kind = kind_of(record.kind, record.id)
    before = record.turn
    return before is not None and kind.stage_of(before).plans and not kind.stage_of(turn).plans


def end_steps(engine: Engine, snapshot: Snapshot, turn: Turn, nodes: Iterable[str], ending: Ending) -> None:
    """Records how the first step without an outcome ended on these nodes, and that the later ones were not tried.

    A step that ends by itself meanwhile keeps its own outcome. A step that always runs is left to run.
    """
    steps = kind_of(snapshot.record.kind, snapshot.record.id).steps()
    for node, (begun, *later) in missing_steps(snapshot, turn, nodes).items():
        if steps[begun].always and not ending.given_up:
            continue
        recorded = engine.store.record(outcome_of(snapshot, turn, node, steps[begun], ending), _UNFENCED)
        if not recorded.status.ends_node:
            continue  # it has just ended by itself; what comes after it is looked at again
        for step in later:
            if not steps[step].always:
                skipped = Ending.not_tried(recorded)
                engine.store.record(outcome_of(snapshot, turn, node, steps[step], skipped), _UNFENCED)


def _conclude(engine: Engine, record: RunRecord, stop: Stop) -> None:
    """Writes the verdict, once; with it the store lets the cluster go."""
    ended = now()
    update = {
        "state": RunState.CONCLUDED,
        "verdict": stop.verdict,
        "summary": stop.summary,
        "ended": ended,
        "joined": (*record.joined, *((record.turn.name,) if record.turn else ())),
    }
    concluded = record.model_copy(update=update)
    rests_on = conclusion(concluded, evidence_of(engine.store, record.id))
    event = Event(kind="run.concluded", at=ended, status=stop.verdict, message=stop.summary, digest=rests_on)
    if engine.store.save(concluded, event) is None:
        return
    # In the log too: whoever rewrites the store's history cannot rewrite this.
    log.info("run concluded", run=record.id, verdict=stop.verdict.value, chain=engine.store.chain(record.id).head)
