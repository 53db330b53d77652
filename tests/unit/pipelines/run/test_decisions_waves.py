"""Between the waves: limits, retries, the look at what was changed, the first wave as canary, holds."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.run import decisions_waves
from pipelines.run.budget import Budget, budget_of, exceeded
from pipelines.run.node_state import NodeState
from pipelines.run.snapshot import ABANDONED, Go, Snapshot, Stop
from pipelines.usecases import runs
from tasks.cluster import Cluster
from tasks.ektron.facts.node import NodeFacts
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import MadeUpRun, the_cluster
from tests.unit.pipelines.run.snapshots import (
    a_cluster,
    a_plan,
    a_snapshot,
    facts_of,
    numbered,
    outcome,
    turn,
    unbalanced,
)
from workers.errors import Failure, LogonRefused
from workers.records import DocumentKind, Status, StepOutcome, Verdict

NINE = numbered(9)


def waved(*outcomes: StepOutcome, waves: int = 1, policy: Mapping[str, object] | None = None) -> Snapshot:
    """A run of nine nodes in waves of three, after that many waves."""
    cluster = a_cluster(NINE, waves=(3,), whole_pool=True, **(policy or {}))
    plan = a_plan(cluster)
    turns = [turn(f"wave-{number}", wave) for number, wave in enumerate(plan.waves[:waves], 1)]
    return a_snapshot(cluster, *outcomes, turns=turns, plan=plan, facts={})


def lost(*nodes: str, status: Status = Status.FAILED, turn: str = "wave-1", **more: object) -> list[StepOutcome]:
    """These nodes failed in a wave."""
    return [outcome(node, status, turn=turn, step="config_edit", at=9, **more) for node in nodes]


def test_waves_follow_each_other_without_the_nodes_that_ended() -> None:
    """A node that had its wave, and one that ended, is left out; a wave of which nothing is left is passed over."""
    assert ["N1", "N3"] == decisions_waves.next_wave(waved(*lost("N2", turn="observe"), waves=0))
    assert ["N7", "N8", "N9"] == decisions_waves.next_wave(waved(*lost("N4", "N5", "N6", turn="observe")))
    assert () == decisions_waves.next_wave(waved(waves=3))
    assert () == decisions_waves.next_wave(a_snapshot(a_cluster(NINE), facts={}))


@pytest.mark.parametrize(
    ("policy", "failed", "silent", "of_wave"),
    [
        ({}, 3, 3, 2),
        ({"max_failed": 0}, 0, 0, 0),
        ({"max_failed": "25%"}, 2, 2, 2),
        ({"max_failed": "100%"}, 9, 9, 2),
        ({"max_unreachable": 1}, 3, 1, 2),
        ({"max_unreachable": "0%"}, 3, 0, 2),
        ({"max_failed": 9, "max_failed_per_wave": "34%"}, 9, 9, 1),
        ({"max_failed_per_wave": 0}, 3, 3, 0),
    ],
)
def test_a_run_stops_when_more_nodes_failed_than_a_limit_allows(
    policy: dict[str, object], failed: int, silent: int, of_wave: int
) -> None:
    """Failed and unreachable nodes count apart, whenever they were lost; of the wave only its own failed ones."""
    for number, status in ((failed, Status.FAILED), (silent, Status.UNREACHABLE)):
        for count in range(7):
            snapshot = waved(*lost(*NINE[-count:] if count else (), status=status, turn="observe"), policy=policy)
            assert bool(exceeded(snapshot)) is (count > number)
    for count in range(3):
        snapshot = waved(*lost(*("N4", "N5")[:count], turn="wave-2"), waves=2, policy=policy)
        assert bool(exceeded(snapshot)) is (count > min(of_wave, failed))


def test_the_summary_says_which_limit_was_exceeded_and_by_whom() -> None:
    """The nodes, the key of the policy, its value."""
    decision = decisions_waves.within_budget(waved(*lost("N4", "N5", turn="wave-2"), waves=2, policy={"max_failed": 1}))
    summary = "2 nodes failed (N4, N5); policy.max_failed allows 1"
    assert Stop(Verdict.STOPPED, summary) == decision
    silent = lost("N8", status=Status.UNREACHABLE, turn="observe")
    decision = decisions_waves.within_budget(waved(*silent, policy={"max_unreachable": 0}))
    assert Stop(Verdict.STOPPED, "1 node did not answer (N8); policy.max_unreachable allows 0") == decision


def test_what_is_left_of_the_budget_is_known() -> None:
    """Nodes that the run does not change do not count."""
    lose = [*lost("N1", "N2"), *lost("N9", status=Status.UNREACHABLE)]
    budget = budget_of(waved(*lose))
    assert Budget(failed=2, failed_allowed=3, unreachable=1, unreachable_allowed=3) == budget
    assert "1 of 3 may still fail, 2 of 3 be unreachable" == budget.left
    of_wave = budget_of(waved(*lost("N1", "N4", turn="wave-2"), waves=2, policy={"max_failed_per_wave": "67%"}))
    assert "1 of 3 may still fail (1 of 2 in wave-2), 3 of 3 be unreachable" == of_wave.left
    assert budget_of(a_snapshot(a_cluster(NINE), *lose, facts={}, only=("N1", "N3"))).failed == 1


def test_failures_after_the_last_wave_do_not_stop_the_verification() -> None:
    """There is nothing left that could be spared."""
    assert Go() == decisions_waves.within_budget(waved(*lost(*NINE, turn="wave-3"), waves=3, policy={"max_failed": 0}))


@pytest.mark.parametrize(
    ("ending", "again"),
    [
        ({}, True),
        ({"status": Status.UNREACHABLE, "failure": Failure.UNREACHABLE}, True),
        ({"failure": Failure.TIMEOUT}, True),
        ({"failure": Failure.REFUSED}, False),
        ({"failure": Failure.STALE}, False),
        ({"slug": LogonRefused.slug}, False),
        ({"slug": ABANDONED}, False),
        ({"status": Status.CANCELLED}, False),
        ({"status": Status.SKIPPED}, False),
    ],
)
def test_a_failed_node_is_tried_again_at_the_end_of_its_wave(ending: dict[str, object], again: bool) -> None:  # noqa: FBT001 - a table
    """Not where an account could get locked, the plan is stale, or a worker may still be in the step."""
    snapshot = waved(*lost("N2", **ending))  # type: ignore[arg-type] # a table
    assert (["N2"] if again else []) == list(decisions_waves.to_retry(snapshot))
    assert () == decisions_waves.to_retry(waved(*lost("N2"), policy={"retry_in_wave": 0}))
    assert () == decisions_waves.to_retry(waved(*lost("N2"), policy={"max_failed": 0}))
    assert [] == list(decisions_waves.to_retry(waved(*lost("N2"), waves=2)))


Fates = Mapping[tuple[str, ...], Status]


def needy(policy: Mapping[str, object], ends: Fates) -> MadeUpRun:
    """A rollout on the four servers, each of which needs changes."""
    cluster = the_cluster(policy=policy)
    return MadeUpRun(before=dict.fromkeys(cluster.node_names, unbalanced), ends=ends, cluster=cluster)


def halted(facts: NodeFacts) -> NodeFacts:
    """A node that has to be changed and whose service does not run."""
    service = facts.service.model_copy(update={"state": "stopped", "pid": 0})
    return unbalanced(facts).model_copy(update={"service": service})


def down_in_production(
    *down: str, only: tuple[str, ...] = (), kind: str = "rollout", policy: Mapping[str, object] | None = None
) -> MadeUpRun:
    """A run on the four servers, each of which needs changes; the service of some does not run."""
    cluster = the_cluster(policy=policy or {})
    before = {name: halted if name in down else unbalanced for name in cluster.node_names}
    return MadeUpRun(kind, before=before, cluster=cluster, only=only)


def turns_of(made: MadeUpRun) -> list[str]:
    """The names of its turns after the plan was made."""
    return [one.name for one in made.record.turns[2:]]


TWO_WAVES = {"whole_pool": True}


def test_a_retry_that_succeeds_heals_the_node() -> None:
    """A turn of its own, after which the run continues; the history has both attempts."""
    made = needy(TWO_WAVES, {("wave-1", "S2", "cert_copy"): Status.FAILED})
    assert ["wave-1", "retry-1", "prove-1", "wave-2", "verify"] == turns_of(made)
    assert Verdict.JOINED is made.record.verdict
    (healed,) = (one for one in runs.summary(made.engine, made.id).nodes if one.node == "S2")
    assert (Status.CHANGED, NodeState.DONE, "") == (healed.status, healed.state, healed.problem.message)
    check(made.bundle())


def test_a_failed_node_of_the_first_wave_stops_the_run() -> None:
    """After its retry; no node of a later wave was touched."""
    made = needy(TWO_WAVES, {("S2", "cert_copy"): Status.FAILED})
    assert ["wave-1", "retry-1", "prove-1"] == turns_of(made)
    assert Verdict.STOPPED is made.record.verdict
    assert (
        "the first wave did not succeed, so 2 nodes of later waves were not touched: S2 failed: cert_copy failed"
        == made.record.summary
    )
    check(made.bundle())


def test_a_first_wave_without_an_answer_stops_the_run() -> None:
    """It says nothing about the others, however many unreachable nodes the policy allows."""
    silent: Fates = {(node, "config_edit"): Status.UNREACHABLE for node in ("S1", "S2")}
    made = needy(TWO_WAVES | {"max_unreachable": "100%"}, silent)
    assert ["wave-1", "retry-1"] == turns_of(made)
    assert Verdict.STOPPED is made.record.verdict
    one = needy(TWO_WAVES | {"max_unreachable": "100%"}, {("S2", "config_edit"): Status.UNREACHABLE})
    assert Verdict.UNREACHABLE is one.record.verdict


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ("service_restart", Status.FAILED),
        ("service_restart", Status.UNREACHABLE),
        ("install_check", Status.UNREACHABLE),
    ],
)
def test_the_last_servers_of_a_pool_are_not_restarted_while_the_others_are_down(step: str, status: Status) -> None:
    """However many nodes may fail: with P2 the whole pool would be down. A pool that may go as a whole continues.

    A server that answered before, and does not in its wave, has lost its power as likely as its network.
    """
    down: Fates = {("wave-3", "P1", step): status, ("retry-1", "P1", step): status}
    many = {"max_failed": "100%", "max_unreachable": "100%"}
    made = needy(many, down)
    assert ["wave-1", "prove-1", "wave-2", "prove-2", "wave-3", "retry-1"] == turns_of(made)
    assert Verdict.STOPPED is made.record.verdict
    assert (
        f"P2 was not restarted, because no other server of pool production is known to work: "
        f"{'P1 failed: ' if status is Status.FAILED else '1 unreachable; P1: '}{step} {status}. "
        "Repair P1, then retry; or set policy.whole_pool" == made.record.summary
    )
    check(made.bundle())
    sizes = {"waves": (2, 1, 1), "whole_pool": True}
    assert "wave-3" in turns_of(needy(many | sizes, down))


def test_a_server_whose_service_was_not_touched_counts_as_working() -> None:
    """P1 failed before the stop of its service; and a pool of which another one works continues."""
    assert "wave-4" in turns_of(needy({"max_failed": "100%"}, {("P1", "config_edit"): Status.FAILED}))
    cluster = a_cluster(numbered(4), waves=(1,), max_failed="100%", retry_in_wave=0)
    plan = a_plan(cluster)
    turns = [turn(f"wave-{number}", wave) for number, wave in enumerate(plan.waves[:2], 1)]
    down = [outcome(f"N{n}", Status.FAILED, turn=f"wave-{n}", step="service_restart", at=9) for n in (1, 2)]
    works = a_snapshot(cluster, *down, turns=turns, plan=plan, facts={})
    assert Go() == decisions_waves.within_budget(works)
    silent = lost("N4", status=Status.UNREACHABLE, turn="observe")
    decision = decisions_waves.within_budget(a_snapshot(cluster, *down, *silent, turns=turns, plan=plan, facts={}))
    assert isinstance(decision, Stop)
    assert decision.summary.startswith("N3 was not restarted, because no other server of pool one is known to work: ")


def test_the_last_server_of_a_pool_is_not_restarted_while_a_run_leaves_the_others_down() -> None:
    """P1 was not selected, and its service does not run: a rollout of P2 stops before it writes, its plan says so."""
    stopped = down_in_production("P1", only=("P2", "S2"))
    assert Verdict.STOPPED is stopped.record.verdict
    assert (
        "P2 would be restarted, and no other server of pool production is known to work: the service of P1 is not "
        "running. Repair P1, or select P1 as well, to be started first; or set policy.whole_pool. Nothing was written "
        "anywhere" == stopped.record.summary
    )
    assert [] == turns_of(stopped)
    check(stopped.bundle())
    planned = down_in_production("P1", only=("P2", "S2"), kind="plan")
    assert Verdict.CHANGES_PENDING is planned.record.verdict
    plan = runs.summary(planned.engine, planned.id).plan
    assert plan is not None
    assert plan.notes[0].startswith("a rollout would stop now, before it writes anything: P2 would be restarted, and")
    for goes_on in (
        down_in_production("P1"),
        down_in_production("P1", only=("P2", "S2"), policy={"whole_pool": True}),
        down_in_production("P1", only=("S1", "S2")),
        down_in_production("P1", "P2", only=("P2",)),
    ):
        assert Verdict.JOINED is goes_on.record.verdict


def test_what_a_run_leaves_down_counts_when_another_server_of_the_pool_has_failed() -> None:
    """Of three servers one is down and not selected, one fails in its restart: the third is not restarted."""
    cluster = a_cluster(numbered(3), waves=(1,), max_failed="100%", retry_in_wave=0)
    facts = {DocumentKind.OBSERVED: facts_of(cluster, {"N1": halted})}
    plan = a_plan(cluster).model_copy(update={"waves": (("N2",), ("N3",))})
    down = outcome("N2", Status.FAILED, turn="wave-2", step="service_restart", at=9)
    turns, two = [turn("wave-1", ()), turn("wave-2", ["N2"])], ("N2", "N3")
    stop = decisions_waves.within_budget(a_snapshot(cluster, down, turns=turns, plan=plan, facts=facts, only=two))
    assert isinstance(stop, Stop)
    assert stop.summary.endswith("Repair N1, N2, then retry; or set policy.whole_pool")


def test_a_node_that_is_not_as_it_has_to_be_after_its_wave_counts_as_failed() -> None:
    """It is tried again and looked at again; in the first wave it stops the run."""
    healed = needy(TWO_WAVES, {("prove-1", "S1", "install_check"): Status.FAILED})
    assert ["wave-1", "prove-1", "retry-1", "prove-2", "wave-2", "verify"] == turns_of(healed)
    assert (("S1", "S2"), ("S1",)) == tuple(t.nodes for t in healed.record.turns if t.stage == "prove")
    assert Verdict.JOINED is healed.record.verdict
    worse: Fates = {(turn, "S1", "install_check"): Status.FAILED for turn in ("prove-1", "prove-2")}
    assert Verdict.STOPPED is needy(TWO_WAVES, worse).record.verdict


def test_what_was_not_changed_needs_no_second_look() -> None:
    """The check of the wave was the look. After the last wave the verification is."""
    snapshot = waved(outcome("N2", Status.CHANGED, turn="wave-1", step="config_edit"))
    assert ["N2"] == list(decisions_waves.to_prove(snapshot))
    last = waved(outcome("N8", Status.CHANGED, turn="wave-3", step="config_edit"), waves=3)
    assert () == decisions_waves.to_prove(last)


@pytest.mark.parametrize(
    ("hold", "held"),
    [(None, []), ("after-canary", ["wave-2"]), ("after-each-wave", ["wave-2", "wave-3", "wave-4"])],
)
def test_a_run_waits_for_a_person_where_the_policy_says_so(hold: str | None, held: list[str]) -> None:
    """After the first wave or after each, never after the last; each wait is in the history once."""
    made = needy({"hold": hold}, {})
    assert held == made.holds
    events = [(event.kind, event.turn) for event in made.store.events(made.id)]
    assert [("run.held", turn) for turn in held] == [one for one in events if one[0] == "run.held"]
    assert [("run.promoted", turn) for turn in held] == [one for one in events if one[0] == "run.promoted"]
    assert Verdict.JOINED is made.record.verdict


def test_after_a_hold_the_nodes_of_its_wave_are_looked_at_again() -> None:
    """A hold may last for hours. What is found is tried again as after the wave; then the next wave begins."""
    held = needy(TWO_WAVES | {"hold": "after-canary"}, {})
    assert ["wave-1", "prove-1", "recheck-1", "wave-2", "verify"] == turns_of(held)
    assert ["wave-2"] == held.holds
    found = needy(TWO_WAVES | {"hold": "after-canary"}, {("recheck-1", "S1", "install_check"): Status.FAILED})
    assert ["wave-1", "prove-1", "recheck-1", "retry-1", "prove-2", "wave-2", "verify"] == turns_of(found)
    assert (["wave-2"], Verdict.JOINED) == (found.holds, found.record.verdict)
    lost: Fates = {(turn, "S1", "install_check"): Status.FAILED for turn in ("recheck-1", "prove-2")}
    stopped = needy(TWO_WAVES | {"hold": "after-canary"}, lost)
    assert (Verdict.STOPPED, "prove-2") == (stopped.record.verdict, turns_of(stopped)[-1])
    check(found.bundle())
    each = needy({"hold": "after-each-wave"}, {})
    assert 3 == sum(turn.stage == "recheck" for turn in each.record.turns)
    assert "recheck-1" not in turns_of(needy(TWO_WAVES | {"hold": "after-canary", "judge_waves": False}, {}))


def test_a_hold_that_ends_by_itself_says_so() -> None:
    """The message that asks for a person has the time, too."""
    made = needy({"hold": "after-canary", "hold_for": 600}, {})
    (held,) = (event for event in made.store.events(made.id) if event.kind == "run.held")
    assert held.message.endswith(f"esync promote {made.id}; it begins by itself after 600 s (policy.hold_for)")


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    """Any limits, retries, waves and holds."""
    limit = st.sampled_from([None, 0, 1, 2, "10%", "50%", "100%"])
    return {
        "waves": draw(st.sampled_from(["pools", "all", (1,), (1, "50%")])),
        "whole_pool": draw(st.booleans()),
        "max_failed": draw(limit),
        "max_failed_per_wave": draw(limit),
        "max_unreachable": draw(limit),
        "retry_in_wave": draw(st.integers(0, 2)),
        "judge_waves": draw(st.booleans()),
        "hold": draw(st.sampled_from([None, "after-canary", "after-each-wave"])),
    }


FATES = st.sampled_from([Status.FAILED, Status.UNREACHABLE])
PLACES = st.tuples(
    st.sampled_from(["observe", "wave-1", "wave-2", "wave-3", "retry-1", "retry-2", "prove-1", "prove-2", "recheck-1"]),
    st.sampled_from(["S2", "P1", "P2"]),
    st.sampled_from(["install_check", "config_edit", "service_restart"]),
)


@settings(max_examples=examples(400, 8))
@given(policy=policies(), fates=st.dictionaries(PLACES, FATES, max_size=5))
def test_every_run_concludes_and_stops_only_for_a_reason(
    policy: dict[str, object], fates: dict[tuple[str, ...], Status]
) -> None:
    """Whatever fails: each node has one wave and its retries there; a run that stopped says why.

    A run that did not stop exceeded no limit before a wave that it began; and its evidence leads to the same verdict.
    """
    cluster = the_cluster(policy=policy)
    made = MadeUpRun(before=dict.fromkeys(cluster.node_names, unbalanced), ends=fates, cluster=cluster)
    waves = [one for one in made.record.turns if one.stage == "wave"]
    nodes = [node for wave in waves for node in wave.nodes]
    assert len(nodes) == len(set(nodes))
    assert made.record.verdict is not None
    assert len(made.holds) <= max(0, len(waves) - 1)
    for place, one in enumerate(made.record.turns):
        before = made.record.turns[:place]
        if one.stage == "retry":
            assert set(one.nodes) <= set(next(t for t in reversed(before) if t.stage == "wave").nodes)
        if one.stage == "wave":
            assert "" == exceeded(_as_of(made, cluster, place))
    if made.record.verdict is Verdict.STOPPED:
        over, summary = exceeded(_as_of(made, cluster, len(made.record.turns))), made.record.summary
        assert summary.removesuffix(". Nothing was written anywhere") == over or any(
            reason in summary for reason in ("the first wave did not", "is known to work")
        )
    check(bundle_of(made.store, runs.summary(made.engine, made.id)))


def _as_of(made: MadeUpRun, cluster: Cluster, turns: int) -> Snapshot:
    """The run after so many of its turns."""
    kept = made.record.turns[:turns]
    names = {one.name for one in kept}
    outcomes = [one.model_copy(update={"run": "r"}) for one in made.store.outcomes(made.id) if one.turn in names]
    return a_snapshot(cluster, *outcomes, turns=kept, facts={})
