"""A failure of one node affects only that node, is reported clearly, and leaves no half-written file."""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab.control.remote import LabProcess
from pipelines.usecases import control
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, harness_at, steps_of
from tests.integration.test_rollout import SERVICE, assert_joined, nothing_half_written
from tests.waiting import wait_until
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def disks(lab: LabProcess, *nodes: str) -> dict[str, bytes]:
    """Every file of the given nodes."""
    return {str(path): path.read_bytes() for node in nodes for path in lab.disk(node).rglob("*") if path.is_file()}


def test_one_node_with_a_wrong_password(harness: Harness, lab: LabProcess) -> None:
    """That node fails after one logon and is untouched; the others are joined; the exit code says that nodes failed."""
    (lab.cluster.parent / "wrong").write_text("not the password\n")
    (lab.cluster.parent / "wrong").chmod(0o600)
    data = cluster_of(lab).model_dump()
    data["nodes"][2]["connection"] = {"secret": f"file:{lab.cluster.parent / 'wrong'}"}
    before = disks(lab, "P1")
    done = harness.rollout(Cluster.model_validate(data))
    assert done.record.verdict is Verdict.FAILED
    result = {node.node: node for node in done.nodes}
    assert (result["P1"].status, result["P1"].problem.slug) == (Status.FAILED, "logon_refused")
    assert "P1" in result["P1"].problem.message
    assert result["P1"].problem.remedy
    assert lab.report("P1")["logons_refused"] == 1
    assert before == disks(lab, "P1")
    assert {Status.CHANGED} == {result[node].status for node in ("S1", "S2", "P2")}
    nothing_half_written(lab)


def test_a_wrong_password_everywhere_costs_one_logon(harness: Harness, lab: LabProcess) -> None:
    """The refused canary logon ends the run: there is no logon on any other node, nothing is written."""
    (lab.cluster.parent / "wrong").write_text("not the password\n")
    (lab.cluster.parent / "wrong").chmod(0o600)
    data = cluster_of(lab).model_dump()
    data["connection"]["secret"] = f"file:{lab.cluster.parent / 'wrong'}"
    before = disks(lab, *FOUR)
    done = harness.rollout(Cluster.model_validate(data))
    assert done.record.verdict is Verdict.FAILED
    assert {"S1": 1, "S2": 0, "P1": 0, "P2": 0} == {node: lab.report(node)["logons_refused"] for node in FOUR}
    assert {"S2": 0, "P1": 0, "P2": 0} == {node: lab.report(node)["logons_tried"] for node in FOUR[1:]}
    assert before == disks(lab, *FOUR)


def test_one_node_that_refuses_connections(harness: Harness, lab: LabProcess) -> None:
    """It is unreachable, with host and port in the message; the others are joined; exit 4; a later run joins it."""
    lab.break_node("P2", refuse_connections=True)
    done = harness.rollout(cluster_of(lab))
    assert (done.record.verdict, Verdict.UNREACHABLE.exit_code) == (Verdict.UNREACHABLE, 4)
    result = {node.node: node for node in done.nodes}
    assert result["P2"].status is Status.UNREACHABLE
    assert "5986" in result["P2"].problem.message
    assert {Status.CHANGED} == {result[node].status for node in ("S1", "S2", "P1")}
    lab.heal("P2")
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
    assert_joined(lab, SERVICE, "30")


@pytest.mark.parametrize("operation", ["Send", "write"])
def test_one_node_that_is_lost_in_its_open_session(harness: Harness, lab: LabProcess, operation: str) -> None:
    """Its steps are tried once: it is unreachable, as one that no session could be opened with. Exit 4."""
    lab.break_node("P2", later=[{"at": {"operation": operation, "nth": 2}, "faults": {"away": True}}])
    done = harness.rollout(cluster_of(lab, retries={"unreachable": 1}, unreachable="continue"))
    lost = next(outcome for outcome in done.outcomes if outcome.status is Status.UNREACHABLE)
    assert ("P2", "connection_lost") == (lost.node, lost.slug)
    assert (Verdict.UNREACHABLE, Status.UNREACHABLE) == (done.record.verdict, done.nodes[3].status)
    lab.heal("P2")
    assert harness.finished(control.retry(harness.engine, done.record.id).id).record.verdict is Verdict.JOINED
    assert_joined(lab, SERVICE, "30")


def test_one_node_with_another_build(harness: Harness, tmp_path: Path) -> None:
    """The prerequisite is refuted before anything is written, naming the node and both builds; exit code 5."""
    with four_servers(tmp_path / "lab", nodes="build: 8.0.1.99") as lab:
        before = disks(lab, *FOUR)
        done = harness.rollout(cluster_of(lab))
        assert (done.record.verdict, Verdict.REFUTED.exit_code) == (Verdict.REFUTED, 5)
        assert "version.same-build" in done.record.summary
        assert "P1" in done.record.summary
        assert "8.0.1.99" in done.record.summary
        assert before == disks(lab, *FOUR)
        assert {Status.SKIPPED} == {node.status for node in done.nodes}


def test_one_node_with_a_read_only_configuration(harness: Harness, lab: LabProcess) -> None:
    """Planning names file and remedy; a rollout refuses as well, before anything is written on any node."""
    path = rf"{SITE}\web.config"
    lab.break_node("S2", readonly=[path])
    before = disks(lab, *FOUR)
    for kind in ("plan", "rollout"):
        done = harness.rollout(cluster_of(lab), kind=kind)
        assert done.record.verdict is Verdict.FAILED
        assert "Nothing was written anywhere" in done.record.summary
        failed = next(outcome for outcome in done.outcomes if outcome.node == "S2")
        assert (failed.status, failed.slug, failed.file) == (Status.FAILED, "not_editable", path)
        assert "S2" in failed.message
        assert "read-only" in failed.remedy
        assert before == disks(lab, *FOUR)
    lab.heal("S2")
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED


def test_a_service_that_never_stops(harness: Harness, lab: LabProcess) -> None:
    """The step fails at its deadline with a remedy; a later run finds the owed restart and does it."""
    lab.break_node("P1", service={"never_stops": True})
    deadlines = cluster_of(lab).policy.deadlines.model_copy(update={"service": 1.5}).model_dump()
    done = harness.rollout(cluster_of(lab, deadlines=deadlines))
    assert done.record.verdict is Verdict.FAILED
    failed = steps_of(done, "P1")["service_restart"]
    assert (failed.status, failed.slug) == (Status.FAILED, "timeout")
    assert failed.remedy
    lab.heal("P1")
    healed = harness.rollout(cluster_of(lab))
    assert healed.record.verdict is Verdict.JOINED
    assert {"P1"} == {o.node for o in healed.outcomes if o.status is Status.CHANGED}


def test_too_many_failures_stop_the_run_after_the_wave(harness: Harness, lab: LabProcess) -> None:
    """With a failure budget of 0, a failure in staging stops the run before production; exit code 3."""
    lab.break_node("S2", disk_free=0)
    before = disks(lab, "P1", "P2")
    done = harness.rollout(cluster_of(lab, max_failed=0))
    assert (done.record.verdict, Verdict.STOPPED.exit_code) == (Verdict.STOPPED, 3)
    assert before == disks(lab, "P1", "P2")


def test_a_cancelled_run_ends_between_steps(harness: Harness, lab: LabProcess) -> None:
    """Cancel leaves no half-written file, ends the run with its own verdict, and releases the cluster."""
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    run = harness.start(cluster_of(lab)).id
    harness.wait_for_step(run, "config_edit")
    control.cancel(harness.engine, run, "the change window is over")
    done = harness.finished(run)
    assert (done.record.verdict, Verdict.CANCELLED.exit_code) == (Verdict.CANCELLED, 130)
    assert "change window" in done.record.summary
    nothing_half_written(lab)
    for node in FOUR:
        lab.heal(node)
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED


def test_a_second_run_on_the_same_cluster_is_refused(harness: Harness, lab: LabProcess) -> None:
    """While a run is active on a cluster, another run ends at once and names the first one; exit code 7."""
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    first = harness.start(cluster_of(lab)).id
    wait_until(lambda: harness.engine.store.run(first).turn)
    second = harness.rollout(cluster_of(lab))
    assert (second.record.verdict, Verdict.LOCKED.exit_code) == (Verdict.LOCKED, 7)
    assert first in second.record.summary
    assert harness.finished(first).record.verdict is Verdict.JOINED


def test_a_killed_worker_loses_nothing(tmp_path: Path, lab: LabProcess) -> None:
    """After kill -9 during a run a new worker continues: the run ends joined, and no service restarts twice."""
    with harness_at(tmp_path / "harness") as harness:
        for node in FOUR:
            lab.break_node(node, latency_ms=40)
        run = harness.start(cluster_of(lab)).id
        harness.wait_for_step(run, "cert_copy")
        harness.kill_worker()
        harness.start_worker()
        done = harness.finished(run)
        assert done.record.verdict is Verdict.JOINED, done.record.summary
        assert {1} == {lab.report(node)["service"]["stops"] for node in FOUR}
        assert_joined(lab, SERVICE, "30")


def test_a_lost_chord_is_joined_by_the_reconciler(tmp_path: Path, lab: LabProcess) -> None:
    """The broker loses every message during a run; the run store is enough to finish the run."""
    with harness_at(tmp_path / "harness") as harness:
        for node in FOUR:
            lab.break_node(node, latency_ms=40)
        run = harness.start(cluster_of(lab)).id
        harness.wait_for_step(run, "config_edit")
        harness.kill_worker()
        with harness.engine.app.connection_for_write() as connection:
            client = connection.default_channel.client
            keys = [key for key in client.keys("*") if not key.startswith(b"esync:")]
            client.delete(*keys)
        harness.start_worker()
        assert harness.finished(run).record.verdict is Verdict.JOINED
        assert_joined(lab, SERVICE, "30")


def refusing(harness: Harness, lab: LabProcess, *nodes: str, **policy: object) -> RunSummary:
    """Does a rollout in which some nodes refuse an account that others accept."""
    for node in nodes:
        lab.break_node(node, refuse_logons=True)
    return harness.rollout(cluster_of(lab, **policy))


def test_one_node_that_refuses_the_account_of_all(harness: Harness, lab: LabProcess) -> None:
    """The other nodes accept the password: that node fails after one logon, and the others are joined."""
    done = refusing(harness, lab, "P1")
    assert done.record.verdict is Verdict.FAILED
    assert done.record.summary.startswith("P1 failed: ")
    assert "S2" not in done.record.summary
    result = {node.node: node for node in done.nodes}
    assert (Status.FAILED, "logon_refused") == (result["P1"].status, result["P1"].problem.slug)
    assert {Status.CHANGED} == {result[node].status for node in ("S1", "S2", "P2")}
    assert 1 == lab.report("P1")["logons_refused"]


def test_an_account_is_refused_twice_at_most(harness: Harness, lab: LabProcess) -> None:
    """Three nodes refuse the account: there is no logon on the third, and the run stops before anything is written."""
    before = disks(lab, *FOUR)
    done = refusing(harness, lab, "S2", "P1", "P2")
    assert done.record.verdict is Verdict.STOPPED
    assert 2 == sum(lab.report(node)["logons_refused"] for node in FOUR)
    status = {node.node: node.status for node in done.nodes}
    (untried,) = [node for node in FOUR if status[node] is Status.SKIPPED and node != "S1"]
    assert f"not tried: {untried}" in done.record.summary
    assert 0 == lab.report(untried)["logons_tried"]
    assert before == disks(lab, *FOUR)


def test_more_refusals_may_be_allowed(harness: Harness, lab: LabProcess) -> None:
    """With a limit of three refusals, three nodes fail and the origin is changed."""
    done = refusing(harness, lab, "S2", "P1", "P2", max_refused=3, max_failed=4)
    assert done.record.verdict is Verdict.FAILED
    assert {"S1": Status.CHANGED, "S2": Status.FAILED, "P1": Status.FAILED, "P2": Status.FAILED} == {
        node.node: node.status for node in done.nodes
    }


def test_pause_then_cancel_lets_the_cluster_go(harness: Harness, lab: LabProcess) -> None:
    """A paused run is cancelled within seconds, exit code 130; the next run can use the cluster."""
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    run = harness.start(cluster_of(lab)).id
    harness.wait_for_step(run, "config_edit")
    control.pause(harness.engine, run, "lunch")
    wait_until(lambda: not harness.engine.store.leases(run))
    done = len(harness.engine.store.outcomes(run))
    time.sleep(2.5)  # longer than ESYNC_STALL_AFTER here: the run is not resumed meanwhile
    assert done == len(harness.engine.store.outcomes(run))
    control.cancel(harness.engine, run, "the change window is over")
    ended = harness.finished(run)
    assert (Verdict.CANCELLED, 130) == (ended.record.verdict, Verdict.CANCELLED.exit_code)
    for node in FOUR:
        lab.heal(node)
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED


def test_a_paused_run_leaves_the_worker_to_others_and_goes_on_at_once(tmp_path: Path, lab: LabProcess) -> None:
    """During the pause the worker is idle, and another run can finish; after the resume the run ends in seconds."""
    with harness_at(tmp_path / "harness", ESYNC_CONCURRENCY="2", ESYNC_STALL_AFTER="600") as harness:
        run = harness.start(cluster_of(lab)).id
        harness.wait_for_step(run, "config_edit")
        control.pause(harness.engine, run)
        wait_until(lambda: not harness.engine.store.leases(run))
        assert harness.worker is not None
        worker = psutil.Process(harness.worker.pid)
        looked = harness.rollout(cluster_of(lab), kind="doctor")
        assert looked.record.ended is not None
        before = worker.cpu_times()
        time.sleep(3)
        after = worker.cpu_times()
        assert (after.user + after.system) - (before.user + before.system) < 0.6
        control.resume(harness.engine, run)
        assert harness.finished(run).record.verdict is Verdict.JOINED
        assert_joined(lab, SERVICE, "30")


@pytest.mark.parametrize("cancel", [True, False])
def test_a_node_that_never_answers_holds_no_cluster(harness: Harness, lab: LabProcess, cancel: bool) -> None:  # noqa: FBT001 - a parameter
    """A node hangs during a change: after a cancel or at its deadline the run ends and releases the cluster."""
    lab.break_node("S2", later=[{"at": {"operation": "write"}, "faults": {"hangs": True}}])
    deadlines = {"step": 600, "run": 3600 if cancel else 20, "cancel": 2}
    run = harness.start(cluster_of(lab, deadlines=deadlines)).id
    harness.wait_for_step(run, "config_edit")
    if cancel:
        control.cancel(harness.engine, run, "enough")
    done = harness.finished(run)
    assert done.record.verdict is Verdict.CANCELLED
    stuck = steps_of(done, "S2")["config_edit"]
    assert (Status.CANCELLED, "abandoned") == (stuck.status, stuck.slug)
    assert "config_edit did not end in time" in stuck.message
    lab.heal("S2")
    assert harness.rollout(cluster_of(lab)).record.verdict in {Verdict.JOINED, Verdict.FAILED}
    nothing_half_written(lab)


def test_a_step_has_one_deadline_over_all_its_tries(harness: Harness, lab: LabProcess) -> None:
    """A node that hangs fails at the deadline of its step, whatever the number of attempts; the others are joined."""
    lab.break_node("P1", later=[{"at": {"operation": "write"}, "faults": {"hangs": True}}])
    retries = {"timeout": 5, "unreachable": 5}
    done = harness.rollout(cluster_of(lab, deadlines={"step": 20}, retries=retries))
    failed = steps_of(done, "P1")["config_edit"]
    assert (Status.FAILED, True) == (failed.status, failed.seconds < 2 * 20)
    assert {Status.CHANGED} == {node.status for node in done.nodes if node.node != "P1"}
