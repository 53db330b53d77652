"""How long runs and steps have lasted, as one observer measures it."""

import pytest

from pipelines.run.elapsed import Stopwatch
from tests.conftest import Clock

GAP = 5.0


def none() -> str:
    """No observer has counted before."""
    return ""


@pytest.fixture
def watch(clock: Clock) -> Stopwatch:
    """A new observer."""
    return Stopwatch(GAP, clock)


@pytest.mark.parametrize(("age", "counted"), [(-9, 0), (0, 0), (3, 3), (5, 5), (5.1, 5), (9999, 5)])
def test_a_new_run_is_no_older_than_one_gap(watch: Stopwatch, age: float, counted: float) -> None:
    """Whatever the clocks of other machines say."""
    assert counted == watch.spent("r", none, age, going=True)


def test_the_seconds_of_an_earlier_observer_count_once(watch: Stopwatch, clock: Clock) -> None:
    """They are read when the run is first seen, and then never again."""
    assert 40 == watch.spent("r", lambda: "40.0", 1, going=True)
    clock.passes(2)

    def never() -> str:
        raise AssertionError("read twice")

    assert 42 == watch.spent("r", never, 1, going=True)


def test_time_counts_only_while_a_run_is_active(watch: Stopwatch, clock: Clock) -> None:
    """The time of a pause is not made up for later."""
    watch.spent("r", none, 0, going=True)
    clock.passes(10)
    assert 10 == watch.spent("r", none, 0, going=True)
    clock.passes(100)
    assert 10 == watch.spent("r", none, 0, going=False)
    clock.passes(1)
    assert 11 == watch.spent("r", none, 0, going=True)


def test_a_forgotten_run_is_seen_anew(watch: Stopwatch, clock: Clock) -> None:
    """Runs that are not in the round are forgotten, the others are not."""
    for run in ("r", "s"):
        watch.spent(run, none, 0, going=True)
    clock.passes(3)
    watch.only(["s"])
    assert 7 == watch.spent("r", lambda: "7", 0, going=True)
    assert 3 == watch.spent("s", lambda: "7", 0, going=True)


def test_the_next_check_comes_at_the_earliest_request(watch: Stopwatch) -> None:
    """At least after one gap; never at once, and requests last for one round."""
    assert GAP == watch.due
    watch.within(9)
    assert GAP == watch.due
    watch.within(2)
    watch.within(3)
    watch.within(-4)
    assert 0.05 == watch.due
    watch.only([])
    assert GAP == watch.due


def test_a_cancel_is_timed_from_when_it_is_first_seen(watch: Stopwatch, clock: Clock) -> None:
    """By this observer."""
    watch.spent("r", none, 0, going=True)
    assert 0 == watch.cancelled("r")
    clock.passes(4)
    assert 4 == watch.cancelled("r")
    clock.passes(4)
    assert 8 == watch.cancelled("r")


def test_a_leased_node_is_timed_until_it_has_another_outcome(watch: Stopwatch, clock: Clock) -> None:
    """Its time begins anew with each outcome, and when it was not leased in between."""
    watch.spent("r", none, 0, going=True)
    assert {"A": 0, "B": 0} == watch.held("r", {"A": 0, "B": 2})
    clock.passes(6)
    assert {"A": 6, "B": 0, "C": 0} == watch.held("r", {"A": 0, "B": 3, "C": 0})
    clock.passes(1)
    assert {"B": 1} == watch.held("r", {"B": 3})
    clock.passes(1)
    assert {"A": 0, "B": 2} == watch.held("r", {"A": 0, "B": 3})


def test_the_orphans_of_a_dead_worker_are_named_once(watch: Stopwatch, clock: Clock) -> None:
    """Nodes that were waiting when it died, and neither leased nor moved on since; the next check comes in time."""
    watch.spent("r", none, 0, going=True)
    assert [] == watch.orphans("r", {"a": 1, "b": 1, "c": 1}, 3, died=False)
    assert [] == watch.orphans("r", {"a": 1, "b": 1, "c": 1}, 3, died=True)
    assert 3 == watch.due
    clock.passes(2)
    assert [] == watch.orphans("r", {"a": 1, "b": 2, "d": 1}, 3, died=False)
    clock.passes(1)
    assert ["a"] == watch.orphans("r", {"a": 1, "b": 2, "c": 1, "d": 1}, 3, died=False)
    clock.passes(9)
    assert [] == watch.orphans("r", {"a": 1, "b": 2, "d": 1}, 3, died=False)


def test_a_second_death_does_not_delay_the_orphans_of_the_first(watch: Stopwatch, clock: Clock) -> None:
    """Each node has its own time."""
    watch.spent("r", none, 0, going=True)
    assert [] == watch.orphans("r", {"a": 1}, 3, died=True)
    clock.passes(2)
    assert [] == watch.orphans("r", {"a": 1, "b": 1}, 3, died=True)
    clock.passes(1)
    assert ["a"] == watch.orphans("r", {"a": 1, "b": 1}, 3, died=False)
    clock.passes(2)
    assert ["b"] == watch.orphans("r", {"a": 1, "b": 1}, 3, died=False)
