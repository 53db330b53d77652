"""Runs one step on one node: the one place that catches exceptions and turns them into outcomes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.cluster import Cluster
from tasks.documents import Known, RunDocuments
from tasks.ektron.refusals import Refused
from tasks.execution.budget import Budget, BudgetedSession
from tasks.execution.cancellations import Cancellations
from tasks.execution.claims import Claims
from tasks.execution.leases import Lease, LeaseKeeper
from tasks.execution.logons import Logons, NoSlot
from tasks.execution.outcomes import Job, Tally, internal
from tasks.execution.retrying import retrying
from tasks.execution.shared_clock import SharedClock
from tasks.fence import Fence
from tasks.marks import Balancing, Marks
from tasks.steering import CANCEL, PAUSE, Steering
from tasks.step import Done, Work
from tasks.step_values import Purpose, Step
from tasks.undo.backups import noted_anything
from workers.errors import ClusterLocked, Conflict, EsyncError, NodeRefused, StoreUnavailable
from workers.logger import logger
from workers.records import Endpoint, Event, RunRecord, Status, StepOutcome, Turn
from workers.remembered import Remembered
from workers.sites.port import Address, OpenSite, Site
from workers.store.port import Beginning, Begun, Finished, Finishing, Place
from workers.winrm.channel import Gate

if TYPE_CHECKING:
    from workers.secrets.vault import Vault
    from workers.store.port import RunStore
    from workers.winrm.pool import SessionPool
    from workers.winrm.session import Session

__all__ = ["NoSuchStep", "NodeBusy", "NotReady", "StepRunner"]

OPEN_DEADLINE = 60.0  #: seconds for a session to become ready, where the deadline of a step is longer
_NODES = 10_000  #: nodes of all runs whose records are remembered
Names = tuple[str, str, str, str]  #: run, turn, node and step

log = logger(__name__)


def _ignore(_: object) -> None:
    """For a caller who does not want to know."""


def _over_http(address: Address) -> Site:
    """Loads the client at its first use: few workers ever ask a site."""
    from workers.sites.http import open_site  # noqa: PLC0415 - see above

    return open_site(address)


class NoSuchStep(Exception):
    """The run has no such step: the message was not sent by esync."""


class NodeBusy(Exception):
    """Another worker holds this node: try again later."""


class NotReady(Exception):
    """The message has nothing to do now: the run waits, or has enough nodes in work, or the step before has no outcome.

    The message is dropped. The steps without an outcome are sent again when the run is resumed, or a node has ended.
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
        known: what this process knows of documents.
        max_wait: seconds to wait for a busy node before the message goes back to the queue.
        clock: monotonic seconds.
        open_site: opens the web site of a node.
        let_begin: called with run, turn and a node that had to wait: it has to get its steps again.
    """

    def __init__(  # noqa: PLR0913 - everything a step needs, by keyword
        self,
        steps: Mapping[str, Step],
        *,
        purpose_of: Callable[[RunRecord, Turn], Purpose],
        store: "RunStore",
        vault: "Vault",
        sessions: "SessionPool",
        leases: LeaseKeeper,
        known: Known | None = None,
        max_wait: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        open_site: OpenSite = _over_http,
        let_begin: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self._known = known or Known()
        self._steps = steps
        self._purpose_of = purpose_of
        self._store = store
        self._vault = vault
        self._sessions = sessions
        self._leases = leases
        self._max_wait = max_wait
        self._clock = clock
        self._open_site = open_site
        self._let_begin = let_begin
        self._logons = Logons(store, leases.holder, max_wait)
        self._records: Remembered[RunRecord] = Remembered(_NODES)
        self._cancellations = Cancellations(store, clock)
        self._claims = Claims(store, clock)
        self._clock_of_all = SharedClock(store, clock)

    def run(
        self,
        run_id: str,
        turn: str,
        node: str,
        step: str,
        report_phase: Callable[[str], None] = _ignore,
        report_end: Callable[[bool], None] = _ignore,
    ) -> StepOutcome:
        """Runs the step once and records its outcome. A step that has an outcome is not run again; it is returned.

        Args:
            run_id: the run.
            turn: of the run.
            node: in the turn.
            step: of the turn.
            report_phase: called with what the step is doing.
            report_end: called with whether all outcomes of the turn may be there.

        Raises:
            NodeBusy: another worker holds this node.
            NotReady: the run is paused or works on enough nodes, or the step before this one has no outcome.
            StoreUnavailable: the outcome could not be recorded.
            RunUnknown: there is no such run.
            NoSuchStep: the run has no such step.
        """
        until = time.monotonic() + self._max_wait
        while True:
            with self._leases.of(run_id, node) as lease:
                if lease is None:
                    stored = self._store.outcome(run_id, turn, node, step)
                    done = Finished(stored, complete=True) if stored else None
                else:
                    done = self._begun((run_id, turn, node, step), lease, report_phase)
            if done is not None:
                report_end(done.complete)
                if done.following:
                    self._let_begin(run_id, turn, done.following)
                return done.outcome
            if time.monotonic() > until:
                raise NodeBusy(node)
            time.sleep(0.1)

    def _begun(self, names: Names, lease: Lease, report_phase: Callable[[str], None]) -> Finished | None:
        """Begins the step and runs it; None when another worker holds the node."""
        job, begun = self._begin(self._job(names))
        if begun is None:  # the run has another turn since this process read it
            job, begun = self._begin(self._job(names, fresh=True))
        lease.held = begun is not None and begun.claim is not None
        if begun is None:
            return None
        if begun.outcome is not None:
            return Finished(begun.outcome, complete=True)
        steering = Steering.from_flags(begun.flags)
        if steering.paused:
            raise NotReady(f"{job.node}: the run is paused")
        if begun.waits:
            raise NotReady(f"{job.node}: the run works on as many nodes as it may")
        if begun.claim is None:
            if job.earlier and begun.before is None:
                raise NotReady(f"{job.node}: {job.earlier} has no outcome")
            return None
        self._cancellations.saw(job.record.id, cancelled=bool(steering.cancelled))
        job = replace(job, claim=begun.claim, number=begun.number, before=begun.before, flags=begun.flags)
        return self._ended(job, lease, steering, report_phase)

    def _begin(self, job: Job) -> tuple[Job, Begun | None]:
        """Begins the step; the job then has its documents: those that this process does not know are read."""
        places = RunDocuments.of_step(job.node, alone=len(job.turn.steps) == 1)
        known, since = self._known.texts(job.record, places), self._clock()
        begun = self._store.begin(self._beginning(job, tuple(place for place in places if place not in known)))
        if begun is None:
            return job, None
        self._known.keep_texts(job.record, begun.documents)
        return replace(job, since=since, documents={**known, **begun.documents}), begun

    def _beginning(self, job: Job, documents: tuple[Place, ...]) -> Beginning:
        run, turn, node, step = job.key
        return Beginning(
            run=run,
            version=job.record.version,
            turn=turn,
            node=node,
            step=step,
            earlier=job.earlier,
            holder=self._leases.holder,
            ttl=self._leases.ttl,
            limit=job.cluster.policy.concurrency,
            waiting=PAUSE,
            ending=CANCEL,
            always=self._steps[step].always,
            documents=documents,
        )

    def _job(self, names: Names, *, fresh: bool = False) -> Job:
        """The step that a message names, in the run as this process knows it."""
        run_id, turn, node, step = names
        known = None if fresh else self._records.get(run_id)
        record = known or self._store.run(run_id)
        if known is None:
            self._records.put(run_id, record, 1 + len(record.spec.get("nodes", ())))
        named = next((t for t in record.turns if t.name == turn and node in t.nodes and step in t.steps), None)
        if named is not None:
            return Job(record, Cluster.of_run(record), named, node, step)
        if known is not None:
            return self._job(names, fresh=True)
        raise NoSuchStep(f"run {run_id} has no {step} for {node} in a turn {turn}")

    def _ended(self, job: Job, lease: Lease, steering: Steering, report_phase: Callable[[str], None]) -> Finished:
        """Under the lease: does what there is to do, and records the outcome."""
        tally = Tally(job, self._leases.holder)
        outcome = self._not_tried(job, tally, steering.cancelled) or self._tried(job, tally, report_phase)
        try:
            finished = self._store.finish(
                Finishing(
                    outcome=outcome,
                    fence=job.claim,
                    holder=self._leases.holder,
                    documents=job.kept,
                    of=job.outcomes_of_turn,
                    more=job.step != job.turn.steps[-1],
                )
            )
        except Conflict:
            # Our lease lapsed and another worker took the node: only what that worker observes and records counts. Or
            # the store has lost our claim, and with it that the step began: it begins again.
            raise NodeBusy(job.node) from None
        lease.held = False
        self._known.forget_texts(job.record, job.kept)
        return finished

    def _not_tried(self, job: Job, tally: Tally, cancelled: str) -> StepOutcome | None:
        """The outcome when an earlier step ended the node, or when the run is cancelled."""
        if self._steps[job.step].always:
            return None
        before = job.before
        if before is not None and before.status.ends_node:
            status = Status.CANCELLED if before.status is Status.CANCELLED else Status.SKIPPED
            return tally.outcome(status, f"not tried: {before.step} {before.status}")
        return tally.outcome(Status.CANCELLED, f"cancelled: {cancelled}") if cancelled else None

    def _tried(self, job: Job, tally: Tally, report_phase: Callable[[str], None]) -> StepOutcome:
        try:
            return tally.succeeded(self._attempted(job, tally.recording(report_phase), tally))
        except NoSlot as error:
            # It has begun and will begin again: who reads the history has to see why.
            place = {"turn": job.turn.name, "node": job.node, "step": job.step}
            self._store.note(job.record.id, Event(kind="step.postponed", message=str(error), **place))
            raise NodeBusy(str(error)) from None
        except ClusterLocked as error:
            # ClusterLocked: another run has locked the cluster while this one was stalled; the other one goes first.
            raise NodeBusy(str(error)) from None
        except StoreUnavailable:
            raise
        except EsyncError as error:
            return tally.failed(error)
        except Exception as error:
            log.exception("internal error in a step", run=job.record.id, node=job.node, step=job.step)
            return tally.failed(internal(error, job.step))

    def _attempted(self, job: Job, report_phase: Callable[[str], None], tally: Tally) -> Done:
        """Runs the step, again in a new session when the connection breaks: it observes first, so that is safe."""
        endpoint, policy, folder = self._reachable(job), job.cluster.policy, job.cluster.folder
        budget = Budget(job.node, policy.deadlines.step, lambda: self._stops(job), job.since, self._clock)
        fence = Fence(self._store, job.record.id, job.node, job.claim, job.number)
        for attempt in retrying(policy.retries, budget):
            with (
                attempt,
                self._logons.of(job.record.id, endpoint, policy.max_refused, job.flags, job.kept) as logon,
                self._sessions.session(
                    endpoint,
                    lambda: logon.secret(lambda: self._vault.reveal(endpoint.secret, folder)),
                    gate=Gate(logon.admit, logon.accepted),
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
        """Whether the reconciler has ended this step; if another worker did, the node itself refuses our changes.

        It ends a step whose time is up, which the budget has noticed by then, or when the run is cancelled.
        """
        if not self._cancellations.has(job.record.id):
            return False
        recorded = self._store.outcome(*job.key)
        return recorded is not None and not recorded.worker

    def _work(self, job: Job, session: "Session", report_phase: Callable[[str], None], fence: Fence) -> Work:
        run, turn, node, step = job.key

        def note(kind: str, message: str) -> None:
            self._store.note(run, Event(kind=kind, turn=turn, node=node, step=step, message=message))

        return Work(
            run=job.record.id,
            purpose=self._purpose_of(job.record, job.turn),
            node=job.cluster.node(job.node),
            cluster=job.cluster,
            session=session,
            documents=RunDocuments(self._store, self._vault, job.record.id, self._known, job.documents, job.kept),
            cancelled=lambda: self._stops(job),
            report_phase=report_phase,
            open_site=lambda address: self._site(job, address),
            reveal=lambda reference: self._vault.reveal(reference, job.cluster.folder),
            note=note,
            turn=turn,
            parent=job.record.parent,
            options=job.record.options,
            steps=self._steps,
            balancing=self._balancing(job),
            fence=fence,
            time=self._clock_of_all.time,
        )

    def _balancing(self, job: Job) -> Balancing | None:
        """What operates balancers, for a step that does."""
        if not self._steps[job.step].balances:
            return None
        marks = Marks(self._store, self._leases.holder)
        return Balancing(marks, lambda path: self._vault.program(path, job.cluster.folder))

    def _site(self, job: Job, address: Address) -> Site:
        """The site of a node; its `ca_file` is a file that this worker may read."""
        if not address.ca_file:
            return self._open_site(address)
        authorities = self._vault.authorities(address.ca_file, job.cluster.folder)
        return self._open_site(replace(address, ca_file=authorities))

    def _stops(self, job: Job) -> bool:
        """Whether the step has to stop: the run is cancelled, and it does not always run; or it has lost its node."""
        cancelled = not self._steps[job.step].always and self._cancellations.has(job.record.id)
        return cancelled or self._claims.lost(job)


def _refusals_mapped(step: Callable[[Work], Done], work: Work) -> Done:
    """Runs the step, and maps the refusals of the pure product knowledge (`tasks.ektron`) to node errors."""
    try:
        return step(work)
    except Refused as refusal:
        raise NodeRefused(f"{work.node.name}: {refusal}", remedy=refusal.remedy) from refusal
