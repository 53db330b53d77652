"""Moves a run from turn to turn: sends the messages of a turn, joins it, and saves the decision. The only writer.

Decisions are pure (`pipelines.run`); this module saves them. Messages carry ids only. The join is idempotent: the
chord's errback and the reconciler also call it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.abandoned import Ending, missing_steps, outcome_of
from pipelines.run.decisions import cancelled
from pipelines.run.decisions_pools import marks_document
from pipelines.run.decisions_repair import repair_of, waits_for_repair
from pipelines.run.decisions_waves import held_before, next_wave, unapproved
from pipelines.run.evidence import conclusion, evidence_of
from pipelines.run.groups import is_member, next_ones, waits_for
from pipelines.run.snapshot import Document, Reading, Snapshot, Stop
from pipelines.run.transitions import Next, after, first
from pipelines.run.waves import admitted, ends_by_itself, limits
from pipelines.sending import send, workers_near
from tasks.cluster import Cluster
from tasks.ektron.wording import counted, named
from tasks.steering import hold_before
from workers.errors import EsyncError, RecordRefused, RunUnknown
from workers.logger import logger
from workers.records import Event, RunRecord, RunState, Turn, Verdict, now
from workers.store.kept import DRAINED
from workers.store.port import ANY_CLAIM

__all__ = [
    "LOCK_TTL",
    "begin",
    "describe",
    "end_steps",
    "give_up",
    "join_and_verify",
    "let_node_begin",
    "look_at",
    "publish",
    "snapshot_of",
    "waits_in_group",
    "watch_or_cancel",
    "works_on",
]

log = logger(__name__)

LOCK_TTL = 120.0  #: seconds its servers stay locked by a run after the last process that worked on the run has gone


def snapshot_of(engine: Engine, record: RunRecord) -> Snapshot:
    """The run as it is in the store now; what a decision needs is read then."""
    return Snapshot(record, Reading(engine.store, record.id), engine.documents(record))


def look_at(engine: Engine, run_id: str) -> Snapshot:
    """The same, with the operators' requests and the state of its turn, read in one request."""
    look = engine.store.look(run_id)
    snapshot = snapshot_of(engine, look.record)
    snapshot.read.know(look)
    return snapshot


def begin(engine: Engine, run_id: str) -> bool:
    """Starts a run: locks the servers and opens the first turn. A second call changes nothing.

    A run of a group is not started before its turn has come; if it was cancelled, it ends.

    Returns:
        Whether it may need more than that: it was begun already, or an operator has cancelled it.
    """
    snapshot = look_at(engine, run_id)
    record = snapshot.record
    if record.turns or record.state is RunState.CONCLUDED:
        return True
    if is_member(run_id) and (stop := cancelled(snapshot)):
        _conclude(engine, record, stop)
    elif not waits_in_group(engine, record):
        _begin(engine, snapshot)
    return bool(snapshot.steering.cancelled)


def _begin(engine: Engine, snapshot: Snapshot) -> None:
    record, run_id = snapshot.record, snapshot.record.id
    kind, holder = kind_of(record.kind, run_id), None
    if not kind.read_only:
        holder = engine.store.lock_servers(Cluster.of_run(record).servers, run_id, LOCK_TTL)
    if holder is not None:
        _conclude(engine, record, Stop(Verdict.LOCKED, _locked_by(engine, record, holder)))
        return
    # A run that only looks may do so beside one that has just taken a server out.
    going_on = engine.store.active() if kind.read_only else ()
    if left := marks_document(snapshot, engine.store.all_kept(DRAINED), going_on):
        engine.store.put(run_id, left.kind, left.name, left.text)
    began = {"began": now()} if is_member(run_id) else {}
    started = Event(kind="run.started", message=f"{record.kind} of {record.cluster}")
    _save(engine, record.model_copy(update=began), first(kind, snapshot), started)


def waits_in_group(engine: Engine, record: RunRecord) -> bool:
    """Whether a run may not begin yet: too many of its group are ahead, or one that works on one of its servers."""
    if record.turns or record.state is RunState.CONCLUDED or not is_member(record.id):
        return False
    active = engine.store.active()
    if record.id not in next_ones(record.id, active):
        return record.id in active
    if kind_of(record.kind, record.id).read_only:
        return False
    return bool(waits_for(record.id, Cluster.of_run(record).servers, active, partial(_servers_of, engine)))


def _servers_of(engine: Engine, run_id: str) -> tuple[str, ...]:
    """The servers of a run; none if it cannot be read: then the locks on the servers decide."""
    known = engine.servers.get(run_id)
    if known is not None:
        return known
    with suppress(RunUnknown, RecordRefused):
        servers = Cluster.of_run(engine.store.run(run_id)).servers
        return engine.servers.put(run_id, servers, len(servers))
    return ()


def _let_next_begin(engine: Engine, record: RunRecord) -> None:
    """Asks for the runs of the group whose turn has come. What is lost here, the reconciler does.

    They are behind those that have begun, unless they waited for the servers of this run.
    """
    with suppress(EsyncError):
        servers, have_begun = set(Cluster.of_run(record).servers), False
        for run in reversed(next_ones(record.id, engine.store.active())):
            if have_begun and servers.isdisjoint(_servers_of(engine, run)):
                continue
            with suppress(RunUnknown, RecordRefused):
                if engine.store.run(run).turns:
                    have_begun = True
                else:
                    engine.ask_to_begin(run)


def _locked_by(engine: Engine, record: RunRecord, holder: str) -> str:
    """Which run has locked servers of this one, since when, of which cluster, and what the operator can do."""
    with suppress(RunUnknown, RecordRefused):
        return f"{works_on(engine.store.run(holder), Cluster.of_run(record))}; {watch_or_cancel(holder)}"
    return f"run {holder} works on servers of cluster {record.cluster}; {watch_or_cancel(holder)}"


def works_on(other: RunRecord, here: Cluster) -> str:
    """That a run works on servers of this cluster, and on which, for a sentence."""
    there = Cluster.of_run(other)
    if (there.name, there.servers) == (here.name, here.servers):
        return f"{describe(other)} works on cluster {here.name}"
    taken = set(there.servers)
    shared = named([node.name for node in here.nodes if here.server(node.name) in taken])
    return f"{describe(other)} of cluster {there.name} works on servers of cluster {here.name}: {shared}"


def describe(record: RunRecord) -> str:
    """A run for a sentence: its id, kind, user, host and time of creation."""
    origin = f"{record.kind} by {record.who or '?'} on {record.origin_host or '?'}"
    return f"run {record.id} ({origin}, since {record.created:%Y-%m-%d %H:%M:%S} UTC)"


def watch_or_cancel(run_id: str) -> str:
    """What an operator can do about a run that blocks another one."""
    return f"wait for it: esync watch {run_id}; or stop it: esync cancel {run_id}"


def join_and_verify(engine: Engine, run_id: str, turn_name: str, node: str = "") -> None:
    """Decides what follows a turn. Any number of callers may call it any number of times; exactly one of them decides.

    Decides nothing while a node of the turn lacks the outcome of its last step, or while the run is paused or held:
    `resume`, `promote` and the reconciler call it again.

    Args:
        engine: where.
        run_id: the run.
        turn_name: its turn.
        node: the node that has just finished, in a turn that limits how many are in work: others may begin.
    """
    snapshot = look_at(engine, run_id)
    record, turn = snapshot.record, snapshot.record.turn
    if record.state is RunState.CONCLUDED or turn is None or turn.name != turn_name:
        return
    unfinished = snapshot.unfinished(turn)
    if unfinished or snapshot.steering.paused:
        log.info("the turn cannot be joined yet", run=run_id, turn=turn_name)
        if node and not snapshot.steering.paused:
            publish(engine, record, _waiting_for(engine, snapshot, node, unfinished), snapshot.read)
        return
    kind = kind_of(record.kind, run_id)
    decision = after(kind, snapshot, turn)
    if isinstance(decision, Next) and unapproved(decision.snapshot, kind, decision.turn):
        _await_approval(engine, snapshot, decision)
        return
    if isinstance(decision, Next) and (wave := held_before(decision.snapshot, decision.turn)):
        count, by_itself = len(next_wave(decision.snapshot)), ends_by_itself(record, wave)
        nodes = f"{counted(count, 'node')} of {wave} {'waits' if count == 1 else 'wait'}"
        asked = f"{turn.name} is done; {nodes} for: esync promote {run_id}"
        _hold(engine, snapshot, wave, f"{asked}; it {by_itself}" if by_itself else asked)
        return
    if isinstance(decision, Next) and waits_for_repair(decision.snapshot, decision.turn):
        _hold(engine, snapshot, decision.turn.name, repair_of(decision.snapshot), decision.documents)
        return
    _save(engine, record, decision)


def _await_approval(engine: Engine, snapshot: Snapshot, decision: Next) -> None:
    """Makes the run wait for a second person, and keeps the plan for that person to see. Says so once.

    The plan is made again when the run continues, from the same observations: it is the same plan.
    """
    run, turn, plan = snapshot.record.id, decision.turn.name, decision.snapshot.plan
    if snapshot.steering.held == turn or plan is None:
        return
    for document in decision.documents:
        engine.store.put(run, document.kind, document.name, document.text)
    message = f"the plan waits for a second person: esync approve {run}; {plan.totals}"
    held = Event(kind="run.held", turn=turn, digest=plan.fingerprint, message=message)
    hold_before(engine.store, run, turn, held, approval=True)


def _hold(engine: Engine, snapshot: Snapshot, following: str, message: str, documents: Sequence[Document] = ()) -> None:
    """Makes the run wait for a person before that turn, and says so once. What was found is kept for that person."""
    if snapshot.steering.held == following:
        return
    run = snapshot.record.id
    for document in documents:
        engine.store.put(run, document.kind, document.name, document.text)
    hold_before(engine.store, run, following, Event(kind="run.held", turn=following, message=message))


def let_node_begin(engine: Engine, run_id: str, turn_name: str, node: str) -> None:
    """Sends the steps of a node that had to wait, because the run works on as many nodes as it may."""
    snapshot = snapshot_of(engine, engine.store.run(run_id))
    turn = snapshot.record.turn
    if turn is not None and turn.name == turn_name:
        publish(engine, snapshot.record, [node], snapshot.read)


def _waiting_for(engine: Engine, snapshot: Snapshot, node: str, unfinished: Mapping[str, int]) -> list[str]:
    """The nodes that may begin in place of one that has finished, and that no worker has begun."""
    shared, fresh = set(limits(snapshot.cluster, node)), _not_begun(engine, snapshot.record.id, unfinished)
    return [name for name in fresh if shared & set(limits(snapshot.cluster, name))]


def _not_begun(engine: Engine, run_id: str, unfinished: Mapping[str, int]) -> list[str]:
    """The nodes of a turn with no outcome, which no worker has in hand."""
    begun = engine.store.leases(run_id)
    return [node for node, count in unfinished.items() if not count and node not in begun]


def publish(
    engine: Engine,
    record: RunRecord,
    nodes: Sequence[str],
    read: Reading | None = None,
    *,
    begun: Collection[str] = (),
) -> None:
    """Sends the current turn's steps for these nodes: one chain per node, with the join as the body of the chord.

    The steps on a node go to the worker that has a session with it, as far as that is known, else to any worker.

    Where the policy limits how many nodes are in work, only the nodes that may begin now get messages, each a chord of
    its own: its join lets the next one begin.

    A step's task id is derived from run, turn, node and step. The chord's own id is random: Celery remembers for
    minutes which chord ids have joined, and would not call the body a second time when a turn is sent again. A second
    join does nothing.

    Args:
        engine: where.
        record: the run; its last turn is sent.
        nodes: of that turn.
        read: what was read of the run; None when steps are sent again, which any worker may do.
        begun: the nodes that have done some of these steps: they come before those that have not.
    """
    turn = record.turn
    if turn is None:
        return
    if not turn.steps:
        join_and_verify(engine, record.id, turn.name)
        return
    if not _is_limited(record, turn):
        near = workers_near(engine, record, nodes, read) if read else {}
        send(engine, record, turn, nodes, near=near, begun=begun)
        return
    snapshot = snapshot_of(engine, record)
    admissible = set(admitted(snapshot.cluster, turn.nodes, snapshot.unfinished(turn)))
    ready = [node for node in nodes if node in admissible]
    near = workers_near(engine, record, ready, read) if read else {}
    for node in ready:
        send(engine, record, turn, [node], node, near=near, begun=begun)


def _is_limited(record: RunRecord, turn: Turn) -> bool:
    """Whether the policy limits how many nodes of a turn are in work; a turn that only looks is not limited."""
    changes = any(step.changes for step in kind_of(record.kind, record.id).stage_of(turn).steps)
    return changes and bool(record.spec.get("policy", {}).get("at_most"))


def _save(engine: Engine, record: RunRecord, decision: Next | Stop, *events: Event) -> None:
    """Saves a decision about `record`: the verdict, or the next turn, whose messages are then sent; and the events."""
    for document in decision.documents:
        engine.store.put(record.id, document.kind, document.name, document.text)
    if isinstance(decision, Stop):
        _conclude(engine, record, decision, *events)
        return
    turn, snapshot = decision.turn, decision.snapshot
    plan = snapshot.plan.fingerprint if snapshot.plan else record.plan_fingerprint
    update = {
        "state": RunState.RUNNING,
        "joined": snapshot.record.joined,
        "turns": (*record.turns, turn),
        "plan_fingerprint": plan,
    }
    if snapshot.plan and _begins_to_change(record, turn):
        events = (*events, Event(kind="run.planned", digest=plan, message=snapshot.plan.totals))
    opened = Event(kind="turn.opened", turn=turn.name, message=counted(len(turn.nodes), "node"))
    saved = engine.store.save(record.model_copy(update=update), *events, opened)
    if saved is not None and not snapshot.steering.paused:
        publish(engine, saved, turn.nodes, snapshot.read)


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
        recorded = engine.store.record(outcome_of(snapshot, turn, node, steps[begun], ending), ANY_CLAIM)
        if not recorded.status.ends_node:
            continue  # it has just ended by itself; the next check handles the steps after it
        for step in later:
            if not steps[step].always:
                skipped = Ending.not_tried(recorded)
                engine.store.record(outcome_of(snapshot, turn, node, steps[step], skipped), ANY_CLAIM)


def give_up(engine: Engine, snapshot: Snapshot, turn: Turn, stuck: Mapping[str, str], ending: Ending) -> None:
    """Ends steps whose threads hang, and lets other nodes begin in their places.

    Args:
        engine: where.
        snapshot: the run.
        turn: of it.
        stuck: the nodes, each with the worker that has its lease.
        ending: of their steps.
    """
    run, policy = snapshot.record.id, snapshot.cluster.policy
    in_work = len(engine.store.leases(run))
    end_steps(engine, snapshot, turn, stuck, ending)
    for node, holder in stuck.items():
        engine.store.release(run, node, holder)
    if (policy.at_most or in_work >= policy.concurrency) and not snapshot.steering.paused:
        publish(engine, snapshot.record, _not_begun(engine, run, look_at(engine, run).unfinished(turn)))


def _conclude(engine: Engine, record: RunRecord, stop: Stop, *events: Event) -> None:
    """Saves the verdict, once, and the events; in the same write the store unlocks the cluster."""
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
    if engine.store.save(concluded, *events, event) is None:
        return
    # Also in the log: an attacker who rewrites the history in the store cannot rewrite the log.
    log.info("run concluded", run=record.id, verdict=stop.verdict.value, chain=engine.store.chain(record.id).head)
    if is_member(record.id):
        _let_next_begin(engine, record)
