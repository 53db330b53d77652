"""Pushes runs on that nobody pushes any more. The chord is the fast path; this is the guarantee.

Celery on Redis loses a message now and then, and a killed worker takes its steps with it. Nothing is lost here,
because the run store knows what each node has done: whoever has no outcome and no living lease is sent again.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from pipelines.engine import Engine
from pipelines.rollout import LOCK_TTL, LOOKING, begin, join_and_verify, publish
from pipelines.view import View
from tasks.ektron.wording import counted
from tasks.runner import CANCEL, PAUSE
from workers.errors import EsyncError
from workers.logs import logger
from workers.records import Event, RunRecord, RunState, now

__all__ = ["Reconciler", "push_on"]

log = logger(__name__)


def push_on(engine: Engine, run_id: str) -> str:
    """Looks at one run and does what is due; says what that was (empty: nothing).

    Raises:
        EsyncError: the store does not answer, or the run is unknown.
    """
    record = engine.store.run(run_id)
    if record.state is RunState.CONCLUDED:
        return ""
    flags = engine.store.flags(run_id)
    view = View(record, engine.store, engine.material(record))
    # A run that cannot be read keeps its cluster from nobody: read first, then the lock is renewed.
    unfinished = view.unfinished(record.turn) if record.turn else {}
    if _held_by_another(engine, record) or PAUSE in flags:
        return ""
    if CANCEL not in flags:
        _mind_the_deadline(engine, view)
    turn = record.turn
    stalled = engine.store.progress(run_id) > engine.settings.stall_after
    if turn is None:
        return _begun(engine, run_id) if stalled else ""
    if not unfinished:
        join_and_verify(engine, run_id, turn.name)
        return "joined"
    silent = _silent(engine, run_id, unfinished, stalled=stalled)
    if not silent:
        return ""
    message = f"{counted(len(silent), 'node')} had gone silent"
    engine.store.note(run_id, Event(kind="turn.pushed_on", turn=turn.name, message=message))
    publish(engine, record, [node for node in turn.nodes if node in silent])
    return message


def _silent(engine: Engine, run_id: str, unfinished: Collection[str], *, stalled: bool) -> Collection[str]:
    """Nodes that nobody works on any more: those whose worker died; all, when nobody works on the run at all."""
    lapsed = engine.store.reap(run_id)
    if (lapsed or stalled) and not engine.store.leases(run_id):
        return unfinished
    return {node for node in lapsed if node in unfinished}


def _held_by_another(engine: Engine, record: RunRecord) -> bool:
    """Renews the lock. Another run may have taken it over while nobody pushed this one on: then that one goes first."""
    if record.kind in LOOKING:
        return False
    return engine.store.lock_cluster(record.cluster, record.id, LOCK_TTL) is not None


def _begun(engine: Engine, run_id: str) -> str:
    begin(engine, run_id)
    return "begun"


def _mind_the_deadline(engine: Engine, view: View) -> None:
    bound = view.cluster.policy.deadlines.run
    if (now() - view.record.created).total_seconds() > bound:
        engine.store.flag(view.record.id, CANCEL, f"the run took longer than its deadline of {bound:.0f} s")


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
        for run_id in self._engine.store.active():
            with suppress(EsyncError):
                did = push_on(self._engine, run_id) if leads else _watched(self._engine, run_id)
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
