"""Runs on selected nodes: all are looked at, only the selected ones count for plan, verify and doctor."""

from collections.abc import Iterable

import pytest

from pipelines.rollout import KINDS
from pipelines.run import decisions, decisions_doctor
from pipelines.run.node_results import results
from pipelines.run.snapshot import Snapshot
from tasks.ektron.rules.findings import Findings
from tests.unit.pipelines.run.snapshots import a_cluster, a_snapshot, facts_of, needing, numbered, outcome, turn
from workers.records import DocumentKind, Status, StepOutcome, Verdict

THREE = numbered(3)
CLUSTER = a_cluster(THREE)


def verified(*outcomes: StepOutcome, only: Iterable[str], wrong: Iterable[str] = ()) -> Snapshot:
    """A run of kind `verify` at its end; some nodes are not as they should be."""
    facts = {DocumentKind.VERIFIED: facts_of(CLUSTER, needing(*wrong))}
    turns = [turn("canary", THREE[:1]), turn("verify", THREE)]
    return a_snapshot(CLUSTER, *outcomes, turns=turns, facts=facts, kind="verify", only=tuple(only))


@pytest.mark.parametrize(
    ("only", "verdict", "ends"),
    [
        (["N1"], Verdict.JOINED, "; 2 nodes not selected"),
        (["N2"], Verdict.REFUTED, "; 2 nodes not selected"),
        (["N1", "N2"], Verdict.REFUTED, "; 1 node not selected"),
        ([], Verdict.REFUTED, "LoadBalanced is '0'"),
    ],
)
def test_verify_concludes_about_the_selected_nodes(only: list[str], verdict: Verdict, ends: str) -> None:
    """N2 and N3 are wrong: that counts for a run that selected one of them, and for a run on all nodes."""
    stop = decisions.selected_hold(verified(only=only, wrong=["N2", "N3"]))
    assert verdict is stop.verdict
    assert stop.summary.endswith(ends)


def test_findings_name_only_selected_nodes() -> None:
    """A finding about other nodes too keeps the selected ones, in nodes, reasons and evidence."""
    stop = decisions.selected_hold(verified(only=["N1", "N2"], wrong=["N2", "N3"]))
    found = Findings.model_validate_json(stop.documents[0].text).of("config.asset-load-balanced")
    assert (("N2",), ["N2"]) == (found.nodes, list(found.reasons))
    assert found.evidence == "N2: LoadBalanced is '0'"


def test_a_node_that_was_not_selected_may_be_down() -> None:
    """Its silence is no verdict about the others; that of a selected node is."""
    lost = outcome("N3", Status.UNREACHABLE, turn="verify", message="N3 is down")
    assert Verdict.JOINED is decisions.selected_hold(verified(lost, only=["N1"])).verdict
    assert Verdict.UNREACHABLE is decisions.selected_hold(verified(lost, only=["N3"])).verdict


@pytest.mark.parametrize(("only", "verdict"), [(["N1"], Verdict.READY), (["N3"], Verdict.UNREACHABLE)])
def test_doctor_concludes_about_the_selected_nodes(only: list[str], verdict: Verdict) -> None:
    """A node that is down blocks only a run that selected it, or all nodes."""
    lost = outcome("N3", Status.UNREACHABLE, turn="doctor", message="no answer")
    turns = [turn("canary", THREE[:1]), turn("doctor", THREE[1:])]
    stop = decisions_doctor.ready(a_snapshot(CLUSTER, lost, turns=turns, kind="doctor", only=tuple(only)))
    assert verdict is stop.verdict
    if verdict is Verdict.READY:
        assert stop.summary == "the node is ready for a rollout; 2 nodes not selected"


def test_a_plan_has_only_the_selected_nodes() -> None:
    """Others that need changes, or did not answer, neither are in it nor change its verdict."""
    facts = {DocumentKind.OBSERVED: facts_of(CLUSTER, needing("N2"))}
    lost = outcome("N3", Status.UNREACHABLE, turn="observe", message="N3 is down")
    nothing = decisions.plan_only(a_snapshot(CLUSTER, lost, facts=facts, kind="plan", only=("N1",)))
    assert (Verdict.NOTHING_TO_DO, "nothing to do: the node is as it should be") == (nothing.verdict, nothing.summary)
    assert Verdict.CHANGES_PENDING is decisions.plan_only(a_snapshot(CLUSTER, facts=facts, only=("N2",))).verdict
    down = decisions.plan_only(a_snapshot(CLUSTER, lost, facts=facts, kind="plan", only=("N3",)))
    assert Verdict.UNREACHABLE is down.verdict


@pytest.mark.parametrize("kind", ["verify", "doctor", "plan"])
def test_other_nodes_are_reported_as_not_selected(kind: str) -> None:
    """Whatever was seen on them."""
    seen = [outcome("N1"), outcome("N2", Status.UNREACHABLE), outcome("N3", Status.FAILED)]
    snapshot = a_snapshot(CLUSTER, *seen, turns=[turn("canary", THREE)], kind=kind, only=("N1",))
    found = {result.node: (result.status, result.problem.message) for result in results(snapshot, KINDS[kind])}
    assert found.pop("N1") != (Status.SKIPPED, "not selected in this run")
    assert {"N2", "N3"} == found.keys()
    assert {(Status.SKIPPED, "not selected in this run")} == set(found.values())
