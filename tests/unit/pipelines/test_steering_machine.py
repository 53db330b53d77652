"""Pause, cancel, resume, retry, another run, killed workers, lost messages, stuck nodes and time, in every order."""

import os
from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.coordinator import join_and_verify
from pipelines.reconcile import begin_or_continue, resume_stalled
from pipelines.run.elapsed import Stopwatch
from pipelines.usecases import control
from pipelines.usecases import runs as commands
from tasks.cluster import Cluster
from tasks.steering import Steering
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import the_cluster
from tests.unit.pipelines.steered_workers import PASSWORD, Message, Site, Worker
from workers.errors import InputRefused
from workers.records import RunRecord, RunState, Status, Verdict

STEP, RUN, CANCEL = 100, 1000, 30


def a_cluster(in_work: int = 50) -> Cluster:
    """Four servers in two pools, of which so many may be in work at the same time."""
    data = the_cluster().model_dump()
    data["connection"]["secret"] = f"env:{PASSWORD}"
    data["policy"]["concurrency"] = in_work
    data["policy"]["deadlines"] |= {"step": STEP, "run": RUN, "cancel": CANCEL}
    return Cluster.model_validate(data)


class SteeringMachine(RuleBasedStateMachine):
    """At most one run holds the cluster; whatever happens, every run ends and unlocks the cluster."""

    def __init__(self) -> None:
        super().__init__()
        os.environ[PASSWORD] = "no node checks it"
        self.site = Site()
        self.engine = self.site.engine
        self.watch = Stopwatch(5, self.site.clock)
        self.runs: list[str] = []
        self.cancelled: set[str] = set()
        self.in_work = 50

    @initialize(messages=st.integers(0, 24), in_work=st.sampled_from([50, 1, 2]))
    def begun(self, messages: int, in_work: int) -> None:
        """A rollout has started and handled some messages. In some cases nodes have to wait for each other."""
        self.in_work = in_work
        self.another()
        self.take_many(messages)

    # -- what operators do

    @rule(place=st.integers(0, 3))
    def pause(self, place: int) -> None:
        """A pause is refused for runs that have ended or are being cancelled, and changes nothing there."""
        run = self.runs[place % len(self.runs)]
        refused = self.ended(run) or run in self.cancelled
        try:
            control.pause(self.engine, run)
        except InputRefused:
            assert refused
        else:
            assert not refused

    @rule(place=st.integers(0, 3))
    def resume(self, place: int) -> None:
        """A resume does not undo a cancel."""
        run = self.runs[place % len(self.runs)]
        with suppress(InputRefused):
            control.resume(self.engine, run)
        assert self.ended(run) or not Steering.of(self.engine.store, run).paused

    @rule(place=st.integers(0, 3))
    def cancel(self, place: int) -> None:
        """A cancel is final."""
        run = self.runs[place % len(self.runs)]
        control.cancel(self.engine, run)
        if not self.ended(run):
            self.cancelled.add(run)

    @precondition(lambda self: len(self.runs) < 4)
    @rule(place=st.integers(0, 3))
    def retry(self, place: int) -> None:
        """Only a run that has ended can be retried."""
        run = self.runs[place % len(self.runs)]
        with suppress(InputRefused):
            self.runs.append(control.retry(self.engine, run).id)
            assert self.ended(run)

    @precondition(lambda self: len(self.runs) < 4)
    @rule()
    def another(self) -> None:
        """Another run is started on the cluster."""
        self.runs.append(commands.start(self.engine, a_cluster(self.in_work)).id)

    # -- what the broker, workers and nodes do

    @precondition(lambda self: self.site.app.waiting)
    @rule(place=st.integers(0, 30))
    def take(self, place: int) -> None:
        """A worker takes a message."""
        waiting = self.site.app.waiting
        self.taken(waiting[place % len(waiting)])

    @precondition(lambda self: self.site.app.waiting)
    @rule(count=st.integers(1, 24))
    def take_many(self, count: int) -> None:
        """A healthy worker handles what is waiting, and chords call their body when they should."""
        for _ in range(count):
            if self.site.app.waiting:
                self.taken(self.site.app.waiting[0])
            while self.site.workers:
                self.site.proceed(self.site.workers[0])
            if not self.site.app.waiting:
                self.join()

    @precondition(lambda self: self.site.app.waiting)
    @rule(place=st.integers(0, 30))
    def lose(self, place: int) -> None:
        """A message is lost."""
        del self.site.app.waiting[place % len(self.site.app.waiting)]

    @precondition(lambda self: self.site.app.waiting)
    @rule(place=st.integers(0, 30))
    def twice(self, place: int) -> None:
        """A message is delivered twice."""
        self.site.app.waiting.append(self.site.app.waiting[place % len(self.site.app.waiting)])

    @precondition(lambda self: self.site.workers)
    @rule(place=st.integers(0, 8))
    def answer(self, place: int) -> None:
        """A node answers."""
        self.site.proceed(self.one_worker(place))

    @precondition(lambda self: self.site.workers)
    @rule(place=st.integers(0, 8))
    def kill(self, place: int) -> None:
        """A worker is killed."""
        self.site.kill(self.one_worker(place))

    @rule()
    def join(self) -> None:
        """A chord calls its body, at any time."""
        for run in self.runs:
            turn = self.engine.store.run(run).turn
            if turn is not None:
                join_and_verify(self.engine, run, turn.name)

    @rule(seconds=st.sampled_from([1, 20, 70, 110, 400]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.site.pass_by(seconds)

    @rule()
    def check_runs(self) -> None:
        """The reconciler checks the runs."""
        self.watch.only(self.engine.store.active())
        for run in self.runs:  # not in the order of their ids, which are random
            resume_stalled(self.engine, run, self.watch)

    @rule()
    def elect(self) -> None:
        """Another reconciler is elected, which has measured nothing so far."""
        self.watch = Stopwatch(5, self.site.clock)

    # -- what must always be true

    @invariant()
    def nothing_is_wrong(self) -> None:
        """No node is changed after its run has ended, and no two runs work on the cluster at the same time."""
        assert not self.site.wrong
        begun = [run for run in self.runs if not self.ended(run) and self.engine.store.run(run).turns]
        holders = [run for run in begun if self.engine.store.lock_servers(a_cluster().servers, run, 120) is None]
        assert len(holders) <= 1

    def teardown(self) -> None:
        """No worker acts any more, and stuck nodes stay stuck: checks alone end every run that is cancelled."""
        for run in self.runs:
            control.cancel(self.engine, run, "the end")
        for _ in range(4):
            self.check_runs()
            self.site.pass_by(CANCEL / 2 + 1)
        for run in self.runs:
            self.judged(run)
        assert self.engine.store.active() == ()
        probe = self.engine.store.create(RunRecord(id="probe", cluster="shop", spec={}))
        assert self.engine.store.lock_servers(a_cluster().servers, probe.id, 1) is None
        before = {run: self.engine.store.outcomes(run) for run in self.runs}
        while self.site.workers:
            self.site.proceed(self.site.workers[0])
        self.nothing_is_wrong()
        assert before == {run: self.engine.store.outcomes(run) for run in self.runs}

    def judged(self, run: str) -> None:
        """The run has ended, each node has a result with a reason, and the evidence leads to the verdict."""
        known = commands.summary(self.engine, run)
        assert known.record.state is RunState.CONCLUDED, (run, known.record.turn, self.engine.store.flags(run))
        if known.record.verdict is Verdict.CANCELLED:
            assert run in self.cancelled or "the end" in known.record.summary or "deadline" in known.record.summary
        assert all(node.problem.message for node in known.nodes if node.status in {Status.SKIPPED, Status.CANCELLED})
        check(bundle_of(self.engine.store, known))

    def ended(self, run: str) -> bool:
        """Whether a run has ended."""
        return self.engine.store.run(run).state is RunState.CONCLUDED

    def taken(self, message: Message) -> None:
        """A worker handles a message."""
        if message.name == "esync.begin":
            self.site.app.waiting.remove(message)
            begin_or_continue(self.engine, message.args[0])
        elif message.name == "esync.join_and_verify":
            self.site.app.waiting.remove(message)
            join_and_verify(self.engine, *message.args)
        else:
            self.site.take(message)

    def one_worker(self, place: int) -> Worker:
        """A worker that waits for its node."""
        return self.site.workers[place % len(self.site.workers)]


TestSteering = SteeringMachine.TestCase
TestSteering.settings = settings(
    max_examples=examples(1000, 12),
    stateful_step_count=60,
    suppress_health_check=list(HealthCheck),
)
