"""How the servers stand now, in a few lines."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.build import build
from pipelines.report.node_words import NodeWord
from pipelines.report.standings import standings
from pipelines.run.node_results import WAITING, NodeResult
from tests.unit.pipelines.report.sample_run import cluster_of, sample
from workers.errors import Problem
from workers.records import Status

NAMES = cluster_of(3, 5).node_names


@given(st.sets(st.sampled_from(NAMES[1:])), st.sets(st.sampled_from(NAMES[1:])))
def test_every_node_stands_in_one_line(failed: set[str], unreachable: set[str]) -> None:
    """Each node is in exactly one line; the worst lines come first; no two lines say the same."""
    lines = standings(
        build(sample(cluster_of(3, 5), failed=sorted(failed - unreachable), unreachable=sorted(unreachable)))
    )
    assert sorted(NAMES) == sorted(node for line in lines for node in line.nodes)
    order = [*NodeWord]
    places = [order.index(line.word) for line in lines]
    assert sorted(places) == places
    assert len({(line.word, line.text) for line in lines}) == len(lines)
    assert all(line.text for line in lines)


def test_a_finished_node_says_what_it_has_become() -> None:
    """Of a rollback that is `as before the run`, of a rollout that all changes are made."""
    made = sample()
    restored = tuple(node.model_copy(update={"description": "restored: as before the run"}) for node in made.nodes)
    assert ["done: all planned changes are made"] == [line.text for line in standings(build(made))]
    assert ["restored: as before the run"] == [line.text for line in standings(build(replace(made, nodes=restored)))]


def test_a_node_with_a_running_step_does_not_wait() -> None:
    """While a run is in progress, nodes without a result wait, except for those with a running step."""
    waiting = NodeResult(node="", status=Status.SKIPPED, problem=Problem(message=WAITING))
    made = sample(cluster_of(1, 2))
    begun = replace(made, nodes=tuple(waiting.model_copy(update={"node": node.node}) for node in made.nodes))
    lines = standings(build(begun), running={"P1"})
    assert [("running", ("P1",), "in progress"), ("waiting", ("S1", "P2"), "waiting for a turn")] == [
        (line.word, line.nodes, line.text) for line in lines
    ]
