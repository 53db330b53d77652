"""Continues runs that have stalled, and ends steps and runs that exceed their deadlines.

The chord is the fast path; the reconciler is the guarantee. Celery on Redis loses a message now and then, and a killed
worker loses its steps. The run store knows the outcomes of each node, so nothing is lost: the steps of a node without
an outcome and without a live lease are sent again. When a step exceeds its own deadline or that of the run, the
reconciler records its outcome, and the run continues without that step.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from pipelines.coordinator import (
    LOCK_TTL,
    begin,
    end_steps,
    give_up,
    join_and_verify,
    look_at,
    publish,
    waits_in_group,
)
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.abandoned import Ending
from pipelines.run.decisions_repair import NOT_REPAIRED, gate_bound
from pipelines.run.elapsed import SPENT, Stopwatch
from pipelines.run.groups import in_line
from pipelines.run.snapshot import Snapshot
from tasks.ektron.wording import counted
from tasks.steering import WAITED, Steering, acknowledge_resume, let_begin, request_cancel
from workers.broker.names import NODES_QUEUE
from workers.errors import EsyncError, RecordRefused, RunUnknown
from workers.logger import logger
from workers.records import Event, RunState, now
from workers.redis.connection import errors_mapped

__all__ = ["Joins", "Reconciler", "begin_or_continue", "resume_stalled"]

GRACE = 3.0  #: seconds after a deadline in which a step may still end by itself
IDLE = 10.0  #: seconds between two looks at the queues of workers that have ended, while no run is active
PICKED_UP = 2.0  #: seconds in which the other workers take what is in the queues, when one is known to have died
SOON = 1.0  #: seconds between two checks while a deadline is about to pass

log = logger(__name__)


def begin_or_continue(engine: Engine, run_id: str) -> None:
    """Begins a run that was created, or acts at once on what a person asked of it."""
    if begin(engine, run_id):
        resume_stalled(engine, run_id)


def resume_stalled(engine: Engine, run_id: str, watch: Stopwatch | None = None) -> str:
    """Checks one run and does what is due.

    Args:
        engine: where.
        run_id: the run.
        watch: the measurements of this observer; without them no deadline is enforced.

    Returns:
        What was done, for the log; empty when nothing was due.

    Raises:
        EsyncError: the store does not answer, or the run is unknown.
    """
    snapshot = look_at(engine, run_id)
    record = snapshot.record
    if record.state is RunState.CONCLUDED or waits_in_group(engine, record):
        return ""  # one that waits for its turn spends no time, and must not lock its servers
    stalled = snapshot.read.idle > engine.settings.stall_after
    if record.turn is not None and (stalled or not snapshot.unfinished(record.turn)):
        # Before the lock is renewed: a run that cannot be read must not keep its servers locked. It stalls.
        _ = snapshot.outcomes
    spent = _enforce_run_deadline(snapshot, watch) if watch else 0.0
    held_by_another = _held_by_another(engine, snapshot)
    steering = Steering.of(engine.store, run_id)  # its deadline may have cancelled it just now
    if steering.cancelled:
        return _end_cancelled(engine, snapshot, steering.cancelled, watch, spent)
    if held_by_another:
        return ""
    if watch:
        snapshot = _end_stuck_steps(engine, snapshot, watch)
    if steering.held and not steering.unapproved and not steering.paused and watch:
        return _let_time_pass(engine, snapshot, watch, steering.held)
    return "" if steering.waits else _send_missing(engine, snapshot, watch, resumed=steering.resumed)


def _let_time_pass(engine: Engine, snapshot: Snapshot, watch: Stopwatch, turn: str) -> str:
    """Continues a run that was held as long as its policy says; at the gate of a proof it ends without a second one."""
    run, flag = snapshot.record.id, f"{WAITED}.{turn}"
    waited = watch.waited(run, turn, lambda: engine.store.flags(run).get(flag, ""), going=True)
    at_gate = gate_bound(snapshot)
    bound = snapshot.cluster.policy.hold_for if at_gate is None else at_gate
    if bound is None:
        return ""
    if waited < bound:
        engine.store.flag(run, flag, f"{waited:.1f}")
        watch.within(bound - waited)
        return ""
    if at_gate is not None:
        engine.store.put(run, NOT_REPAIRED.kind, NOT_REPAIRED.name, NOT_REPAIRED.text)
    setting = "policy.hold_for" if at_gate is None else "sync.begins"
    message = f"{bound:g} s have passed ({setting})"
    let_begin(engine.store, run, turn, Event(kind="run.promoted", turn=turn, message=message))
    return _send_missing(engine, snapshot, watch, resumed=False)


def _send_missing(engine: Engine, snapshot: Snapshot, watch: Stopwatch | None, *, resumed: bool) -> str:
    """Sends the missing steps again: at once after a pause or a death, else when there was no progress for a while."""
    record, turn = snapshot.record, snapshot.record.turn
    if resumed:
        acknowledge_resume(engine.store, record.id)
    stalled = snapshot.read.idle > engine.settings.stall_after or (watch is not None and watch.died)
    if turn is None:
        if not (stalled or resumed):
            return ""
        begin(engine, record.id)
        return "begun"
    unfinished = snapshot.unfinished(turn)
    if not unfinished:
        join_and_verify(engine, record.id, turn.name)
        return "joined"
    missing = _abandoned(engine, record.id, unfinished, watch, resumed=resumed, stalled=stalled)
    missing = missing if resumed else _not_queued(engine, snapshot, missing)
    if not missing:
        return ""
    nodes = counted(len(missing), "node")
    message = f"resuming {nodes}" if resumed else f"no progress on {nodes}; resending"
    engine.store.note(record.id, Event(kind="turn.pushed_on", turn=turn.name, message=message))
    again = [node for node in turn.nodes if node in missing]
    publish(engine, record, again, begun=[node for node in again if unfinished[node]])
    return message


def _abandoned(
    engine: Engine, run_id: str, unfinished: Mapping[str, int], watch: Stopwatch | None, *, resumed: bool, stalled: bool
) -> Collection[str]:
    """The nodes that no worker works on: those whose worker died, or all when no node of the run is leased.

    After a pause a leased node continues by itself: Celery sends its next message when its step has ended. A node
    without a lease may be in the queue, or its message has died with a worker: that is known a lease later, and sooner
    when the worker was of this machine.
    """
    lapsed = engine.store.reap(run_id)
    held = engine.store.leases(run_id)
    waiting = {node: count for node, count in unfinished.items() if node not in held}
    if resumed or ((lapsed or stalled) and not held):
        return waiting
    dead = unfinished.keys() & set(lapsed)
    if watch is None:
        return dead
    others = {node: count for node, count in waiting.items() if node not in dead}
    patience = min(PICKED_UP, engine.settings.lease) if watch.died else engine.settings.lease
    return {*dead, *watch.orphans(run_id, others, patience, died=bool(lapsed) or watch.died)}


def _not_queued(engine: Engine, snapshot: Snapshot, nodes: Collection[str]) -> Collection[str]:
    """Those whose messages may be lost: where no worker of a site takes any, another one would only join the queue."""
    queues = {node: engine.queue_of(snapshot.cluster.node(node)) for node in nodes}
    of_sites = {queue for queue in queues.values() if queue != NODES_QUEUE}
    if not of_sites or not engine.settings.broker_url:
        return nodes
    with errors_mapped():
        full = engine.own_queues.with_messages(of_sites)
    return [node for node in nodes if queues[node] not in full]


def _end_cancelled(engine: Engine, snapshot: Snapshot, why: str, watch: Stopwatch | None, spent: float) -> str:
    """Ends a cancelled run: waiting steps at once, running steps when they end by themselves or take too long."""
    if snapshot.record.turn is None:
        begin(engine, snapshot.record.id)
        snapshot = _read_again(engine, snapshot)
    turn = snapshot.record.turn
    if turn is None:
        return "begun"
    held, unfinished = engine.store.leases(snapshot.record.id), snapshot.unfinished(turn)
    end_steps(engine, snapshot, turn, [node for node in unfinished if node not in held], Ending.cancelled(why))
    busy = [node for node in unfinished if node in held]
    if watch:
        watch.within(SOON)
        bounds, waited = snapshot.cluster.policy.deadlines, watch.cancelled(snapshot.record.id)
        if waited > bounds.cancel or spent > bounds.run + GRACE:
            end_steps(engine, snapshot, turn, busy, Ending.too_late(why))
            busy = []
    if busy:
        return ""
    # Steps that always run may still be missing: they are sent again when there is no progress.
    return _send_missing(engine, _read_again(engine, snapshot), watch, resumed=False)


def _read_again(engine: Engine, snapshot: Snapshot) -> Snapshot:
    return look_at(engine, snapshot.record.id)


def _held_by_another(engine: Engine, snapshot: Snapshot) -> bool:
    """Renews the locks on the servers. A run that has taken one of them while this run was stalled goes first."""
    record = snapshot.record
    if kind_of(record.kind, record.id).read_only:
        return False
    return engine.store.lock_servers(snapshot.cluster.servers, record.id, LOCK_TTL) is not None


def _enforce_run_deadline(snapshot: Snapshot, watch: Stopwatch) -> float:
    """Counts the seconds that a run has lasted, and cancels it at its deadline. Returns the seconds."""
    run, store, steering = snapshot.record.id, snapshot.store, snapshot.steering
    age = (now() - snapshot.record.created).total_seconds()
    spent = watch.spent(run, lambda: store.flags(run).get(SPENT, ""), age, going=not steering.waits)
    if steering.waits:
        return spent
    store.flag(run, SPENT, f"{spent:.1f}")
    bound = snapshot.cluster.policy.deadlines.run
    if spent >= bound and not steering.cancelled:
        request_cancel(store, run, f"the run took longer than its deadline of {bound:g} s")
    watch.within(bound - spent if spent < bound else SOON)
    return spent


def _end_stuck_steps(engine: Engine, snapshot: Snapshot, watch: Stopwatch) -> Snapshot:
    """Ends steps that exceed their deadline because their thread hangs. Returns the run as it is afterwards."""
    turn = snapshot.record.turn
    if turn is None:
        return snapshot
    held, deadline = engine.store.leases(snapshot.record.id), snapshot.cluster.policy.deadlines.step
    busy = {node: count for node, count in snapshot.unfinished(turn).items() if node in held}
    left = {node: deadline + GRACE - since for node, since in watch.held(snapshot.record.id, busy).items()}
    stuck = {node: held[node] for node, seconds in left.items() if seconds <= 0}
    if stuck:
        give_up(engine, snapshot, turn, stuck, Ending.stuck(deadline))
        return _read_again(engine, snapshot)
    for seconds in left.values():
        watch.within(seconds)
    return snapshot


class Joins:
    """The joins that threads of this process work on. A large one takes longer than a round of the reconciler.

    Args:
        longest: seconds after which a join is not taken for one any more.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._begun: dict[object, tuple[str, float]] = {}

    @contextmanager
    def of(self, run_id: str) -> Iterator[None]:
        """Knows about one during the block."""
        join = object()
        self._begun[join] = run_id, time.monotonic()
        try:
            yield
        finally:
            del self._begun[join]

    def has(self, run_id: str) -> bool:
        """Whether a turn of that run is joined now, and not for too long."""
        begun = tuple(self._begun.values())  # copied at once: other threads change it
        return any(run == run_id and time.monotonic() - at < self._longest for run, at in begun)


class Reconciler:
    """A thread that checks all active runs while this process is the elected one.

    Args:
        engine: whose runs.
        holder: a unique name of this process.
        upkeep: called in every round, elected or not, for what this process has to maintain itself.
        watch: the same, with the ids of the active runs.
        joined_here: whether this process joins a turn of that run now: a second join would cost the same again.
    """

    def __init__(
        self,
        engine: Engine,
        holder: str,
        upkeep: Callable[[], object] = lambda: None,
        watch: Callable[[Collection[str]], object] = lambda _: None,
        joined_here: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._engine = engine
        self._joined_here = joined_here
        self._watch_runs = watch
        self._upkeep = upkeep
        self._holder = holder
        self._watch = Stopwatch(engine.settings.reconcile_every)
        self._leads = False
        self._told: set[str] = set()  #: runs of which this process has said that it cannot continue them
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="esync-reconciler", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stops the thread, and resigns, so that the next one need not wait until our leadership lapses."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with suppress(EsyncError):
            self._elected(wanted=False)

    def check_runs(self) -> None:
        """One round over all active runs. Without any there is no leader: an idle process sends one request a round."""
        store = self._engine.store
        active = store.active()
        self._watch_runs(active)
        leads = self._elected(wanted=bool(active))
        died = False
        if leads or not active:
            with suppress(EsyncError), errors_mapped():
                died = self._engine.own_queues.release(at_most_every=0.0 if leads else IDLE)
        self._watch.only(active if leads else (), died=died)
        waiting = in_line(active)
        for run_id in active:
            if run_id in waiting or self._joined_here(run_id):
                continue
            try:
                if not leads:
                    # Observes only: if this process is elected next, it already knows which workers are silent.
                    store.progress(run_id)
                    store.leases(run_id)
                elif done := resume_stalled(self._engine, run_id, self._watch):
                    log.info("reconciler", run=run_id, did=done)
            except RunUnknown:
                # The server has evicted its record, or a person has deleted it: others of its group would wait forever.
                with suppress(EsyncError):
                    store.forget(run_id)
            except RecordRefused as refused:
                self._cannot_continue(run_id, refused.message)
            except EsyncError:
                continue
            except Exception as error:  # noqa: BLE001 - one run that cannot be decided must not stop all others
                self._cannot_continue(run_id, f"internal error {type(error).__name__}")

    def _cannot_continue(self, run_id: str, why: str) -> None:
        """Says so in the log and where the run is shown, once by this process; a person has to end the run.

        Nothing is added to the history of a run whose own record cannot be read: it is left alone.
        """
        if run_id in self._told:
            return
        self._told.add(run_id)
        log.warning("the reconciler failed on a run", run=run_id, error=why)
        message = f"{why}: what follows cannot be decided; to end the run: esync cancel {run_id}"
        with suppress(EsyncError):
            self._engine.store.run(run_id)
            self._engine.store.note(run_id, Event(kind="run.failing", message=message))

    def _elected(self, *, wanted: bool) -> bool:
        if wanted or self._leads:
            lasts = self._engine.settings.reconcile_every * 3 if wanted else 0
            self._leads = self._engine.store.elect("reconciler", self._holder, lasts) and wanted
        return self._leads

    def _loop(self) -> None:
        # The first round at once: leases lapse from the moment they are first seen.
        while True:
            wait = self._engine.settings.reconcile_every
            try:
                self._upkeep()
                self.check_runs()
                wait = self._watch.due
            except Exception as error:  # noqa: BLE001 - the guarantee must survive any single failure
                log.warning("the reconciler failed in one round", error=type(error).__name__)
            if self._stop.wait(wait):
                return
