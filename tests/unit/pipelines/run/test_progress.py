"""The live view's state, from events that may be repeated and late."""

from collections.abc import Sequence
from datetime import timedelta

from pipelines.rollout import KINDS
from pipelines.run.budget import Budget
from pipelines.run.budget_left import budget_so_far
from pipelines.run.progress import Progress
from tests.unit.pipelines.run.snapshots import a_cluster, numbered, turn
from tests.unit.tasks.ektron.joined import NOW
from workers.records import Event, RunRecord, Status, Turn

THREE = numbered(3)
STEPS = ("install_check", "config_edit", "cert_copy", "service_restart")
TURNS = (turn("canary", ["N1"]), turn("wave-1", ["N1", "N2"], STEPS), turn("wave-2", ["N3"], STEPS))


def record(turns: Sequence[Turn] = TURNS, **fields: object) -> RunRecord:
    """A rollout of three nodes."""
    spec = a_cluster(THREE).model_dump(mode="json")
    values = {"id": "r", "cluster": "shop", "spec": spec, "turns": tuple(turns), "created": NOW}
    return RunRecord.model_validate(values | fields)


def started(node: str, step: str = "install_check", turn: str = "wave-1") -> Event:
    """A step starts."""
    return Event(kind="step.started", turn=turn, node=node, step=step)


def ended(node: str, status: Status, step: str = "install_check", turn: str = "wave-1", **fields: str) -> Event:
    """A step ends."""
    return Event(kind="step.ended", turn=turn, node=node, step=step, status=status, **fields)


def progress(*events: Event, kind: str = "rollout", turns: Sequence[Turn] = TURNS) -> Progress:
    """The progress after these events."""
    made = Progress(record(turns), KINDS[kind])
    made.take(record(turns), events)
    return made


def test_nodes_have_their_pool_and_wave() -> None:
    """Other turns are no waves."""
    seen = progress()
    assert dict.fromkeys(THREE, "one") == seen.nodes
    assert ["wave-1", "wave-1", "wave-2"] == [seen.wave(node) for node in THREE]
    assert "" == Progress(record(), KINDS["rollout"]).wave("N1")
    assert "" == progress(turns=[TURNS[0]]).wave("N1")


def test_the_turns_of_a_rollback_are_waves() -> None:
    """As those of a rollout they are one after the other; an older version gave the first one no number."""
    for first in ("rollback-1", "rollback"):
        turns = (turn("observe", THREE), turn(first, ["N1", "N2"]), turn("rollback-2", ["N3"]))
        seen = progress(kind="rollback", turns=turns)
        assert [first, first, "rollback-2"] == [seen.wave(node) for node in THREE]


def test_a_node_with_nothing_to_do_waits_for_nothing() -> None:
    """It is correct by the plan. What a step finds out later counts more; a node that was not selected is left out."""
    seen = progress(ended("N1", Status.FAILED, "config_edit"), turns=TURNS[:2])
    seen.know_idle(["N1", "N3"])
    assert (Status.FAILED, Status.UNCHANGED, 1) == (seen.outcome("N1"), seen.outcome("N3"), seen.waiting())
    seen.take(record(), [ended("N3", Status.UNREACHABLE, turn="verify")])
    assert Status.UNREACHABLE is seen.outcome("N3")
    chosen = Progress(record(only=("N1",)), KINDS["rollout"])
    chosen.know_idle(["N2"])
    assert (None, 1) == (chosen.outcome("N2"), chosen.waiting())


def test_a_running_step_has_an_empty_cell_until_it_ends() -> None:
    """The longest running node comes first; other kinds of events do not matter."""
    seen = progress(started("N2"), started("N1", "config_edit"), Event(kind="turn.opened", turn="wave-1"))
    assert {("N2", "look"): None, ("N1", "config"): None} == seen.cells
    assert ["N2", "N1"] == seen.running()
    seen.take(record(), [ended("N2", Status.UNCHANGED)])
    assert Status.UNCHANGED is seen.cells["N2", "look"]


def test_a_node_is_in_work_until_the_last_step_of_its_turn_has_ended() -> None:
    """Also between two steps, unless the run is paused; it neither waits nor counts as changed before the end."""
    seen = progress(started("N2"), started("N1"), ended("N2", Status.UNCHANGED))
    assert (["N2", "N1"], 1, {}) == (seen.running(), seen.waiting(), seen.counts())
    seen.take(record(), [ended("N2", Status.CHANGED, "config_edit")])
    assert (["N2", "N1"], 1, {}) == (seen.running(), seen.waiting(), seen.counts())
    seen.take(record(), [Event(kind="run.pause_asked")])
    assert (["N1"], 2, {}) == (seen.running(), seen.waiting(), seen.counts())
    seen.take(record(), [Event(kind="run.resume_asked"), ended("N2", Status.UNCHANGED, "cert_copy")])
    seen.take(record(), [ended("N2", Status.UNCHANGED, "service_restart")])
    assert (["N1"], 1, {Status.CHANGED: 1}) == (seen.running(), seen.waiting(), seen.counts())
    seen.take(record(), [ended("N2", Status.UNCHANGED, "cert_copy"), ended("N1", Status.FAILED, "config_edit")])
    assert ([], {Status.FAILED: 1, Status.CHANGED: 1}) == (seen.running(), seen.counts())


def test_a_node_is_in_work_until_its_balancer_has_it_back() -> None:
    """Its result is known when its own last step has ended."""
    turns = (turn("wave-1", ["N1"], (STEPS[0], "drain", *STEPS[1:], "undrain")),)
    seen = progress(ended("N1", Status.CHANGED, "service_restart"), turns=turns)
    assert (["N1"], Status.CHANGED) == (seen.running(), seen.outcome("N1"))
    seen.take(record(turns), [ended("N1", Status.CHANGED, "undrain")])
    assert [] == seen.running()


def test_a_change_is_not_hidden_by_a_later_step_without_one() -> None:
    """A failure is shown nevertheless; and a later change is, also if its event is late."""
    changed, last = ended("N1", Status.CHANGED, "config_edit"), ended("N1", Status.UNCHANGED, "service_restart")
    for events in ([changed, last], [last, changed]):
        assert (Status.CHANGED, []) == (progress(*events).outcome("N1"), progress(*events).running())
    failed = progress(changed, last, ended("N1", Status.FAILED, turn="verify"))
    assert Status.FAILED is failed.outcome("N1")


def test_a_cell_keeps_the_change_of_an_attempt_before() -> None:
    """The next one finds the work done; what it does itself counts, and a failure."""
    seen = progress(ended("N1", Status.CHANGED, "config_edit"), ended("N1", Status.FAILED, "service_restart"))
    for later, config, restart in (
        ([started("N1", "config_edit"), again("config_edit", Status.UNCHANGED)], Status.CHANGED, Status.FAILED),
        ([again("service_restart", Status.UNCHANGED)], Status.CHANGED, Status.UNCHANGED),
        ([again("config_edit", Status.FAILED)], Status.FAILED, Status.UNCHANGED),
    ):
        seen.take(record(), later)
        assert (config, restart) == (seen.cells["N1", "config"], seen.cells["N1", "restart"])


def again(step: str, status: Status) -> Event:
    """The end of a step of a second attempt."""
    return ended("N1", status, step, turn="retry-1")


def test_the_first_end_of_a_node_counts() -> None:
    """With its reason and its turn; later outcomes change the cells only."""
    seen = progress(
        ended("N1", Status.FAILED, "config_edit", message="no", failure="conflict"),
        ended("N1", Status.SKIPPED, "cert_copy", message="not tried"),
        ended("N2", Status.UNREACHABLE, failure="unreachable", turn="wave-1"),
        ended("N3", Status.FAILED, "config_edit", message="other", failure="failed", turn="wave-2"),
    )
    assert {"N1": "config_edit (conflict): no", "N2": "install_check", "N3": "config_edit: other"} == seen.reasons
    assert {"N1": "wave-1", "N2": "wave-1", "N3": "wave-2"} == seen.left
    assert Status.SKIPPED is seen.cells["N1", "certs"]
    assert {Status.FAILED: 2, Status.UNREACHABLE: 1} == seen.counts()
    assert {Status.FAILED: 1, Status.UNREACHABLE: 1} == seen.lost("wave-1")
    assert [Status.FAILED, Status.UNREACHABLE] == list(seen.counts())


def test_an_observation_before_the_plan_is_no_result() -> None:
    """Nor is the check before the changes of a wave. In a run that only observes it is; later observations are, too."""
    looked = ended("N1", Status.UNCHANGED, turn="canary")
    assert progress(looked).outcome("N1") is None
    assert Status.UNCHANGED is progress(looked, kind="verify", turns=[TURNS[0]]).outcome("N1")
    assert progress(ended("N1", Status.UNCHANGED)).outcome("N1") is None
    assert Status.UNCHANGED is progress(ended("N1", Status.UNCHANGED, "service_restart")).outcome("N1")
    assert Status.UNCHANGED is progress(ended("N1", Status.UNCHANGED, turn="verify")).outcome("N1")


def test_a_turn_is_known_before_the_record_has_it() -> None:
    """By its name, with or without a number; anything else counts for the first stage."""
    seen = progress(ended("N1", Status.UNCHANGED, turn="wave-7"), turns=[])
    assert {("N1", "look"): Status.UNCHANGED} == seen.cells
    assert [("N1", "verify")] == list(progress(ended("N1", Status.UNCHANGED, turn="verify"), turns=[]).cells)
    assert [("N1", "look")] == list(progress(ended("N1", Status.UNCHANGED, turn="unheard-of"), turns=[]).cells)
    elsewhere = progress(ended("N1", Status.UNCHANGED, turn="unheard-of"), kind="verify", turns=[])
    assert [("N1", "verify")] == list(elsewhere.cells)
    assert [("N1", "drain")] == list(progress(ended("N1", Status.UNCHANGED, step="drain")).cells)


def test_steps_of_a_turn_are_counted() -> None:
    """Those that have ended, over all nodes of the turn; not those that run, and none of another turn."""
    seen = progress(
        ended("N1", Status.UNCHANGED),
        ended("N1", Status.CHANGED, "config_edit"),
        started("N2"),
        ended("N3", Status.FAILED, turn="wave-2"),
        ended("N1", Status.UNCHANGED, turn="canary"),
    )
    assert [(1, 1), (2, 8), (1, 4)] == [seen.steps(turn) for turn in TURNS]


def test_nodes_that_were_seen_completely_before_the_plan_do_not_wait() -> None:
    """Their last turn has no steps: nothing had to change, and the cell of its column says so."""
    known = (Turn(name="verify", stage="verify", steps=(), nodes=("N1", "N2")),)
    seen = progress(turns=known)
    assert (1, {Status.UNCHANGED: 2}) == (seen.waiting(), seen.counts())
    assert Status.UNCHANGED is seen.cells["N1", "verify"]
    assert (0, 0) == seen.steps(known[0])


def test_nodes_without_an_outcome_wait_unless_a_step_runs() -> None:
    """Also those that were only observed so far."""
    looked = ended("N1", Status.UNCHANGED, turn="canary")
    assert [3, 2, 1] == [
        progress(*events).waiting()
        for events in ([looked], [started("N1")], [started("N1"), ended("N2", Status.FAILED)])
    ]


def test_a_pause_lasts_until_the_run_continues() -> None:
    """Its reason is kept; a cancel ends it."""
    pause = Event(kind="run.pause_asked", message="lunch")
    seen = progress(pause)
    assert ("lunch", "") == (seen.paused, seen.cancelling)
    seen.take(record(), [Event(kind="run.resume_asked")])
    assert "" == seen.paused
    seen.take(record(), [pause, Event(kind="run.cancel_asked")])
    assert ("", "by an operator") == (seen.paused, seen.cancelling)


def test_seconds_count_until_the_run_ended() -> None:
    """Or until now."""
    seen = progress()
    assert 60 == seen.seconds(NOW + timedelta(seconds=60))
    seen.take(record(ended=NOW + timedelta(seconds=9)), [])
    assert 9 == seen.seconds(NOW + timedelta(seconds=60))


def test_what_is_left_of_the_budget_is_known_from_the_events() -> None:
    """Failed and unreachable nodes count apart, and in their wave; in a run that only looks there is no budget."""
    lose = [ended("N1", Status.FAILED, "config_edit"), ended("N3", Status.UNREACHABLE, turn="wave-2")]
    assert budget_so_far(progress()) is None
    assert budget_so_far(progress(*lose)) == Budget(failed=1, failed_allowed=1, unreachable=1, unreachable_allowed=1)
    assert budget_so_far(progress(ended("N1", Status.FAILED), kind="verify", turns=TURNS[:1])) is None
    spec = a_cluster(THREE, max_failed=2, max_failed_per_wave="50%").model_dump(mode="json")
    limited = Progress(record(TURNS[:2], spec=spec), KINDS["rollout"])
    limited.take(record(TURNS[:2], spec=spec), lose[:1])
    known = budget_so_far(limited)
    assert known is not None
    assert known.left == "1 of 2 may still fail (0 of 1 in wave-1), 2 of 2 be unreachable"
    limited.record = record(TURNS[:2], spec=spec, only=("N2",))
    assert budget_so_far(limited) is None
