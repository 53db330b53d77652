"""A saved plan is applied exactly; a retry takes what failed; a run pauses and resumes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.report.plan_text import plan_lines
from pipelines.usecases import control, runs
from pipelines.usecases.plan_file import SavedPlan, load_plan
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, on_disk, steps_of
from tests.integration.test_rollout import SERVICE, assert_joined
from tests.integration.test_trouble import disks
from tests.waiting import wait_until
from workers.errors import InputRefused
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration

WEB = rf"{SITE}\web.config"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def planned(harness: Harness, lab: LabProcess, **policy: object) -> SavedPlan:
    """A plan of the lab's cluster, written to a file and read again."""
    made = harness.rollout(cluster_of(lab, **policy), kind="plan")
    path = lab.folder / "plan.json"
    path.write_text(runs.saved_plan(harness.engine, made.record.id).model_dump_json())
    return load_plan(path)


def test_a_plan_writes_nothing(harness: Harness, lab: LabProcess) -> None:
    """Planning shows every change, exits 2, and leaves every byte on every node as it was."""
    before = disks(lab, *FOUR)
    made = harness.rollout(cluster_of(lab), kind="plan")
    assert (made.record.verdict, Verdict.CHANGES_PENDING.exit_code) == (Verdict.CHANGES_PENDING, 2)
    assert before == disks(lab, *FOUR)
    assert {Status.WOULD_CHANGE} == {node.status for node in made.nodes}
    assert made.plan is not None
    text = "\n".join(plan_lines(made.cluster, made.plan))
    for word in ("LoadBalanced", "publickCertKeys", "clientCertificate", "encodedValue", "restart:", "worst case"):
        assert word in text


def test_a_joined_cluster_has_nothing_to_do(harness: Harness, lab: LabProcess) -> None:
    """After a rollout the same plan is empty, says why, and exits 0."""
    harness.rollout(cluster_of(lab))
    made = harness.rollout(cluster_of(lab), kind="plan")
    assert (made.record.verdict, Verdict.NOTHING_TO_DO.exit_code) == (Verdict.NOTHING_TO_DO, 0)
    assert made.plan is not None
    assert "as they should be" in made.plan.totals


def test_a_plan_that_does_not_know_a_node_does_not_say_that_nothing_is_to_do(harness: Harness, lab: LabProcess) -> None:
    """All other nodes are joined: a node that is unreachable or refuses the logon may need changes."""
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
    lab.break_node("P2", refuse_connections=True)
    silent = harness.rollout(cluster_of(lab), kind="plan").record
    assert (Verdict.UNREACHABLE, True) == (silent.verdict, "P2 did not answer" in silent.summary)
    lab.heal("P2")
    lab.break_node("P2", refuse_logons=True)
    refused = harness.rollout(cluster_of(lab), kind="plan").record
    assert (Verdict.INCONCLUSIVE, True) == (refused.verdict, "P2" in refused.summary)


def test_a_saved_plan_is_applied_exactly(harness: Harness, lab: LabProcess) -> None:
    """The run has the fingerprint of the plan, and changes exactly the files of the plan."""
    saved = planned(harness, lab)
    done = harness.rollout(saved.spec, plan=saved)
    assert done.record.verdict is Verdict.JOINED
    assert done.record.plan_fingerprint == saved.fingerprint
    for part in saved.plan.nodes:
        announced = {change.file for change in part.changes}
        changed = {change.file for o in steps_of(done, part.node).values() for change in o.changes if change.file}
        assert announced == changed
    assert_joined(lab, SERVICE, "30")


def test_a_stale_plan_stops_before_anything_is_written(harness: Harness, lab: LabProcess) -> None:
    """After one file has changed: exit 7, the message names node and change, nothing is written."""
    saved = planned(harness, lab)
    config = on_disk(lab, "P1", WEB)
    config.write_bytes(config.read_bytes().replace(b"</configuration>", b"<!-- by hand --></configuration>"))
    before = disks(lab, *FOUR)
    done = harness.rollout(saved.spec, plan=saved)
    assert (done.record.verdict, Verdict.STALE.exit_code) == (Verdict.STALE, 7)
    assert "P1 changed: web.config (no value that esync reads)" in done.record.summary
    assert before == disks(lab, *FOUR)


def test_a_stale_node_is_left_out_where_the_policy_says_so(harness: Harness, lab: LabProcess) -> None:
    """With `stale: continue` only that node is refused; the others are changed as planned."""
    saved = planned(harness, lab, stale="continue")
    config = on_disk(lab, "P1", WEB)
    config.write_bytes(config.read_bytes().replace(b"</configuration>", b"<!-- by hand --></configuration>"))
    before = disks(lab, "P1")
    done = harness.rollout(saved.spec, plan=saved)
    assert done.record.verdict is Verdict.FAILED
    assert steps_of(done, "P1")["install_check"].slug == "stale"
    assert before == disks(lab, "P1")
    assert {Status.CHANGED} == {node.status for node in done.nodes if node.node != "P1"}


def test_an_edited_plan_is_refused(harness: Harness, lab: LabProcess) -> None:
    """A plan file that was edited does not load."""
    saved = planned(harness, lab)
    data = json.loads(saved.model_dump_json())
    data["plan"]["nodes"][0]["changes"] = []
    path = lab.folder / "edited.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputRefused, match="changed after it was made"):
        load_plan(path)


def test_a_retry_takes_what_failed_and_nothing_else(harness: Harness, lab: LabProcess) -> None:
    """Only failed and unreachable nodes are retried, with the same certificates; the whole cluster is verified."""
    lab.break_node("S2", disk_free=0)
    lab.break_node("P2", refuse_connections=True)
    first = harness.rollout(cluster_of(lab))
    assert first.record.verdict is Verdict.FAILED
    lab.heal("S2")
    lab.heal("P2")
    record = control.retry(harness.engine, first.record.id)
    assert (record.parent, record.only) == (first.record.id, ("S2", "P2"))
    done = harness.finished(record.id)
    assert done.record.verdict is Verdict.JOINED
    assert {"S2", "P2"} == {o.node for o in done.outcomes if o.turn.startswith("wave")}
    assert set(FOUR) == {o.node for o in done.outcomes if o.turn == "verify"}
    assert_joined(lab, SERVICE, "30")


def test_a_retry_can_choose(harness: Harness, lab: LabProcess) -> None:
    """A retry of unreachable nodes leaves out the failed ones; without a matching node it is refused with a reason."""
    lab.break_node("S2", disk_free=0)
    lab.break_node("P2", refuse_connections=True)
    first = harness.rollout(cluster_of(lab))
    lab.heal("P2")
    assert control.retry(harness.engine, first.record.id, {"unreachable"}).only == ("P2",)
    with pytest.raises(InputRefused, match="no node of run"):
        control.retry(harness.engine, first.record.id, {"not_started"})
    harness.finished(harness.engine.store.runs(1)[0].id)


def test_a_run_that_goes_on_cannot_be_retried(harness: Harness, lab: LabProcess) -> None:
    """A retry of an active run is refused, and the message says what to do."""
    lab.break_node("S1", latency_ms=100)
    run = harness.start(cluster_of(lab)).id
    with pytest.raises(InputRefused, match="has not ended"):
        control.retry(harness.engine, run)
    harness.finished(run)


def test_a_paused_run_begins_nothing_and_then_goes_on(harness: Harness, lab: LabProcess) -> None:
    """No step begins between pause and resume; after that the run ends joined."""
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    run = harness.start(cluster_of(lab)).id
    harness.wait_for_step(run, "config_edit")
    control.pause(harness.engine, run, "a person wants to look")
    wait_until(lambda: not harness.engine.store.leases(run))
    standing = len(harness.engine.store.outcomes(run))
    time.sleep(4)
    assert standing == len(harness.engine.store.outcomes(run))
    control.resume(harness.engine, run)
    assert harness.finished(run).record.verdict is Verdict.JOINED
    assert {1} == {lab.report(node)["service"]["stops"] for node in FOUR}


def test_one_hung_node_delays_nobody(harness: Harness, lab: LabProcess) -> None:
    """A node that stops answering fails at its deadline; the others finish long before."""
    deadlines = cluster_of(lab).policy.deadlines.model_copy(update={"step": 4.0, "connect": 2.0}).model_dump()
    lab.break_node("P1", latency_ms=600_000)
    done = harness.rollout(cluster_of(lab, deadlines=deadlines, retries={"unreachable": 1}))
    assert {Status.CHANGED} == {node.status for node in done.nodes if node.node != "P1"}
    assert {node.node: node.status for node in done.nodes}["P1"] in {Status.UNREACHABLE, Status.FAILED}
    lab.heal("P1")
