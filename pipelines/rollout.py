"""The main path of a run. Read STAGES first; the rest of the file is how one stage leads to the next.

A stage takes its nodes, sends each of them through its steps in parallel (a Celery chord: one chain per node, one
join), and decides by the run store what comes next. It takes turns until it has no nodes left; then the next stage
begins. Messages carry ids only; the join is idempotent and is also called by the errback and the reconciler.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from celery import chain, chord
from celery.canvas import Signature

from pipelines.engine import Engine
from pipelines.run import decisions, decisions_doctor, decisions_rollback
from pipelines.run.evidence import conclusion, evidence_of
from pipelines.run.kinds import LOOKING
from pipelines.run.snapshot import Go, Snapshot, Stop
from tasks.ektron.wording import counted
from tasks.step import (
    CERT_COPY,
    CLEANUP,
    CONFIG_EDIT,
    INSTALL_CHECK,
    ROLLBACK,
    ROLLBACK_CHECK,
    SERVICE_RESTART,
)
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import RecordRefused, RunUnknown
from workers.logs import logger
from workers.records import Event, RunRecord, RunState, Turn, Verdict, now

__all__ = [
    "KINDS",
    "STAGES",
    "Stage",
    "begin",
    "decided",
    "following",
    "introduced",
    "join_and_verify",
    "publish",
    "stages_of",
    "steering",
]

log = logger(__name__)

LOCK_TTL = 120.0  #: seconds a cluster stays locked by a run that nobody pushes on any more


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run: who, what, and what then."""

    name: str
    nodes: Callable[[Snapshot], Sequence[str]]  #: for the next turn; nobody ends the stage
    steps: tuple[str, ...]
    then: Callable[[Snapshot], Go | Stop]


#: The life of a run. Each line: its name, its nodes, its steps on each node, and the decision at the join.
STAGES: tuple[Stage, ...] = (
    Stage("canary", decisions.one_per_account, (INSTALL_CHECK,), decisions.logon_accepted),
    Stage("observe", decisions.not_yet_seen, (INSTALL_CHECK,), decisions.fit_and_planned),
    Stage(
        "wave", decisions.next_wave, (INSTALL_CHECK, CONFIG_EDIT, CERT_COPY, SERVICE_RESTART), decisions.within_budget
    ),
    Stage("verify", decisions.all_reached, (INSTALL_CHECK,), decisions.invariants_hold),
)

CANARY, OBSERVE, _, VERIFY = STAGES

#: The life of a run that takes another one back.
ROLLBACK_STAGES: tuple[Stage, ...] = (
    Stage("canary", decisions_rollback.canaries, (ROLLBACK_CHECK,), decisions.logon_accepted),
    Stage("observe", decisions_rollback.others, (ROLLBACK_CHECK,), decisions_rollback.go_on),
    Stage("rollback", decisions_rollback.to_restore, (ROLLBACK,), decisions_rollback.go_on),
    Stage("verify", decisions_rollback.to_compare, (ROLLBACK_CHECK,), decisions_rollback.all_restored),
)
#: The life of a run that removes what runs left on the nodes.
CLEANUP_STAGES: tuple[Stage, ...] = (
    Stage("canary", decisions_rollback.canaries, (CLEANUP,), decisions.logon_accepted),
    Stage("cleanup", decisions_rollback.others, (CLEANUP,), decisions_rollback.all_clean),
)

#: Other kinds of runs take some of the same stages, or decide differently at the end.
KINDS: Mapping[str, tuple[Stage, ...]] = {
    "rollout": STAGES,
    "verify": (CANARY, VERIFY),
    "plan": (CANARY, replace(OBSERVE, then=decisions.plan_shown)),
    "doctor": (CANARY, Stage("doctor", decisions_doctor.everybody_answering, (INSTALL_CHECK,), decisions_doctor.ready)),
    "rollback": ROLLBACK_STAGES,
    "cleanup": CLEANUP_STAGES,
}


def stages_of(record: RunRecord) -> tuple[Stage, ...]:
    """The stages this kind of run goes through."""
    return KINDS[record.kind]


def begin(engine: Engine, run_id: str) -> None:
    """Starts a run: takes the cluster for itself and opens the first turn. Calling it again changes nothing."""
    record = engine.store.run(run_id)
    if record.turns or record.state is RunState.CONCLUDED:
        return
    holder = None
    if record.kind not in LOOKING:
        holder = engine.store.lock_cluster(record.cluster, run_id, LOCK_TTL)
    if holder is not None:
        _conclude(engine, record, Stop(Verdict.LOCKED, _held(engine, record, holder)))
        return
    engine.store.note(run_id, Event(kind="run.started", message=f"{record.kind} of {record.cluster}"))
    _go_on(engine, record, joined=())


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
    """Decides what comes after a turn. Any number of callers, any number of times: one of them wins.

    Does nothing while a node of the turn has no outcome for its last step, or the run is paused: whoever resumes it,
    and the reconciler, will see to it.
    """
    record = engine.store.run(run_id)
    turn = record.turn
    if record.state is RunState.CONCLUDED or turn is None or turn.name != turn_name:
        return
    snapshot = Snapshot(record, engine.store, engine.documents(record))
    if snapshot.unfinished(turn) or snapshot.steering.paused:
        log.info("not the time to join", run=run_id, turn=turn_name)
        return
    decision = decisions.cancelled(snapshot) or decided(snapshot, turn)
    if isinstance(decision, Stop):
        _conclude(engine, record, decision)
    else:
        fingerprint = decision.plan_fingerprint or record.plan_fingerprint
        planned = record.model_copy(update={"plan_fingerprint": fingerprint})
        _go_on(engine, planned, joined=(*record.joined, turn_name))


def decided(snapshot: Snapshot, turn: Turn) -> Go | Stop:
    """What the evidence says at the end of a turn: by the store alone, so that anybody comes to the same."""
    return next(stage for stage in stages_of(snapshot.record) if stage.name == turn.stage).then(snapshot)


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


def _go_on(engine: Engine, record: RunRecord, joined: tuple[str, ...]) -> None:
    """Opens the next turn: of the current stage while it has nodes, else of the next stage that has some."""
    snapshot = Snapshot(record, engine.store, engine.documents(record))
    turn = following(snapshot)
    if isinstance(turn, Stop):
        _conclude(engine, record, turn)
        return
    # Where the canary has seen everybody, the plan is made on the way to the next turn and not at a join.
    plan = record.plan_fingerprint or (snapshot.plan.fingerprint if snapshot.plan else "")
    update = {"state": RunState.RUNNING, "joined": joined, "turns": (*record.turns, turn), "plan_fingerprint": plan}
    events = [Event(kind="turn.opened", turn=turn.name, message=counted(len(turn.nodes), "node"))]
    looked = {CANARY.name, OBSERVE.name}
    if plan and record.turn and record.turn.stage in looked and turn.stage not in looked:
        totals = snapshot.plan.totals if snapshot.plan else ""
        events.insert(0, Event(kind="run.planned", digest=plan, message=totals))
    saved = engine.store.save(record.model_copy(update=update), *events)
    if saved is not None and not snapshot.steering.paused:
        publish(engine, saved, turn.nodes)


def following(snapshot: Snapshot) -> Turn | Stop:
    """The next turn. A stage that has nobody from the start still decides: there may be nothing to go on to."""
    stages, turns, current = stages_of(snapshot.record), snapshot.record.turns, snapshot.record.turn
    first = [stage.name for stage in stages].index(current.stage) if current else 0
    for stage in stages[first:]:
        nodes = stage.nodes(snapshot)
        number = 1 + sum(1 for turn in turns if turn.stage == stage.name)
        if nodes:
            name = f"{stage.name}-{number}" if number > 1 or stage.name == "wave" else stage.name
            return Turn(name=name, stage=stage.name, steps=stage.steps, nodes=tuple(nodes))
        decision = stage.then(snapshot) if number == 1 else Go()
        if isinstance(decision, Stop):
            return decision
    raise AssertionError(f"the last stage of a {snapshot.record.kind} always decides to stop")


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
