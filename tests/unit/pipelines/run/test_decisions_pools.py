"""Servers that were taken out of their balancer: who is owed a turn, and what a run says when it ends."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rollout import KINDS
from pipelines.run.decisions_pools import Left, marks_document, owed, to_undrain
from pipelines.run.snapshot import ABANDONED, Snapshot, Stop
from pipelines.run.transitions import Next, after
from tasks.cluster import Cluster
from tasks.marks import Mark, place_of
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
from workers.errors import PoolTooSmall
from workers.records import DocumentKind, Status, StepOutcome, Turn, Verdict

FOUR = numbered(4)
STEPS = ("install_check", "drain", "config_edit", "cert_copy", "service_restart", "undrain")
ROLLOUT = KINDS["rollout"]


def balanced(**policy: object) -> Cluster:
    """Four nodes behind a balancer, one in a wave."""
    data = a_cluster(FOUR, waves=(1,), judge_waves=False, retry_in_wave=0, **policy).model_dump()
    data["balancers"] = {"one": {"kind": "haproxy", "address": "/run/h.sock", "backend": "www"}}
    return Cluster.model_validate(data)


def wave(number: int = 1) -> Turn:
    """The wave of that number, which has one node."""
    return turn(f"wave-{number}", [FOUR[number - 1]], STEPS)


def ends(node: str, at: str = "wave-1", **statuses: Status) -> list[StepOutcome]:
    """Outcomes of the steps of a node in a turn, in order; those that are not named were unchanged."""
    number = 10 * int(at.rpartition("-")[2]) if "-" in at else 99
    steps = STEPS if at.startswith("wave") else ("undrain",)
    return [
        outcome(node, statuses.get(step, Status.UNCHANGED), turn=at, step=step, at=number + place)
        for place, step in enumerate(steps)
    ]


def a_run(
    outcomes: Iterable[StepOutcome] = (),
    turns: Iterable[Turn] = (),
    left: Mapping[str, str] | None = None,
    *,
    cancelled: str = "",
    only: tuple[str, ...] = (),
) -> Snapshot:
    """A rollout of the four, with the servers that earlier runs had left out."""
    cluster = balanced()
    plan = a_plan(cluster, facts_of(cluster, {**needing("N1", "N2", "N3"), "N4": recorded}))
    begun = (turn("observe", FOUR), *turns)
    made = a_snapshot(
        cluster,
        *outcomes,
        turns=begun,
        plan=plan,
        facts={},
        cancelled=cancelled,
        only=only,
        plan_fingerprint=plan.fingerprint,
    )
    if left:
        made.store.put("r", DocumentKind.DRAINED, DocumentKind.DRAINED, Left(nodes=dict(left)).to_json())
    return made


def next_turn(snapshot: Snapshot) -> Turn | Stop:
    """What follows the last turn of a rollout."""
    last = snapshot.record.turn
    assert last is not None
    decision = after(ROLLOUT, snapshot, last)
    return decision.turn if isinstance(decision, Next) else decision


OUT = {"drain": Status.CHANGED}


@pytest.mark.parametrize(
    ("drain", "undrain", "is_owed"),
    [
        (Status.CHANGED, Status.CHANGED, False),
        (Status.CHANGED, Status.UNCHANGED, False),
        (Status.UNCHANGED, Status.UNCHANGED, False),
        (Status.CHANGED, Status.FAILED, True),
        (Status.CHANGED, Status.UNREACHABLE, True),
        (Status.FAILED, Status.UNREACHABLE, True),
        (Status.CANCELLED, Status.FAILED, True),
        (Status.SKIPPED, Status.UNREACHABLE, False),
        (Status.UNREACHABLE, Status.UNREACHABLE, False),
    ],
)
def test_a_server_is_owed_until_it_is_known_to_be_back(drain: Status, undrain: Status, *, is_owed: bool) -> None:
    """A drain that failed may have had its effect; one that was not tried has none."""
    made = a_run(ends("N1", drain=drain, undrain=undrain), [wave()])
    assert (owed(made).keys() == {"N1"}) is is_owed


def test_a_pool_that_was_too_small_kept_its_server() -> None:
    """Nothing was asked of the balancer; the run stops before the next wave."""
    refused = outcome("N1", Status.FAILED, turn="wave-1", step="drain", at=11, slug=PoolTooSmall.slug, message="few")
    others = [one for one in ends("N1", undrain=Status.UNREACHABLE) if one.step != "drain"]
    made = a_run([refused, *others], [wave()])
    assert owed(made) == {}
    assert next_turn(made) == Stop(Verdict.STOPPED, "few. N1 was not changed")


def test_what_earlier_runs_left_out_comes_before_the_waves() -> None:
    """A node in no wave gets a turn; one in a wave is put back by it; one without a balancer is only reported."""
    made = a_run(left={"N2": "run q took it", "N4": "run q took it"})
    assert list(to_undrain(made)) == ["N4"]


def test_a_turn_of_undrain_before_the_waves_does_not_decide_again() -> None:
    """After it the first wave begins, with the plan as it was."""
    back = turn("undrain", ["N4"], ("undrain",))
    made = a_run([outcome("N4", Status.CHANGED, turn="undrain", step="undrain", at=5)], [back], left={"N4": "run q"})
    found = next_turn(made)
    assert isinstance(found, Turn)
    assert (found.name, found.nodes, found.steps) == ("wave-1", ("N1",), STEPS)


def test_a_server_whose_step_was_given_up_gets_another_turn_and_then_the_run_continues() -> None:
    """The next wave comes after it; a decision that stops the run is made again and stops it then."""
    stuck = [
        *ends("N1", **OUT)[:-1],
        outcome("N1", Status.FAILED, turn="wave-1", step="undrain", at=19, slug=ABANDONED),
    ]
    found = next_turn(a_run(stuck, [wave()]))
    assert isinstance(found, Turn)
    assert (found.stage, found.nodes, found.steps) == ("undrain", ("N1",), ("undrain",))
    again = outcome("N1", Status.CHANGED, turn="undrain", step="undrain", at=30)
    continued = next_turn(a_run([*stuck, again], [wave(), found]))
    assert isinstance(continued, Turn)
    assert continued.name == "wave-2"
    over = next_turn(a_run([*stuck, again], [wave(), found], cancelled="by a person"))
    assert over == Stop(Verdict.CANCELLED, "cancelled: by a person")


def test_a_cancelled_run_puts_back_first_and_reports_what_it_could_not() -> None:
    """Two turns at most; then it ends, and says what is out and how it comes back."""
    stuck = [*ends("N1", **OUT)[:-1], outcome("N1", Status.CANCELLED, turn="wave-1", step="undrain", at=19)]
    turns, outcomes = [wave()], stuck
    for number in (1, 2):
        found = next_turn(a_run(outcomes, turns, cancelled="why"))
        assert isinstance(found, Turn)
        assert found.stage == "undrain"
        turns, outcomes = (
            [*turns, found],
            [*outcomes, outcome("N1", Status.UNREACHABLE, turn=found.name, step="undrain", at=20 + number)],
        )
    end = next_turn(a_run(outcomes, turns, cancelled="why"))
    assert isinstance(end, Stop)
    assert end.summary == "cancelled: why; N1 is left out of the balancer: esync retry r puts it back"


def test_a_server_that_did_not_work_gets_no_other_turn() -> None:
    """The run cannot repair it; it is reported."""
    broken = ends("N1", undrain=Status.FAILED, **OUT)
    made = a_run(broken, [wave()])
    assert list(to_undrain(made)) == []
    assert owed(made).keys() == {"N1"}


def test_a_run_on_selected_nodes_leaves_the_others_and_reports_them() -> None:
    """A server that is not selected is not touched, and still out."""
    made = a_run(left={"N4": "run q took N4"}, only=("N1",))
    assert list(to_undrain(made)) == []
    assert owed(made).keys() == {"N4"}


def test_the_document_has_the_servers_of_this_cluster() -> None:
    """By their address, whatever they were called; a mark that cannot be read is left out."""
    made = a_run()
    server, other = (place_of("shop", made.cluster.server(name)) for name in ("N2", "N3"))
    marks = {
        server: Mark(run="q", node="OLD", pool="one").to_json(),
        "other:5986": "{}",
        other: "{",
    }
    document = marks_document(made, marks)
    assert document is not None
    assert Left.model_validate_json(document.text).nodes.keys() == {"N2"}
    assert marks_document(made, {"shop other:5986": marks[server]}) is None
    assert marks_document(made, {server.replace("shop", "blog"): marks[server]}) is None
    assert marks_document(made, marks, going_on=["q"]) is None


def test_a_cluster_without_a_balancer_has_no_turn_that_drains() -> None:
    """Its waves have the four steps that they always had."""
    cluster = a_cluster(FOUR)
    assert ROLLOUT.stages[3].turn(["N1"], 1, cluster).steps == tuple(one for one in STEPS if "drain" not in one)
    assert ROLLOUT.stages[3].turn(["N1"], 1, balanced()).steps == STEPS


STATUSES = st.sampled_from([*Status])


@given(st.lists(st.tuples(STATUSES, STATUSES), min_size=1, max_size=3), st.booleans())
def test_every_run_ends_and_says_what_is_left_out(waves: list[tuple[Status, Status]], cancelled: bool) -> None:  # noqa: FBT001
    """Whatever the steps end with: at most two turns of undrain a node, and no server is out without a word."""
    turns: list[Turn] = []
    outcomes: list[StepOutcome] = []
    for number, (drain, undrain) in enumerate(waves, 1):
        turns.append(wave(number))
        outcomes += ends(FOUR[number - 1], f"wave-{number}", drain=drain, undrain=undrain)
    for step in range(9):
        made = a_run(outcomes, turns, cancelled="why" if cancelled else "")
        found = next_turn(made)
        if isinstance(found, Stop):
            assert all(node in found.summary for node in owed(made))
            return
        if found.stage != "undrain":
            return
        turns.append(found)
        outcomes += [
            outcome(n, Status.UNREACHABLE, turn=found.name, step="undrain", at=100 + step) for n in found.nodes
        ]
    raise AssertionError(turns)
