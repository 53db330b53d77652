"""Runs one step on one node: the one place that catches exceptions and turns them into outcomes."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from tasks.cluster import Cluster, Retries
from tasks.documents import RunDocuments
from tasks.ektron.refusals import Refused
from tasks.execution.budget import Budget, BudgetedSession
from tasks.execution.leases import LeaseKeeper
from tasks.execution.logons import Logons, NoSlot
from tasks.execution.outcomes import Job, Tally
from tasks.fence import Fence
from tasks.steering import Steering
from tasks.step import Done, Purpose, Step, Work
from tasks.undo.backups import noted_anything
from workers.errors import ClusterLocked, Conflict, EsyncError, NodeRefused, StoreUnavailable
from workers.logs import logger
from workers.records import Endpoint, Event, RunRecord, Status, StepOutcome, Turn

if TYPE_CHECKING:
    from workers.secrets.vault import Vault
    from workers.store.port import RunStore
    from workers.winrm.pool import SessionPool
    from workers.winrm.session import Session

__all__ = ["NoSuchStep", "NodeBusy", "NotReady", "StepRunner"]

OPEN_DEADLINE = 60.0  #: seconds for a session to become ready, where the deadline of a step is longer
FLAGS_FOR = 1.0  #: seconds for which the flags of a run are not read again
_RUNS = 32  #: runs remembered before all are forgotten: runs come and go, a worker lives for months

log = logger(__name__)


class NoSuchStep(Exception):
    """The run has no such step: the message was not sent by esync."""


class NodeBusy(Exception):
    """Another worker holds this node, or the run already works on as many nodes as it may: try again later."""


class NotReady(Exception):
    """The message has nothing to do: the run is paused, or the step before this one has no outcome.

    The message is dropped. When the run is resumed, the steps without an outcome are sent again.
    """


class StepRunner:
    """Runs steps by name.

    Args:
        steps: every step there is, by name.
        purpose_of: the purpose of observing a node in a turn of a run.
        store: the run store.
        vault: secrets and sealed material.
        sessions: sessions with nodes, kept open between steps.
        leases: the leases of this process.
        max_wait: seconds to wait for a busy node before the message goes back to the queue.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        *,
        purpose_of: Callable[[RunRecord, Turn], Purpose],
        store: "RunStore",
        vault: "Vault",
        sessions: "SessionPool",
        leases: LeaseKeeper,
        max_wait: float = 2.0,
    ) -> None:
        self._steps = steps
        self._purpose_of = purpose_of
        self._store = store
        self._vault = vault
        self._sessions = sessions
        self._leases = leases
        self._max_wait = max_wait
        self._logons = Logons(store, leases.holder, max_wait)
        self._specs: dict[str, Cluster] = {}
        self._flags: dict[str, tuple[float, bool]] = {}
        self._guard = threading.Lock()

    def run(
        self, run_id: str, turn: str, node: str, step: str, report_phase: Callable[[str], None] = lambda _: None
    ) -> StepOutcome:
        """Runs the step once and records its outcome. A step that has an outcome is not run again; it is returned.

        Raises:
            NodeBusy: another worker holds this node.
            NotReady: the run is paused, or the step before this one has no outcome.
            StoreUnavailable: the outcome could not be recorded.
            RunUnknown: there is no such run.
            NoSuchStep: the run has no such step.
        """
        job = self._ready(self._job(run_id, turn, node, step))
        until = time.monotonic() + self._max_wait
        while True:
            with self._leases.held(run_id, node, limit=job.cluster.policy.concurrency) as claim:
                if claim is not None:
                    return self._run_claimed(replace(job, claim=claim), report_phase)
            recorded = self._store.outcome(run_id, turn, node, step)
            if recorded is not None:
                return recorded
            if time.monotonic() > until:
                raise NodeBusy(node)
            time.sleep(0.1)

    def _job(self, run_id: str, turn: str, node: str, step: str) -> Job:
        record = self._store.run(run_id)
        named = next((t for t in record.turns if t.name == turn and node in t.nodes and step in t.steps), None)
        if named is None:
            raise NoSuchStep(f"run {run_id} has no {step} for {node} in a turn {turn}")
        with self._guard:
            if len(self._specs) > _RUNS:
                self._specs.clear()
                self._flags.clear()
            cluster = self._specs.get(run_id) or Cluster.of_run(record)
            self._specs[run_id] = cluster
        return Job(record, cluster, named, node, step)

    def _ready(self, job: Job) -> Job:
        """Checks that the step may begin. Before the lease is taken: a message that cannot run must block no other."""
        if Steering.of(self._store, job.record.id).paused:
            raise NotReady(f"{job.node}: the run is paused")
        position = job.turn.steps.index(job.step)
        if not position:
            return job
        earlier = job.turn.steps[position - 1]
        before = self._store.outcome(job.record.id, job.turn.name, job.node, earlier)
        if before is None:
            raise NotReady(f"{job.node}: {earlier} has no outcome")
        return replace(job, before=before)

    def _run_claimed(self, job: Job, report_phase: Callable[[str], None]) -> StepOutcome:
        """Under the lease: checks again whether there is anything to do, does it, and records the outcome."""
        recorded = self._store.outcome(*job.key)
        if recorded is not None:
            return recorded
        tally = Tally(job, self._leases.holder)
        outcome = self._not_tried(job, tally) or self._tried(job, tally, report_phase)
        try:
            return self._store.record(outcome, job.claim)
        except Conflict:
            # Our lease lapsed and another worker took the node: only what that worker observes and records counts.
            raise NodeBusy(job.node) from None

    def _not_tried(self, job: Job, tally: Tally) -> StepOutcome | None:
        """The outcome when an earlier step ended the node, or when the run is cancelled."""
        if self._steps[job.step].always:
            return None
        before = job.before
        if before is not None and before.status.ends_node:
            status = Status.CANCELLED if before.status is Status.CANCELLED else Status.SKIPPED
            return tally.outcome(status, f"not tried: {before.step} {before.status}")
        why = Steering.of(self._store, job.record.id).cancelled
        return tally.outcome(Status.CANCELLED, f"cancelled: {why}") if why else None

    def _tried(self, job: Job, tally: Tally, report_phase: Callable[[str], None]) -> StepOutcome:
        self._store.note(job.record.id, Event(kind="step.started", turn=job.turn.name, node=job.node, step=job.step))
        try:
            return tally.succeeded(self._attempted(job, tally.recording(report_phase), tally))
        except (NoSlot, ClusterLocked) as error:
            # ClusterLocked: another run has locked the cluster while this one was stalled; the other one goes first.
            raise NodeBusy(str(error)) from None
        except StoreUnavailable:
            raise
        except EsyncError as error:
            return tally.failed(error)
        except Exception as error:
            log.exception("internal error in a step", run=job.record.id, node=job.node, step=job.step)
            name = type(error).__name__
            return tally.failed(EsyncError(f"internal error in {job.step}: {name}", remedy="see the worker's log"))

    def _attempted(self, job: Job, report_phase: Callable[[str], None], tally: Tally) -> Done:
        """Runs the step, again in a new session when the connection breaks: it observes first, so that is safe."""
        endpoint, policy, folder = self._reachable(job), job.cluster.policy, job.cluster.folder
        budget = Budget(job.node, policy.deadlines.step, lambda: self._stops(job))
        fence = Fence(self._store, job.record.id, job.node, job.claim)
        for attempt in _retrying(policy.retries, budget):
            with (
                attempt,
                self._logons.of(job.record.id, endpoint, policy.max_refused) as logon,
                self._sessions.session(
                    endpoint,
                    lambda: logon.admit(lambda: self._vault.reveal(endpoint.secret, folder)),
                    deadline=min(OPEN_DEADLINE, budget.left),
                    cancelled=budget.cancelled,
                ) as session,
            ):
                logon.accepted()
                tally.begin(attempt.retry_state.attempt_number)
                before = session.counters
                # The cost of a session that was opened for this step includes the opening; a kept one counts from now.
                base = (0, 0) if session.fresh else (before.round_trips, before.shells)
                work = self._work(job, self._bounded(job, session, budget, tally), report_phase, fence)
                try:
                    done = _refusals_mapped(self._steps[job.step].run, work)
                    if tally.touched_earlier and not done.changes and self._steps[job.step].keeps_backups:
                        tally.touched_earlier = noted_anything(work)
                    return done
                finally:
                    tally.add(session, base)
        raise AssertionError("unreachable: Retrying returns or raises")

    def _reachable(self, job: Job) -> Endpoint:
        """The endpoint of the node; its `ca_file` is a file that this worker may read."""
        endpoint = job.cluster.endpoint(job.node)
        if not endpoint.ca_file:
            return endpoint
        authorities = self._vault.authorities(endpoint.ca_file, job.cluster.folder)
        return endpoint.model_copy(update={"ca_file": authorities})

    def _bounded(self, job: Job, session: "Session", budget: Budget, tally: Tally) -> "Session":
        return BudgetedSession(session, budget, touched=lambda: tally.touched, given_up=lambda: self._given_up(job))

    def _given_up(self, job: Job) -> bool:
        """Whether the reconciler has ended this step; if another worker did, the node itself refuses our changes."""
        recorded = self._store.outcome(*job.key)
        return recorded is not None and not recorded.worker

    def _work(self, job: Job, session: "Session", report_phase: Callable[[str], None], fence: Fence) -> Work:
        return Work(
            run=job.record.id,
            purpose=self._purpose_of(job.record, job.turn),
            node=job.cluster.node(job.node),
            cluster=job.cluster,
            session=session,
            documents=RunDocuments(self._store, self._vault, job.record.id),
            cancelled=lambda: self._stops(job),
            report_phase=report_phase,
            parent=job.record.parent,
            options=job.record.options,
            steps=self._steps,
            fence=fence,
        )

    def _stops(self, job: Job) -> bool:
        """Whether the step has to stop because the run is cancelled; a step that always runs does not."""
        return not self._steps[job.step].always and self._cancelled(job)

    def _cancelled(self, job: Job) -> bool:
        """Called at every turn of every wait; reads the store once a second at most."""
        with self._guard:
            read, flagged = self._flags.get(job.record.id, (0.0, False))
        if time.monotonic() - read > FLAGS_FOR:
            flagged = bool(Steering.of(self._store, job.record.id).cancelled)
            with self._guard:
                self._flags[job.record.id] = (time.monotonic(), flagged)
        return flagged


def _retrying(retries: Retries, budget: Budget) -> Retrying:
    """The one place that retries a step: the step observes first, so that is safe after any failure."""

    def spent(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        worth = retries.attempts(error.failure) if isinstance(error, EsyncError) else 0
        return state.attempt_number >= worth or state.upcoming_sleep >= budget.left

    return Retrying(
        stop=spent,
        wait=wait_random_exponential(multiplier=retries.backoff, max=retries.longest),
        retry=retry_if_exception(lambda error: isinstance(error, EsyncError)),
        sleep=budget.sleep,
        reraise=True,
    )


def _refusals_mapped(step: Callable[[Work], Done], work: Work) -> Done:
    """Runs the step, and maps the refusals of the pure product knowledge (`tasks.ektron`) to node errors."""
    try:
        return step(work)
    except Refused as refusal:
        raise NodeRefused(str(refusal), remedy=refusal.remedy, file=getattr(refusal, "file", "")) from refusal
