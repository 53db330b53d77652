"""Reports compared with reality: failure classes, what nodes reported, the state of each node."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lab.control.remote import LabProcess
from pipelines.audit.bundle import bundle_of
from pipelines.audit.manifest import OUTCOMES
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.schemas import schema
from pipelines.report.text import to_text
from pipelines.run.node_state import NodeState
from pipelines.usecases import control, runs
from pipelines.usecases.runs import RunSummary
from tests.integration.harness import FOUR, HELD, SITE, Harness, cluster_of, four_servers, on_disk, steps_of
from tests.integration.test_trouble import disks
from workers.errors import Failure
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def text_of(done: RunSummary) -> str:
    """The text report in one line: line breaks do not matter."""
    return " ".join(to_text(build(done)).split())


def test_failures_are_reported_by_class_with_details_of_the_node(harness: Harness, lab: LabProcess) -> None:
    """A refused access, an unreachable node and a node in fallback mode are reported in every format."""
    old = rf"{SITE}\S2_SyncClient.cer"
    on_disk(lab, "S2", old).write_bytes(b"of another family")
    lab.break_node("P2", refuse_connections=True)
    lab.break_node("P1", stdin_swallowed=True)
    done = harness.held_rollout(cluster_of(lab, **HELD), lambda: lab.break_node("S2", readonly=[old]))
    result = {node.node: node for node in done.nodes}
    assert (Status.FAILED, Failure.REFUSED, "access_denied") == (
        result["S2"].status, result["S2"].problem.failure, result["S2"].problem.slug,
    )  # fmt: skip
    assert (Status.UNREACHABLE, Failure.UNREACHABLE) == (result["P2"].status, result["P2"].problem.failure)
    assert ("", True) == (result["P2"].problem.about, "S2, Microsoft Windows" in result["S2"].problem.about)
    assert (Status.CHANGED, True, {"P1"}) == (
        result["P1"].status, result["P1"].by_batch, {node.node for node in done.nodes if node.by_batch},
    )  # fmt: skip
    _fallback_is_reported(lab, done)
    text = text_of(done)
    assert "failed: refused (access_denied) in cert_copy on S2" in text
    assert "unreachable in install_check on P2" in text
    assert f"S2 reported: {result['S2'].problem.about}" in text
    page = to_html(build(done))
    assert "Reported by the node" in page
    assert "class <b>refused</b>" in page
    report = json.loads(build(done).model_dump_json())
    Draft202012Validator(schema("report")).validate(report)
    Draft202012Validator(schema("status")).validate(runs.status(harness.engine, done.record.id).model_dump(mode="json"))
    rows = {row["node"]: row for row in report["nodes"]}
    assert ("refused", result["S2"].problem.about) == (rows["S2"]["problem"]["failure"], rows["S2"]["problem"]["about"])
    outcomes = json.loads(bundle_of(harness.engine.store, done)[OUTCOMES])
    assert {"refused", "unreachable"} == {outcome["failure"] for outcome in outcomes if "failure" in outcome}
    assert ["refused"] == [
        e.failure for e in harness.engine.store.events(done.record.id) if e.node == "S2" and e.failure
    ]


def _fallback_is_reported(lab: LabProcess, done: RunSummary) -> None:
    """P1 used one PowerShell process per request; the report has the number of starts that the lab counted."""
    starts = sum(o.shells for o in done.outcomes if o.node == "P1")
    assert starts == lab.report("P1")["powershell_starts"]
    assert starts > lab.report("S1")["powershell_starts"]
    assert {"batch"} == {o.way for o in done.outcomes if o.node == "P1"}
    text = text_of(done)
    assert (
        "one PowerShell process per request (fallback): P1 PowerShell on these nodes reads its input only after" in text
    )
    assert f"{starts} starts in this run" in text
    assert "<h2>One PowerShell process per request (fallback)</h2>" in to_html(build(done))
    printed = json.loads(build(done).model_dump_json())["nodes"]
    assert {"S1": False, "S2": False, "P1": True, "P2": False} == {row["node"]: row["by_batch"] for row in printed}


def test_a_real_plan_follows_its_schema(harness: Harness, lab: LabProcess) -> None:
    """The output of `esync plan --json` and `-o` follows docs/plan-schema.json."""
    planned = harness.finished(harness.start(cluster_of(lab), kind="plan").id)
    saved = runs.saved_plan(harness.engine, planned.record.id)
    assert not saved.plan.empty
    Draft202012Validator(schema("plan")).validate(json.loads(saved.model_dump_json()))


def test_a_retry_names_the_run_that_it_retries(harness: Harness, lab: LabProcess) -> None:
    """Text and JSON name the requester, the machine, the reason and the retried run."""
    lab.break_node("P2", refuse_connections=True)
    first = harness.rollout(cluster_of(lab))
    lab.heal("P2")
    record = control.retry(harness.engine, first.record.id, reason="P2 is back", who="mkeller", origin_host="ops-1")
    done = harness.finished(record.id)
    assert done.record.verdict is Verdict.JOINED
    printed = json.loads(build(done).model_dump_json())
    assert (first.record.id, "mkeller", "ops-1", "P2 is back") == (
        printed["parent"], printed["who"], printed["origin_host"], printed["reason"],
    )  # fmt: skip
    text = text_of(done)
    assert f"by mkeller on ops-1 reason P2 is back retries run {first.record.id}" in text
    assert first.record.id in to_html(build(done))
    assert "Node status" not in text  # all nodes are finished: the verdict is enough


def test_after_a_cancel_the_state_of_each_node_matches_its_disk(harness: Harness, lab: LabProcess) -> None:
    """The reported state of each node agrees with the bytes on its disk; a retry finishes the rest."""
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    before = {node: disks(lab, node) for node in FOUR}
    run = harness.start(cluster_of(lab)).id
    harness.wait_for_step(run, "config_edit")
    control.cancel(harness.engine, run, "the change window is over")
    done = harness.finished(run)
    states = {node.node: node.state for node in done.nodes}
    assert {NodeState.UNTOUCHED} == {states["P1"], states["P2"]}
    for node, state in states.items():
        assert (state is NodeState.UNTOUCHED) == (before[node] == disks(lab, node)), (node, state)
        config = on_disk(lab, node, rf"{SITE}\AssetManagement.config")
        steps = steps_of(done, node)
        edited = "config_edit" in steps and steps["config_edit"].status is Status.CHANGED
        assert edited == (before[node][str(config)] != config.read_bytes()), (node, state)
    text = text_of(done)
    assert "Node status:" in text
    assert all(node.description in text for node in done.nodes)
    for node in FOUR:
        lab.heal(node)
    again = harness.finished(control.retry(harness.engine, run).id)
    assert again.record.verdict is Verdict.JOINED
    status = runs.status(harness.engine, again.record.id)
    assert {NodeState.DONE, NodeState.RIGHT} >= {node.state for node in status.nodes.values()}
