"""The state of a node: for every combination of outcomes, and in runs with the real decisions."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.build import build
from pipelines.report.text import to_text
from pipelines.run.node_results import NodeResult
from pipelines.run.node_state import NODE_STATES, DescribedState, NodeState, node_state
from pipelines.run.plan import NodePlan
from pipelines.usecases import runs as commands
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.invariants import INVARIANTS
from tasks.steps.registry import STEPS as REGISTRY
from tests.places import DOCS
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from workers.errors import Failure
from workers.records import Change, Status, StepOutcome

STEPS = ("config_edit", "cert_copy", "service_restart")
AT = datetime(2026, 11, 23, tzinfo=UTC)
FINE = (Status.CHANGED, Status.UNCHANGED)

#: How a step can end: its status, and whether it had begun to change the node.
End = tuple[Status, bool]
GOOD: tuple[End, ...] = ((Status.CHANGED, False), (Status.UNCHANGED, False))
BAD: tuple[End, ...] = tuple(product((Status.FAILED, Status.UNREACHABLE, Status.CANCELLED), (False, True)))
NOT_TRIED: End = (Status.SKIPPED, False)


def _outcome(step: str, end: End) -> StepOutcome:
    status, touched = end
    failure = Failure.FAILED if status is Status.FAILED else None
    return StepOutcome(
        run="r", turn="wave-1", node="P1", step=step, status=status, touched=touched, failure=failure, started=AT,
        ended=AT,
    )  # fmt: skip


def _ways() -> list[tuple[End, ...]]:
    """Every way through the steps of a wave: successes up to a failure, after which no step is tried."""
    ways: list[tuple[End, ...]] = []
    for good in range(len(STEPS) + 1):
        for before in product(GOOD, repeat=good):
            rest = len(STEPS) - good
            ways += [before] if not rest else [(*before, bad, *[NOT_TRIED] * (rest - 1)) for bad in BAD]
    return ways


def _plan(*, changes: bool, restart: bool) -> NodePlan:
    wanted = (Change(what="LoadBalanced", file="web.config"),) if changes else ()
    return NodePlan(node="P1", changes=wanted, restart="because" if restart else "", fingerprint="f")


def _stand(way: Sequence[End], **more: NodePlan | None) -> DescribedState:
    return node_state(
        [REGISTRY[step] for step in STEPS],
        {step: _outcome(step, end) for step, end in zip(STEPS, way, strict=False)},
        **more,
    )


PLANS = [None, *(_plan(changes=changes, restart=restart) for changes, restart in product((True, False), repeat=2))]


@pytest.mark.parametrize("needed", PLANS)
@pytest.mark.parametrize("way", _ways(), ids=lambda way: "-".join(f"{s.value}{'*' * t}" for s, t in way))
def test_the_state_follows_from_the_outcomes_alone(way: tuple[End, ...], needed: NodePlan | None) -> None:
    """For every way through a wave."""
    now = _stand(way, needed=needed)
    done = [step for step, (status, _) in zip(STEPS, way, strict=True) if status in FINE]
    changed = any(status is Status.CHANGED for status, _ in way)
    touched = [step for step, (_, begun) in zip(STEPS, way, strict=True) if begun]
    if touched:
        assert now.state is NodeState.INTERRUPTED
        assert touched[0] in now.sentence
    elif not changed:
        assert now.state in {NodeState.RIGHT, NodeState.UNTOUCHED}
        assert (now.state is NodeState.RIGHT) == (len(done) == 3 or (needed is not None and needed.empty))
    elif len(done) == 3:
        assert now.state is NodeState.DONE
    elif done == list(STEPS[:2]):
        owed = needed is None or bool(needed.restart)
        assert now.state is (NodeState.RESTART_OWED if owed else NodeState.DONE)
    else:
        assert now.state is NodeState.PARTLY
        left = [step for step in STEPS if step not in done]
        verbs = ["is" if len(steps) == 1 else "are" for steps in (done, left)]
        assert now.sentence.endswith(f"{' and '.join(done)} {verbs[0]} done, {' and '.join(left)} {verbs[1]} not done")


@pytest.mark.parametrize("missing", PLANS[1:])
@given(way=st.sampled_from(_ways()))
def test_a_later_observation_overrides_the_outcomes(missing: NodePlan, way: tuple[End, ...]) -> None:
    """If the node was observed after all steps, the observation decides."""
    changed = any(status is Status.CHANGED or touched for status, touched in way)
    now = _stand(way, missing=missing)
    if missing.empty:
        assert now.state is (NodeState.DONE if changed else NodeState.RIGHT)
    elif not missing.changes:
        assert now.state is NodeState.RESTART_OWED
        assert missing.restart in now.sentence
    else:
        assert now.state is (NodeState.PARTLY if changed else NodeState.UNTOUCHED)


def test_a_step_that_failed_at_its_first_file_changed_nothing() -> None:
    """If every planned change is still missing and no step reports a change, the node is untouched."""
    wanted = _plan(changes=True, restart=True)
    assert NodeState.UNTOUCHED is _stand([(Status.FAILED, True)], needed=wanted, missing=wanted).state
    fewer = wanted.model_copy(update={"changes": (*wanted.changes, Change(what="encodedValue", file="web.config"))})
    assert NodeState.PARTLY is _stand([(Status.FAILED, True)], needed=fewer, missing=wanted).state
    taken_back = [(Status.CHANGED, False), (Status.FAILED, True)]
    assert NodeState.PARTLY is _stand(taken_back, needed=wanted, missing=wanted).state


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_step_without_an_outcome_is_under_way(length: int) -> None:
    """While a run is active, the first step that has not ended is named."""
    now = _stand([(Status.CHANGED, False)] * length)
    assert now == DescribedState(NodeState.UNDER_WAY, f"in progress: {STEPS[length]} is running or waiting")


def test_a_node_that_had_no_turn_is_untouched() -> None:
    """Before its wave a node is untouched, or right if the plan has nothing for it; an owed restart is mentioned."""
    assert node_state((), {}).state is NodeState.UNTOUCHED
    assert node_state((), {}, needed=_plan(changes=False, restart=False)).state is NodeState.RIGHT
    assert (
        "owed since before this run: because" in node_state((), {}, needed=_plan(changes=False, restart=True)).sentence
    )


@pytest.mark.parametrize(
    ("step", "end", "state"),
    [
        ("rollback", (Status.CHANGED, False), NodeState.DONE),
        ("rollback", (Status.FAILED, False), NodeState.UNTOUCHED),
        ("rollback", (Status.FAILED, True), NodeState.INTERRUPTED),
        ("rollback", (Status.UNCHANGED, False), NodeState.RIGHT),
        ("cleanup", (Status.CHANGED, False), NodeState.DONE),
    ],
)
def test_rollback_and_cleanup_have_the_same_node_states(step: str, end: End, state: NodeState) -> None:
    """A rollback and a cleanup have one step that changes a node."""
    assert state is node_state((REGISTRY[step],), {step: _outcome(step, end)}).state


def test_every_state_has_its_place() -> None:
    """The order in which states are shown contains each state once."""
    assert sorted(NodeState) == sorted(NODE_STATES)


def test_a_reason_that_says_that_a_restart_is_owed_is_not_said_twice() -> None:
    """Of a node that owed one before the run and was not changed."""
    why = "restart owed: process 7 of the service was running when esync changed what it reads"
    needed = NodePlan(node="S1", restart=why, fingerprint="0" * 64)
    before = why.replace(":", " since before this run:", 1)
    assert f"untouched: this run changed nothing here; {before}" == node_state((), {}, needed=needed).sentence
    assert f"every file is in place; {why}" == node_state((), {}, missing=needed).sentence


def test_the_operators_page_describes_every_state() -> None:
    """docs/operating.md explains each state."""
    page = (DOCS / "operating.md").read_text("utf-8")
    section = page.partition("## Node states")[2].partition("\n## ")[0]
    assert sorted(NodeState) == sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def _needing(facts: NodeFacts) -> NodeFacts:
    return facts.model_copy(update={"asset": facts.asset.model_copy(update={"load_balanced": "0"})})


def _results(run: MadeUpRun) -> dict[str, NodeResult]:
    return {result.node: result for result in commands.summary(run.engine, run.id).nodes}


def test_a_cancelled_run_reports_the_state_of_each_node() -> None:
    """Cancelled in its first wave: which node is done, which one owes a restart, which ones are untouched."""
    run = MadeUpRun(
        before=dict.fromkeys(("S1", "S2", "P1", "P2"), _needing),
        ends={("S2", "service_restart"): Status.CANCELLED},
        cancel_in="wave-1",
    )
    assert {
        "S1": NodeState.DONE,
        "S2": NodeState.RESTART_OWED,
        "P1": NodeState.UNTOUCHED,
        "P2": NodeState.UNTOUCHED,
    } == {node: result.state for node, result in _results(run).items()}
    text = to_text(build(commands.summary(run.engine, run.id)))
    assert "Node status:\n  S2: every file is in place; restart owed" in text
    early = sum(rule.prerequisite and rule.id != "family.origin-present" for rule in INVARIANTS)
    assert f"{early} of {early} invariants proven (checked before any change)" in text
    assert "\nCANCELLED: wrong window [" in text
    assert "  P1, P2: untouched: this run changed nothing here\n  S1: done: all planned changes are made" in text


def test_a_failed_node_is_judged_by_the_last_observation() -> None:
    """The state of a node that failed in a step is what the verification saw, not what the step reported."""
    everybody = dict.fromkeys(("S1", "S2", "P1", "P2"), _needing)
    healed = MadeUpRun(before=everybody, ends={("P1", "cert_copy"): Status.FAILED})
    assert NodeState.DONE is _results(healed)["P1"].state
    left = MadeUpRun(before=everybody, after={"P1": _needing}, ends={("P1", "cert_copy"): Status.FAILED})
    assert NodeState.PARTLY is _results(left)["P1"].state
    assert "LoadBalanced" in _results(left)["P1"].description


@pytest.mark.parametrize("kind", ["verify", "doctor"])
def test_a_node_that_was_not_observed_is_not_reported_as_unchanged(kind: str) -> None:
    """A run that was cancelled before it reached a node has skipped it, and gives the reason."""
    results = _results(MadeUpRun(kind, cancel_in="canary"))
    assert (Status.UNCHANGED, Status.SKIPPED) == (results["S1"].status, results["P2"].status)
    assert "not started, the run ended first: cancelled" == results["P2"].problem.message


@pytest.mark.parametrize("kind", ["plan", "verify", "doctor"])
def test_a_run_that_only_observes_reports_no_node_states(kind: str) -> None:
    """There was nothing to change, so no node counts as untouched either."""
    results = _results(MadeUpRun(kind))
    assert {(None, "")} == {(result.state, result.description) for result in results.values()}
