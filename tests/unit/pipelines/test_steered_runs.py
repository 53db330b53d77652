"""A pause, resume or cancel takes effect whatever the workers are doing; and no node blocks a run forever."""

import os

import pytest

from pipelines.coordinator import join_and_verify
from pipelines.reconcile import begin_or_continue, resume_stalled
from pipelines.run.elapsed import Stopwatch
from pipelines.usecases import control, runs
from tests.unit.pipelines.steered_workers import PASSWORD, Message, Site, Worker
from tests.unit.pipelines.test_steering_machine import CANCEL, RUN, STEP, a_cluster
from workers.errors import Failure, InputRefused
from workers.records import RunRecord, RunState, Status, StepOutcome, Verdict


@pytest.fixture
def site() -> Site:
    """Four nodes without workers."""
    os.environ[PASSWORD] = "no node checks it"
    return Site()


def taken(site: Site, message: Message) -> None:
    """A healthy worker handles a message completely."""
    if message.name.startswith(("esync.begin", "esync.join")):
        site.app.waiting.remove(message)
        (begin_or_continue if message.name == "esync.begin" else join_and_verify)(site.engine, *message.args)
        return
    before = list(site.workers)
    site.take(message)
    while others := [worker for worker in site.workers if worker not in before]:
        site.proceed(others[0])


def drained(site: Site, *, until: str = "") -> None:
    """All messages are handled, up to the first one of that task."""
    while waiting := [message for message in site.app.waiting if message.name != until]:
        taken(site, waiting[0])


def in_the_wave(site: Site) -> str:
    """A run whose first wave has reached its second step; the messages of that step are waiting."""
    run = runs.start(site.engine, a_cluster()).id
    for turn in ("canary", "observe"):
        drained(site)
        join_and_verify(site.engine, run, turn)
    drained(site, until="esync.config_edit")
    assert {"S1", "S2"} == {message.args[2] for message in site.app.waiting}
    return run


def stuck_in_config_edit(site: Site, *, asking: str) -> Worker:
    """The worker of one node gets no more answers: to a read request, or to a change."""
    site.take(next(message for message in site.app.waiting if message.args[2] == "S1"))
    (worker,) = site.workers
    if asking == "change":
        site.proceed(worker)
    assert worker.asking == asking
    return worker


def watched(site: Site, run: str, watch: Stopwatch, seconds: float) -> float:
    """The reconciler checks every second until the run ends or the time has passed; returns the seconds that took."""
    begun = site.clock()
    while site.clock() - begun < seconds and site.store.run(run).state is not RunState.CONCLUDED:
        site.pass_by(1)
        resume_stalled(site.engine, run, watch)
    return site.clock() - begun


def outcome(site: Site, run: str, node: str, step: str) -> StepOutcome:
    """The outcome of a step of the first wave."""
    found = site.store.outcome(run, "wave-1", node, step)
    assert found is not None
    return found


def free(site: Site) -> bool:
    """Whether another run could lock the cluster."""
    site.store.create(RunRecord(id="probe", cluster="shop", spec={}))
    return site.store.lock_servers(a_cluster().servers, "probe", 1) is None


def test_pause_then_cancel_ends_the_run(site: Site) -> None:
    """Cancelled as soon as a worker gets the message; then the cluster is free, and earlier outcomes are kept."""
    run = in_the_wave(site)
    control.pause(site.engine, run)
    drained(site)
    assert not free(site)
    control.cancel(site.engine, run, "enough")
    drained(site)
    record = site.store.run(run)
    assert (Verdict.CANCELLED, "cancelled: enough") == (record.verdict, record.summary)
    assert free(site)
    assert {Status.CANCELLED} == {outcome(site, run, node, "config_edit").status for node in ("S1", "S2")}


def test_a_lost_cancel_is_seen_by_the_reconciler(site: Site) -> None:
    """The flag decides; the message only makes it faster."""
    run = in_the_wave(site)
    control.pause(site.engine, run)
    control.cancel(site.engine, run)
    site.app.waiting.clear()
    assert watched(site, run, Stopwatch(5, site.clock), 5) <= 1
    assert free(site)


def test_a_cancel_is_final(site: Site) -> None:
    """The run can then be neither resumed nor paused; the error says so, and what to do."""
    run = in_the_wave(site)
    control.cancel(site.engine, run, "enough")
    for late in (control.pause, control.resume):
        with pytest.raises(InputRefused, match=r"is being cancelled \(enough\)") as refused:
            late(site.engine, run)
        assert f"esync retry {run}" in refused.value.remedy


def test_a_paused_run_costs_nothing(site: Site) -> None:
    """Each waiting message is handled once and dropped; no node stays leased; hours of a pause reach no deadline."""
    run = in_the_wave(site)
    control.pause(site.engine, run)
    drained(site)
    watch = Stopwatch(5, site.clock)
    resume_stalled(site.engine, run, watch)
    for _ in range(20):
        site.pass_by(RUN)
        resume_stalled(site.engine, run, watch)
        assert ([], {}) == (site.app.waiting, site.store.leases(run))
    assert site.store.run(run).state is RunState.RUNNING
    control.resume(site.engine, run)
    drained(site)
    assert {Status.CHANGED} == {outcome(site, run, node, "service_restart").status for node in ("S1", "S2")}


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_continues_at_once(site: Site, lost: bool) -> None:  # noqa: FBT001 - a parameter
    """By its message; if that is lost, at the next check."""
    run = in_the_wave(site)
    control.pause(site.engine, run)
    drained(site)
    control.resume(site.engine, run)
    if lost:
        site.app.waiting.clear()
        resume_stalled(site.engine, run, Stopwatch(5, site.clock))
    drained(site)
    assert {("S1", "esync.service_restart"), ("S2", "esync.service_restart")} <= {c[1:] for c in site.changes}
    assert len(site.changes) == len(set(site.changes))


def test_a_step_whose_predecessor_was_dropped_is_not_run(site: Site) -> None:
    """A chain that was cut by a pause starts again at its first missing step when the run is resumed."""
    run = in_the_wave(site)
    control.pause(site.engine, run)
    for message in [one for one in site.app.waiting if one.name == "esync.config_edit"]:
        site.take(message)  # dropped: the next messages of these chains are cert_copy
    control.resume(site.engine, run)
    for message in [one for one in site.app.waiting if one.name == "esync.cert_copy"]:
        site.take(message)
    assert ([], []) == (site.workers, site.changes)
    drained(site)
    assert ["esync.config_edit", "esync.cert_copy", "esync.service_restart"] == [
        step for _, node, step in site.changes if node == "S1"
    ]


@pytest.mark.parametrize("in_work", [1, 3])
def test_nodes_that_wait_for_others_begin_without_the_reconciler(site: Site, in_work: int) -> None:
    """In every turn, also in those that only look; each step is done once, and one node after the other is finished."""
    run = runs.start(site.engine, a_cluster(in_work)).id
    while site.store.run(run).state is not RunState.CONCLUDED:
        drained(site)
        turn = site.store.run(run).turn
        assert turn is not None
        join_and_verify(site.engine, run, turn.name)
    assert Verdict.JOINED is site.store.run(run).verdict
    nodes = [node for _, node, _ in site.changes]
    assert len(site.changes) == len(set(site.changes)) == 12
    assert in_work > 1 or nodes == sorted(nodes, key=nodes.index)


def test_nodes_that_wait_for_the_node_of_a_dead_worker_begin_after_it(site: Site) -> None:
    """The reconciler sends the steps of both again: the waiting one lets the begun one finish first."""
    run = runs.start(site.engine, a_cluster(1)).id
    for turn in ("canary", "observe"):
        drained(site)
        join_and_verify(site.engine, run, turn)
    first = next(message for message in site.app.waiting if message.args[2] == "S1")
    site.take(first)
    taken(site, next(message for message in site.app.waiting if message.args[2] == "S2"))
    site.kill(site.workers[0])
    watch = Stopwatch(5, site.clock)
    for _ in range(40):
        site.pass_by(5)
        resume_stalled(site.engine, run, watch)
        drained(site)
        join_and_verify(site.engine, run, "wave-1")
    changed = [node for _, node, _ in site.changes if node in {"S1", "S2"}]
    assert ["S1"] * 3 + ["S2"] * 3 == changed


@pytest.mark.parametrize("asking", ["read", "change"])
def test_a_node_that_never_answers_does_not_block_a_cancelled_run(site: Site, asking: str) -> None:
    """It is given up some time after the cancel; the stuck worker changes nothing more, and records nothing."""
    run = in_the_wave(site)
    stuck = stuck_in_config_edit(site, asking=asking)
    control.cancel(site.engine, run, "enough")
    drained(site)
    assert watched(site, run, Stopwatch(5, site.clock), 100) <= CANCEL + 3
    assert free(site)
    given_up = outcome(site, run, "S1", "config_edit")
    assert (Status.CANCELLED, "abandoned", True) == (given_up.status, given_up.slug, given_up.touched)
    assert "S1: config_edit did not end in time after the run was cancelled (enough)" in given_up.message
    assert "esync verify" in given_up.remedy
    result = {node.node: node for node in runs.summary(site.engine, run).nodes}
    assert "interrupted" == result["S1"].state
    before = list(site.changes)
    while site.workers:
        site.proceed(stuck)
    assert (before, []) == (site.changes, site.wrong)
    assert given_up == outcome(site, run, "S1", "config_edit")


def test_a_node_that_never_answers_does_not_delay_a_run_beyond_its_deadline(site: Site) -> None:
    """The deadline of a run is kept to within a few seconds, by the clock of the observer."""
    run = in_the_wave(site)
    watch = Stopwatch(5, site.clock)
    resume_stalled(site.engine, run, watch)
    site.pass_by(RUN - 50)
    resume_stalled(site.engine, run, watch)
    stuck_in_config_edit(site, asking="read")
    assert 50 <= watched(site, run, watch, 200) <= 55
    record = site.store.run(run)
    assert (Verdict.CANCELLED, True) == (record.verdict, "took longer than its deadline of 1000 s" in record.summary)
    assert free(site)


def test_a_node_that_never_answers_does_not_block_the_others(site: Site) -> None:
    """Its step fails a few seconds after the deadline of a step, and the next wave begins without it."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    drained(site)
    watch, begun = Stopwatch(5, site.clock), site.clock()
    while site.store.run(run).turns[-1].name == "wave-1" and site.clock() - begun < 3 * STEP:
        site.pass_by(1)
        resume_stalled(site.engine, run, watch)
    failed = outcome(site, run, "S1", "config_edit")
    assert (Status.FAILED, Failure.TIMEOUT, "abandoned") == (failed.status, failed.failure, failed.slug)
    assert Status.SKIPPED is outcome(site, run, "S1", "service_restart").status
    assert site.store.run(run).turns[-1].nodes == ("P1", "P2")
    assert Status.CHANGED is outcome(site, run, "S2", "service_restart").status
    assert STEP <= site.clock() - begun <= STEP + 5


def test_clocks_of_machines_do_not_influence_the_deadline(site: Site) -> None:
    """A run from a machine whose clock is hours wrong has its full time; the next observer continues counting."""
    for hours in (-5, 5):
        run = runs.start(site.engine, a_cluster()).id
        watch = Stopwatch(5, site.clock)
        assert 0 <= watch.spent(run, str, hours * 3600.0, going=True) <= 5
        site.pass_by(60)
        spent = watch.spent(run, str, hours * 3600.0 + 60, going=True)
        assert 60 <= spent <= 65
        assert spent == Stopwatch(5, site.clock).spent(run, f"{spent}".format, 0, going=True)
