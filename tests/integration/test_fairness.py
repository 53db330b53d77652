"""The order of steps: a small cluster does not wait for a large one, and what was begun is finished first."""

from collections import defaultdict
from pathlib import Path

import pytest

from lab.control.remote import spare_addresses
from tests.integration.harness import cluster_of, harness_at
from tests.warm import warm_lab
from workers.records import RunState, StepOutcome, Verdict

pytestmark = pytest.mark.integration


def test_a_run_of_four_nodes_ends_while_a_run_of_many_is_in_progress(tmp_path: Path) -> None:
    """It starts later, and needs one thread of two for a moment only."""
    sizes = {"large": "24", "small": "4"}
    labs = {name: (tmp_path / name, ("--nodes", count, "--disk", "memory")) for name, count in sizes.items()}
    with (
        warm_lab(labs["large"][0], *labs["large"][1], "--address", spare_addresses()) as large,
        warm_lab(labs["small"][0], *labs["small"][1], "--address", spare_addresses()) as small,
        harness_at(tmp_path / "harness", ESYNC_CONCURRENCY="2") as harness,
    ):
        first = harness.start(cluster_of(large))
        harness.wait_for_step(first.id, "config_edit")
        second = harness.finished(harness.start(cluster_of(small)).id)
        assert Verdict.JOINED is second.record.verdict
        assert RunState.CONCLUDED is not harness.engine.store.run(first.id).state
        assert Verdict.JOINED is harness.finished(first.id).record.verdict


def test_a_node_that_was_begun_with_is_finished_before_another_one(tmp_path: Path) -> None:
    """A worker with two threads has two nodes in work at any moment, also in a wave of twelve whose steps all wait."""
    with (
        warm_lab(tmp_path / "lab", "--nodes", "12", "--disk", "memory", "--address", spare_addresses()) as lab,
        harness_at(tmp_path / "harness", ESYNC_CONCURRENCY="2") as harness,
    ):
        done = harness.rollout(cluster_of(lab, waves="all"))
    assert Verdict.JOINED is done.record.verdict
    wave = [one for one in done.outcomes if one.turn == "wave-1"]
    assert len({one.node for one in wave}) == 12
    assert _most_at_once(wave) <= 2


def test_no_more_nodes_are_in_work_than_the_policy_allows_also_between_their_steps(tmp_path: Path) -> None:
    """A worker with eight threads has two nodes in work: none is begun while one of them waits for its next step."""
    with (
        warm_lab(tmp_path / "lab", "--nodes", "12", "--disk", "memory", "--address", spare_addresses()) as lab,
        harness_at(tmp_path / "harness", ESYNC_CONCURRENCY="8") as harness,
    ):
        done = harness.rollout(cluster_of(lab, waves="all", concurrency=2))
    assert Verdict.JOINED is done.record.verdict
    wave = [one for one in done.outcomes if one.turn == "wave-1"]
    assert len({one.node for one in wave}) == 12
    assert _most_at_once(wave) <= 2


def _most_at_once(outcomes: list[StepOutcome]) -> int:
    """The largest number of nodes that were between the begin of their first and the end of their last step."""
    by_node = defaultdict(list)
    for one in outcomes:
        by_node[one.node].append(one)
    spans = [(min(one.started for one in own), max(one.ended for one in own)) for own in by_node.values()]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
