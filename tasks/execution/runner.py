"""Runs one step on one node: the one place that catches exceptions and turns them into outcomes."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from tasks.cluster import Cluster, Retries
from tasks.documents import RunDocuments
from tasks.ektron.refusals import Refused
from tasks.execution.budget import Budget, BudgetedSession
from tasks.execution.leases import LeaseKeeper
from tasks.execution.logons import Logons, NoPlace, NotTried
from tasks.fence import Fence
from tasks.steering import Steering
from tasks.step import APPLYING, Done, Purpose, Step, Work
from tasks.undo.backups import noted_anything
from workers.errors import (
    Cancelled,
    ClusterLocked,
    Conflict,
    EsyncError,
    NodeRefused,
    StoreUnavailable,
    Unreachable,
)
from workers.logs import logger
from workers.records import Endpoint, Event, RunRecord, Status, StepOutcome, Turn, now

if TYPE_CHECKING:
    from workers.secrets.vault import Vault
    from workers.store.port import RunStore
    from workers.winrm.pool import SessionPool
    from workers.winrm.session import Session

__all__ = ["NodeBusy", "NotAsked", "NotNow", "StepRunner"]

OPEN_DEADLINE = 60.0  #: seconds for a session to be ready, where the policy's step is longer
FLAGS_FOR = 1.0  #: seconds a look at the run's flags is good for
_LINE = 1000  #: characters that a node may say of itself
_REMEDY = "put right on the server what the message says, then retry this run"

log = logger(__name__)


class NotAsked(Exception):
    """The run has no such step: nobody of ours sent this."""


class NodeBusy(Exception):
    """Somebody else works on this node now, or the run works on as many nodes as it may: come back later."""


class NotNow(Exception):
    """The message has nothing to do: the run is paused, or the step before this one has not been done.

    It is not to come back. Whoever lets the run go on sends again what has no outcome.
    """


@dataclass(frozen=True, slots=True)
class _Job:
    """One step of one node, as named by the message."""

    record: RunRecord
    cluster: Cluster
    turn: Turn
    node: str
    step: str
    claim: int = 0  #: the number of our claim on the node
    before: StepOutcome | None = None  #: what the step before this one came to

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.record.id, self.turn.name, self.node, self.step)


class StepRunner:
    """Runs steps by name.

    Args:
        steps: every step there is, by name.
        purpose_of: what a look at a node is for in a turn of a run.
        store: the truth about the run.
        vault: secrets and sealed material.
        sessions: conversations with nodes, kept open between steps.
        leases: this process's claims.
        patience: seconds to wait for a node that is busy before giving the message back.
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
        patience: float = 2.0,
    ) -> None:
        self._steps = steps
        self._purpose_of = purpose_of
        self._store = store
        self._vault = vault
        self._sessions = sessions
        self._leases = leases
        self._patience = patience
        self._logons = Logons(store, leases.holder, patience)
        self._specs: dict[str, Cluster] = {}
        self._flags: dict[str, tuple[float, bool]] = {}
        self._guard = threading.Lock()

    def run(
        self, run_id: str, turn: str, node: str, step: str, say: Callable[[str], None] = lambda _: None
    ) -> StepOutcome:
        """Runs the step once and records what came of it; a recorded outcome is returned, not repeated.

        Raises:
            NodeBusy: somebody else works on this node.
            NotNow: the run is paused, or it is not this step's turn.
            StoreUnavailable: the outcome could not be recorded.
            RunUnknown: there is no such run.
            NotAsked: the run has no such step.
        """
        job = self._due(self._job(run_id, turn, node, step))
        until = time.monotonic() + self._patience
        while True:
            with self._leases.held(run_id, node, limit=job.cluster.policy.concurrency) as claim:
                if claim is not None:
                    return self._decided(replace(job, claim=claim), say)
            recorded = self._store.outcome(run_id, turn, node, step)
            if recorded is not None:
                return recorded
            if time.monotonic() > until:
                raise NodeBusy(node)
            time.sleep(0.1)

    def _job(self, run_id: str, turn: str, node: str, step: str) -> _Job:
        record = self._store.run(run_id)
        named = next((t for t in record.turns if t.name == turn and node in t.nodes and step in t.steps), None)
        if named is None:
            raise NotAsked(f"run {run_id} has no {step} for {node} in a turn {turn}")
        with self._guard:
            if len(self._specs) > 32:  # noqa: PLR2004 - runs come and go; a worker lives for months
                self._specs.clear()
                self._flags.clear()
            cluster = self._specs.get(run_id) or Cluster.of_run(record)
            self._specs[run_id] = cluster
        return _Job(record, cluster, named, node, step)

    def _due(self, job: _Job) -> _Job:
        """Whether the step may begin, asked before anything is held: a message that has to wait holds up nobody."""
        if Steering.of(self._store.flags(job.record.id)).paused:
            raise NotNow(f"{job.node}: the run is paused")
        position = job.turn.steps.index(job.step)
        if not position:
            return job
        earlier = job.turn.steps[position - 1]
        before = self._store.outcome(job.record.id, job.turn.name, job.node, earlier)
        if before is None:
            raise NotNow(f"{job.node}: {earlier} has not been done")
        return replace(job, before=before)

    def _decided(self, job: _Job, say: Callable[[str], None]) -> StepOutcome:
        """Under the lease: look once more whether there is anything to do, do it, record it."""
        recorded = self._store.outcome(*job.key)
        if recorded is not None:
            return recorded
        started = now()
        outcome = self._reason_not_to(job, started) or self._tried(job, started, say)
        try:
            return self._store.record(outcome, job.claim)
        except Conflict:
            # Our lease lapsed and another took the node: what that one sees and records is what counts.
            raise NodeBusy(job.node) from None

    def _reason_not_to(self, job: _Job, started: datetime) -> StepOutcome | None:
        """An earlier step that ended the node, or a cancelled run."""
        if self._steps[job.step].always:
            return None
        before = job.before
        if before is not None and before.status.ends_node:
            status = Status.CANCELLED if before.status is Status.CANCELLED else Status.SKIPPED
            return self._outcome(job, started, status, message=f"not tried: {before.step} {before.status}")
        steering = Steering.of(self._store.flags(job.record.id))
        if steering.cancelled:
            return self._outcome(job, started, Status.CANCELLED, message=f"cancelled: {steering.cancelled}")
        return None

    def _tried(self, job: _Job, started: datetime, say: Callable[[str], None]) -> StepOutcome:
        tally = _Tally()
        self._store.note(job.record.id, Event(kind="step.started", turn=job.turn.name, node=job.node, step=job.step))
        try:
            done = self._attempted(job, tally.listening(say), tally)
        except NoPlace as busy:
            raise NodeBusy(str(busy)) from None
        except StoreUnavailable:
            raise
        except ClusterLocked as error:
            # Another run took the cluster over while nobody pushed this one on: that one goes first.
            raise NodeBusy(str(error)) from None
        except EsyncError as error:
            return self._ended_by(job, started, _status_of(error), error, tally)
        except Exception as error:
            log.exception("step broke", run=job.record.id, node=job.node, step=job.step)
            broke = EsyncError(f"internal error in {job.step}: {type(error).__name__}", remedy="see the worker's log")
            return self._ended_by(job, started, Status.FAILED, broke, tally)
        if done.failed is not None:
            ended = self._ended_by(job, started, Status.FAILED, done.failed, tally)
            return ended.model_copy(update={"changes": done.changes})
        status = Status.CHANGED if done.changes or tally.earlier else Status.UNCHANGED
        besides = "; an earlier try had changed this node before its connection broke" if tally.earlier else ""
        return self._outcome(job, started, status, tally=tally, message=done.message + besides).model_copy(
            update={"changes": done.changes}
        )

    def _attempted(self, job: _Job, say: Callable[[str], None], tally: "_Tally") -> Done:
        """The step, again in a new session when the conversation broke: it observes first, so that is safe."""
        endpoint, policy, folder = self._reachable(job), job.cluster.policy, job.cluster.folder
        budget = Budget(job.node, policy.deadlines.step, lambda: self._stops(job))
        fence = Fence(self._store, job.record.id, job.node, job.claim)
        for attempt in _retrying(policy.retries, budget):
            with (
                attempt,
                self._logons.of(job.record.id, endpoint, policy.max_refused) as logon,
                self._sessions.session(
                    endpoint,
                    lambda: logon.let_on(lambda: self._vault.reveal(endpoint.secret, folder)),
                    deadline=min(OPEN_DEADLINE, budget.left),
                    cancelled=budget.cancelled,
                ) as session,
            ):
                logon.accepted()
                tally.attempts, tally.earlier = attempt.retry_state.attempt_number, tally.touched
                before = session.counters
                # A session opened for this step has counted its own opening; a kept one starts from where it stood.
                base = (0, 0) if session.fresh else (before.round_trips, before.shells)
                work = self._work(job, self._bounded(job, session, budget, tally), say, fence)
                try:
                    done = _refusals_mapped(self._steps[job.step].run, work)
                    if tally.earlier and not done.changes and self._steps[job.step].keeps_backups:
                        tally.earlier = noted_anything(work)
                    return done
                finally:
                    tally.take(session, base)
        raise AssertionError("unreachable: Retrying returns or raises")

    def _reachable(self, job: _Job) -> Endpoint:
        """Where the node listens, its authorities as a file that may be read here."""
        endpoint = job.cluster.endpoint(job.node)
        if not endpoint.ca_file:
            return endpoint
        authorities = self._vault.authorities(endpoint.ca_file, job.cluster.folder)
        return endpoint.model_copy(update={"ca_file": authorities})

    def _bounded(self, job: _Job, session: "Session", budget: Budget, tally: "_Tally") -> "Session":
        return BudgetedSession(session, budget, touched=lambda: tally.touched, overtaken=lambda: self._given_up(job))

    def _given_up(self, job: _Job) -> bool:
        """Whether this step has an outcome that no worker recorded: what another worker did, the node itself knows."""
        stands = self._store.outcome(*job.key)
        return stands is not None and not stands.worker

    def _work(self, job: _Job, session: "Session", say: Callable[[str], None], fence: Fence) -> Work:
        return Work(
            run=job.record.id,
            purpose=self._purpose_of(job.record, job.turn),
            node=job.cluster.node(job.node),
            cluster=job.cluster,
            session=session,
            documents=RunDocuments(self._store, self._vault, job.record.id),
            cancelled=lambda: self._stops(job),
            say=say,
            parent=job.record.parent,
            options=job.record.options,
            steps=self._steps,
            fence=fence,
        )

    def _stops(self, job: _Job) -> bool:
        """Whether the step has to stop because the run is cancelled; a step that always runs does not."""
        return not self._steps[job.step].always and self._cancelled(job)

    def _cancelled(self, job: _Job) -> bool:
        """Asked at every turn of every wait; read from the store once a second at most."""
        with self._guard:
            read, flagged = self._flags.get(job.record.id, (0.0, False))
        if time.monotonic() - read > FLAGS_FOR:
            flagged = bool(Steering.of(self._store.flags(job.record.id)).cancelled)
            with self._guard:
                self._flags[job.record.id] = (time.monotonic(), flagged)
        return flagged

    def _ended_by(
        self, job: _Job, started: datetime, status: Status, error: EsyncError, tally: "_Tally"
    ) -> StepOutcome:
        return self._outcome(job, started, status, tally=tally).model_copy(
            update={
                **dict(error.problem),
                "remedy": error.remedy or (_REMEDY if error.failure else ""),
                "touched": tally.touched,
                "about": tally.about if error.failure else "",
            }
        )

    def _outcome(
        self,
        job: _Job,
        started: datetime,
        status: Status,
        *,
        slug: str = "",
        message: str = "",
        tally: "_Tally | None" = None,
    ) -> StepOutcome:
        tally = tally or _Tally()
        return StepOutcome(
            run=job.record.id,
            turn=job.turn.name,
            node=job.node,
            step=job.step,
            status=status,
            slug=slug,
            message=message,
            started=started,
            ended=now(),
            attempt=tally.attempts,
            worker=self._leases.holder,
            round_trips=tally.round_trips,
            shells=tally.shells,
            way=tally.way,
        )


def _status_of(error: EsyncError) -> Status:
    """What a step comes to that this error ends."""
    ends = {Unreachable: Status.UNREACHABLE, Cancelled: Status.CANCELLED, NotTried: Status.SKIPPED}
    return ends.get(type(error), Status.FAILED)


def _retrying(retries: Retries, budget: Budget) -> Retrying:
    """The one place that tries again: the step observes first, so that is safe after any failure."""

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


@dataclass(slots=True)
class _Tally:
    """What a step cost and what was heard of the node, over its attempts."""

    attempts: int = 1
    round_trips: int = 0
    shells: int = 0
    touched: bool = False  #: whether a step said that it began to change the node
    earlier: bool = False  #: whether it had, in an attempt before this one: whose work it then finds done
    about: str = ""
    way: str = ""
    phase: str = ""

    def listening(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, heard; what is said again is not passed on."""

        def said(phase: str) -> None:
            self.touched = self.touched or phase == APPLYING
            if phase != self.phase:
                say(phase)
            self.phase = phase

        return said

    def take(self, session: "Session", base: tuple[int, int]) -> None:
        """What an attempt cost beyond `base`, and what the node said of itself in it, if it did."""
        after = session.counters
        self.round_trips += after.round_trips - base[0]
        self.shells += after.shells - base[1]
        self.way = session.way if session.way != "auto" else self.way
        self.about = str(session.greeting or self.about)[:_LINE]


def _refusals_mapped(step: Callable[[Work], Done], work: Work) -> Done:
    """The border to the pure knowledge: its refusals become ours."""
    try:
        return step(work)
    except Refused as refusal:
        raise NodeRefused(str(refusal), remedy=refusal.remedy, file=getattr(refusal, "file", "")) from refusal
