"""The result of a run for each node: which outcomes count for it, and which do not."""

from dataclasses import replace

import pytest

from pipelines.rollout import KINDS
from pipelines.run.node_results import NodeResult, results
from pipelines.run.node_state import NodeState
from pipelines.run.snapshot import Snapshot
from tasks.ektron.facts.node import NodeFacts
from tests.unit.pipelines.run.snapshots import (
    a_cluster,
    a_plan,
    a_snapshot,
    facts_of,
    needing,
    numbered,
    outcome,
    recorded,
    turn,
)
from workers.errors import Failure
from workers.records import DocumentKind, Status, StepOutcome, Verdict

THREE = numbered(3)
STEPS = ("install_check", "config_edit", "cert_copy", "service_restart")
LOOKS = [turn("canary", ["N1"]), turn("observe", ["N2", "N3"])]


def by_node(snapshot: Snapshot, kind: str = "rollout") -> dict[str, NodeResult]:
    """The results, by node."""
    return {result.node: result for result in results(snapshot, KINDS[kind])}


def done(node: str, *statuses: Status, turn: str = "wave-1", **fields: object) -> list[StepOutcome]:
    """The steps of a wave on a node; by default each changes it, apart from the check."""
    statuses = statuses or (Status.UNCHANGED, Status.CHANGED, Status.CHANGED, Status.CHANGED)
    return [
        outcome(node, status, turn=turn, step=step, at=place, **fields)
        for place, (step, status) in enumerate(zip(STEPS, statuses, strict=False))
    ]


def rollout(
    *outcomes: StepOutcome,
    waves: dict[str, tuple[str, ...]],
    facts: dict[DocumentKind, dict[str, NodeFacts]] | None = None,
    family: bool = True,
    **record: object,
) -> Snapshot:
    """A rollout that has had these waves."""
    cluster = a_cluster(THREE)
    turns = [*LOOKS, *(turn(name, nodes, STEPS) for name, nodes in waves.items())]
    made = a_snapshot(cluster, *outcomes, turns=turns, plan=a_plan(cluster), facts=facts, family=family)
    return replace(made, record=made.record.model_copy(update=record))


def test_every_node_has_a_result_in_the_order_of_the_file() -> None:
    """Whether anything happened there or not."""
    assert list(THREE) == [result.node for result in results(rollout(waves={}), KINDS["rollout"])]


def test_only_the_outcomes_of_its_own_turn_count_for_a_node() -> None:
    """What happened on it in another turn, and on another node in its turn, does not."""
    elsewhere = outcome("N2", Status.CHANGED, turn="observe")
    snapshot = rollout(
        elsewhere,
        *done("N1"),
        *done("N2", *[Status.UNCHANGED] * 4, turn="wave-2"),
        waves={"wave-1": ("N1",), "wave-2": ("N2",)},
    )
    found = by_node(snapshot)
    assert (Status.CHANGED, Status.UNCHANGED) == (found["N1"].status, found["N2"].status)
    assert (NodeState.DONE, NodeState.RIGHT) == (found["N1"].state, found["N2"].state)
    assert (Status.SKIPPED, "waiting for a turn") == (found["N3"].status, found["N3"].problem.message)


def test_one_change_among_its_steps_makes_a_node_changed() -> None:
    """Whichever step it was."""
    unchanged = [Status.UNCHANGED] * 4
    for place in range(4):
        statuses = [*unchanged[:place], Status.CHANGED, *unchanged[place + 1 :]]
        found = by_node(rollout(*done("N1", *statuses), waves={"wave-1": ("N1",)}))
        assert Status.CHANGED is found["N1"].status
    assert Status.UNCHANGED is by_node(rollout(*done("N1", *unchanged), waves={"wave-1": ("N1",)}))["N1"].status


def test_a_node_that_ended_has_the_outcome_that_ended_it() -> None:
    """With everything about the problem."""
    problem = {
        "message": "no",
        "file": "web.config",
        "remedy": "look",
        "slug": "conflict",
        "failure": Failure.CONFLICT,
        "about": "Windows",
    }
    failed = outcome("N1", Status.FAILED, turn="wave-1", step="config_edit", at=2, **problem)
    later = outcome("N1", Status.SKIPPED, turn="wave-1", step="cert_copy", at=3, message="not tried")
    check = outcome("N1", turn="wave-1", at=1)
    result = by_node(rollout(check, failed, later, waves={"wave-1": ("N1",)}))["N1"]
    assert (Status.FAILED, "no", "web.config", "look") == (
        result.status,
        result.problem.message,
        result.problem.file,
        result.problem.remedy,
    )
    assert ("conflict", Failure.CONFLICT, "config_edit", "Windows") == (
        result.problem.slug,
        result.problem.failure,
        result.step,
        result.problem.about,
    )


def test_a_node_that_was_not_selected_is_skipped_and_untouched() -> None:
    """The others are not."""
    found = by_node(rollout(*done("N2"), waves={"wave-1": ("N2",)}, only=("N2",)))
    assert (Status.SKIPPED, "not selected in this run") == (found["N1"].status, found["N1"].problem.message)
    assert (NodeState.UNTOUCHED, "untouched: not selected in this run") == (
        found["N1"].state,
        found["N1"].description,
    )
    assert (Status.CHANGED, NodeState.DONE) == (found["N2"].status, found["N2"].state)


def test_a_node_that_had_no_turn_says_why() -> None:
    """When the run has ended, with its verdict."""
    found = by_node(rollout(waves={}, verdict=Verdict.STOPPED))
    assert "not started, the run ended first: stopped" == found["N3"].problem.message


@pytest.mark.parametrize(("way", "by_batch"), [("batch", True), ("conversation", False)])
@pytest.mark.parametrize("kind", ["rollout", "verify"])
def test_a_node_that_needs_the_fallback_is_marked(kind: str, way: str, by_batch: bool) -> None:  # noqa: FBT001 - a parameter
    """If any of its steps used it, in a run that changes nodes and in one that does not."""
    ways = [outcome("N1", way=way), outcome("N1", turn="verify", way="conversation"), outcome("N2", way="conversation")]
    found = by_node(a_snapshot(a_cluster(THREE), *ways, turns=[LOOKS[0], turn("verify", THREE)]), kind)
    assert (by_batch, False) == (found["N1"].by_batch, found["N2"].by_batch)


def test_a_plan_says_what_would_change() -> None:
    """By the plan, where there is one."""
    cluster = a_cluster(THREE)
    plan = a_plan(cluster, facts_of(cluster, needing("N2")))
    known = by_node(a_snapshot(cluster, outcome("N1"), turns=LOOKS, plan=plan), "plan")
    assert [Status.UNCHANGED, Status.WOULD_CHANGE, Status.UNCHANGED] == [known[node].status for node in THREE]
    assert {None} == {result.state for result in known.values()}
    unplanned = by_node(a_snapshot(cluster, outcome("N1"), turns=LOOKS), "plan")
    assert Status.SKIPPED is unplanned["N1"].status


@pytest.mark.parametrize("kind", ["verify", "doctor"])
def test_a_run_that_only_observes_counts_every_observation(kind: str) -> None:
    """A node without one is skipped; no state is given."""
    found = by_node(a_snapshot(a_cluster(THREE), outcome("N1"), turns=LOOKS[:1]), kind)
    assert (Status.UNCHANGED, Status.SKIPPED) == (found["N1"].status, found["N2"].status)
    assert {(None, "")} == {(result.state, result.description) for result in found.values()}


def test_the_last_observation_decides_what_a_failed_node_needs() -> None:
    """Only for nodes that failed, with what was observed on that very node, and only where there is a family."""
    cluster = a_cluster(THREE)
    facts = {DocumentKind.VERIFIED: facts_of(cluster, needing("N2"))}
    half = (Status.UNCHANGED, Status.CHANGED, Status.FAILED, Status.SKIPPED)
    outcomes = [*done("N1", *half), *done("N2", *half), *done("N3")]
    found = by_node(rollout(*outcomes, waves={"wave-1": THREE}, facts=facts))
    assert [NodeState.DONE, NodeState.PARTLY, NodeState.DONE] == [found[node].state for node in THREE]
    assert "verified afterwards" in found["N1"].description
    assert "verified afterwards" not in found["N3"].description
    assert "LoadBalanced" in found["N2"].description
    for seen, family in (({}, True), (facts, False)):
        blind = by_node(rollout(*outcomes, waves={"wave-1": THREE}, facts=seen, family=family))
        assert {NodeState.PARTLY} == {blind[node].state for node in ("N1", "N2")}
        assert "verified afterwards" not in blind["N1"].description


def test_a_rollback_never_compares_with_the_plan_of_a_rollout() -> None:
    """It has no invariants to verify."""
    facts = {DocumentKind.VERIFIED: facts_of(a_cluster(THREE))}
    failed = outcome("N1", Status.FAILED, turn="rollback", step="rollback", touched=True)
    turns = [turn("rollback", ["N1"], ("rollback",))]
    found = by_node(a_snapshot(a_cluster(THREE), failed, turns=turns, facts=facts), "rollback")
    assert NodeState.INTERRUPTED is found["N1"].state


def test_a_running_step_is_named() -> None:
    """The first one without an outcome, of the steps that can change the node."""
    found = by_node(rollout(*done("N1", Status.UNCHANGED, Status.CHANGED), waves={"wave-1": ("N1",)}))
    assert "in progress: cert_copy is running or waiting" == found["N1"].description


def test_a_node_that_is_in_no_wave_is_unchanged() -> None:
    """It needed nothing, whether or not the run has ended; a node that waits for its wave is not."""
    cluster = a_cluster(THREE)
    plan = a_plan(cluster, facts_of(cluster, {"N1": recorded, "N3": recorded} | needing("N2")))
    found = by_node(a_snapshot(cluster, turns=LOOKS, plan=plan))
    assert {"N1": Status.UNCHANGED, "N2": Status.SKIPPED, "N3": Status.UNCHANGED} == {
        node: result.status for node, result in found.items()
    }
    assert (NodeState.RIGHT, "correct: nothing had to change") == (found["N1"].state, found["N1"].description)
