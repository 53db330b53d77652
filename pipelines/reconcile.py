"""Pushes runs on that nobody pushes any more, and ends what does not end.

The chord is the fast path; this is the guarantee. Celery on Redis loses a message now and then, and a killed worker
takes its steps with it. Nothing is lost here, because the run store knows what each node has done: whoever has no
outcome and no living lease is sent again. A node whose step outlasts its deadline, or the run's, gets its outcome from
here, and the run goes on without it.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from pipelines.coordinator import LOCK_TTL, begin, end_steps, join_and_verify, publish, snapshot_of
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.abandoned import Ending
from pipelines.run.elapsed import SPENT, Stopwatch
from pipelines.run.snapshot import Snapshot
from tasks.ektron.wording import counted
from tasks.steering import CANCEL, RESUMED, Steering
from workers.errors import EsyncError
from workers.logs import logger
from workers.records import Event, RunRecord, RunState, now

__all__ = ["Reconciler", "resume_stalled", "take_up"]

GRACE = 3.0  #: seconds beyond a deadline for a step that ends by itself
SOON = 1.0  #: seconds between two looks while something is about to end

log = logger(__name__)


def take_up(engine: Engine, run_id: str) -> None:
    """Begins a run that lies in the store, or looks at once at one that was steered."""
    begin(engine, run_id)
    resume_stalled(engine, run_id)


def resume_stalled(engine: Engine, run_id: str, watch: Stopwatch | None = None) -> str:
    """Looks at one run and does what is due; says what that was (empty: nothing).

    Args:
        engine: where.
        run_id: the run.
        watch: what the observer has measured so far; deadlines are minded only by one who measures.

    Raises:
        EsyncError: the store does not answer, or the run is unknown.
    """
    record = engine.store.run(run_id)
    if record.state is RunState.CONCLUDED:
        return ""
    snapshot = snapshot_of(engine, record)
    if record.turn is not None:
        # Before the lock is renewed: a run that cannot be read must not keep the cluster locked.
        snapshot.unfinished(record.turn)
    spent = _mind_the_deadline(snapshot, watch) if watch else 0.0
    held_by_another = _held_by_another(engine, record)
    steering = snapshot.steering
    if steering.cancelled:
        return _wound_up(engine, snapshot, steering.cancelled, watch, spent)
    if held_by_another:
        return ""
    if watch:
        snapshot = _without_the_stuck(engine, snapshot, watch)
    return "" if steering.paused else _pushed_on(engine, snapshot, resumed=steering.resumed)


def _pushed_on(engine: Engine, snapshot: Snapshot, *, resumed: bool) -> str:
    """What is missing is sent again: at once after a pause, else when nothing has moved for a while."""
    record, turn = snapshot.record, snapshot.record.turn
    if resumed:
        engine.store.flag(record.id, RESUMED, "")
    stalled = engine.store.progress(record.id) > engine.settings.stall_after
    if turn is None:
        return _begun(engine, record.id) if stalled or resumed else ""
    unfinished = snapshot.unfinished(turn)
    if not unfinished:
        join_and_verify(engine, record.id, turn.name)
        return "joined"
    missing = _missing(engine, record.id, unfinished, resumed=resumed, stalled=stalled)
    if not missing:
        return ""
    message = f"{counted(len(missing), 'node')} {'go on' if resumed else 'had gone silent'}"
    engine.store.note(record.id, Event(kind="turn.pushed_on", turn=turn.name, message=message))
    publish(engine, record, [node for node in turn.nodes if node in missing])
    return message


def _missing(
    engine: Engine, run_id: str, unfinished: Collection[str], *, resumed: bool, stalled: bool
) -> Collection[str]:
    """Nodes that nobody works on any more: those whose worker died; all, when nobody works on the run at all.

    After a pause a node that is held goes on by itself: its next message is sent when its step has ended.
    """
    lapsed = engine.store.reap(run_id)
    held = engine.store.leases(run_id)
    if resumed:
        return {node for node in unfinished if node not in held}
    if (lapsed or stalled) and not held:
        return unfinished
    return {node for node in lapsed if node in unfinished}


def _wound_up(engine: Engine, snapshot: Snapshot, why: str, watch: Stopwatch | None, spent: float) -> str:
    """Ends a cancelled run: what has not begun at once, what is in the middle when it ends or takes too long."""
    if snapshot.record.turn is None:
        begin(engine, snapshot.record.id)
        snapshot = _anew(engine, snapshot)
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
    # Steps that always run may still be missing: they are sent again when nothing moves.
    return _pushed_on(engine, _anew(engine, snapshot), resumed=False)


def _anew(engine: Engine, snapshot: Snapshot) -> Snapshot:
    return snapshot_of(engine, engine.store.run(snapshot.record.id))


def _held_by_another(engine: Engine, record: RunRecord) -> bool:
    """Renews the lock. Another run may have taken it over while nobody pushed this one on: then that one goes first."""
    if kind_of(record.kind, record.id).read_only:
        return False
    return engine.store.lock_cluster(record.cluster, record.id, LOCK_TTL) is not None


def _begun(engine: Engine, run_id: str) -> str:
    begin(engine, run_id)
    return "begun"


def _mind_the_deadline(snapshot: Snapshot, watch: Stopwatch) -> float:
    """Counts the seconds a run has gone on, and cancels it when it took more than it may."""
    run, flags = snapshot.record.id, snapshot.store.flags(snapshot.record.id)
    steering = Steering.of(flags)
    age = (now() - snapshot.record.created).total_seconds()
    spent = watch.spent(run, flags, age, going=not steering.paused)
    if steering.paused:
        return spent
    snapshot.store.flag(run, SPENT, f"{spent:.1f}")
    bound = snapshot.cluster.policy.deadlines.run
    if spent >= bound and not steering.cancelled:
        snapshot.store.flag(run, CANCEL, f"the run took longer than its deadline of {bound:g} s")
    watch.within(bound - spent if spent < bound else SOON)
    return spent


def _without_the_stuck(engine: Engine, snapshot: Snapshot, watch: Stopwatch) -> Snapshot:
    """Ends the steps whose time is up although they do not end: their thread waits for something for ever."""
    turn = snapshot.record.turn
    if turn is None:
        return snapshot
    held, bound = engine.store.leases(snapshot.record.id), snapshot.cluster.policy.deadlines.step + GRACE
    busy = {node: count for node, count in snapshot.unfinished(turn).items() if node in held}
    since = watch.held(snapshot.record.id, busy)
    stuck = [node for node, seconds in since.items() if seconds >= bound]
    if not stuck:
        for seconds in since.values():
            watch.within(bound - seconds)
        return snapshot
    end_steps(engine, snapshot, turn, stuck, Ending.stuck(snapshot.cluster.policy.deadlines.step))
    return _anew(engine, snapshot)


def _watched(engine: Engine, run_id: str) -> str:
    """Looks without doing anything: whoever leads next has then seen already who went silent."""
    engine.store.progress(run_id)
    engine.store.leases(run_id)
    return ""


class Reconciler:
    """A thread that pushes all active runs on, while this process is the elected one.

    Args:
        engine: whose runs.
        holder: this process, uniquely.
        upkeep: done in every round, elected or not: what this process has to look after itself.
    """

    def __init__(self, engine: Engine, holder: str, upkeep: Callable[[], object] = lambda: None) -> None:
        self._engine = engine
        self._upkeep = upkeep
        self._holder = holder
        self._watch = Stopwatch(engine.settings.reconcile_every)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="esync-reconciler", daemon=True)

    def start(self) -> None:
        """Begins looking."""
        self._thread.start()

    def close(self) -> None:
        """Stops looking."""
        self._stop.set()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """One round over all active runs."""
        every = self._engine.settings.reconcile_every
        leads = self._engine.store.elect("reconciler", self._holder, every * 3)
        active = self._engine.store.active()
        self._watch.only(active if leads else ())
        for run_id in active:
            with suppress(EsyncError):
                did = resume_stalled(self._engine, run_id, self._watch) if leads else _watched(self._engine, run_id)
                if did:
                    log.info("reconciler", run=run_id, did=did)

    def _loop(self) -> None:
        # The first look at once: what lapses is counted from there.
        while True:
            try:
                self._upkeep()
                self.look()
            except Exception as error:  # noqa: BLE001 - the guarantee must outlive any single failure
                log.warning("the reconciler could not look", error=type(error).__name__)
            if self._stop.wait(self._engine.settings.reconcile_every):
                return
