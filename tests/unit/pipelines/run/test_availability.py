"""What was measured behind a balancer: every request counts once, and silence is reported as silence."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.run.availability import Stretch, Tally, _merged
from tasks.balancer import Prober

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
PROBE = Prober(url="http://lb/", every=1, within=1)


def after(seconds: float) -> datetime:
    """A time on that day."""
    return AT + timedelta(seconds=seconds)


def stretch(begun: float, ended: float, asked: int = 10, **more: object) -> Stretch:
    """What one process has measured."""
    return Stretch.model_validate(
        {"pool": "live", "url": PROBE.url, "begun": after(begun), "ended": after(ended), "asked": asked, **more}
    )


@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans()), max_size=60))
def test_a_tally_counts_every_request_and_finds_the_worst_second(asked: list[tuple[int, bool]]) -> None:
    """By comparison with counting all of them at the end."""
    tally, moments = Tally(stretch(0, 0, 0)), sorted(asked)
    for place, failed in moments:
        tally.add(after(place / 1000), 0.01, "no answer" if failed else "")
    counted = tally.stretch
    failures = Counter(place // 1000 for place, failed in moments if failed)
    assert (counted.asked, counted.failed) == (len(moments), failures.total())
    assert counted.worst_failed == max(failures.values(), default=0)
    if counted.worst is None:
        assert not failures
    else:
        second = int((counted.worst - AT).total_seconds())
        assert failures[second] == counted.worst_failed
        assert sum(place // 1000 == second for place, _ in moments) >= counted.worst_asked >= counted.worst_failed


def test_without_any_request_nothing_was_measured() -> None:
    """The sentence says so, and gives no percentage."""
    none = _merged("live", PROBE, (after(0), after(60)), [])
    assert none.percent is None
    assert "not measured" in none.sentence


@pytest.mark.parametrize(
    ("stretches", "gap"),
    [
        ([stretch(-5, 65)], 0),
        ([stretch(-5, 20), stretch(22, 65)], 0),
        ([stretch(-5, 20), stretch(40, 65)], 20),
        ([stretch(30, 65)], 30),
        ([stretch(-5, 40)], 20),
        ([stretch(-5, 50), stretch(10, 20), stretch(49, 70)], 0),
    ],
)
def test_a_time_without_requests_is_a_gap(stretches: list[Stretch], gap: float) -> None:
    """At the beginning, between two processes, at the end; a moment while another process takes over is none."""
    merged = _merged("live", PROBE, (after(0), after(60)), stretches)
    assert merged.gap == gap
    assert ("not measured for" in merged.sentence) == bool(gap)


def test_one_failure_is_never_rounded_to_all() -> None:
    """99.999 % is less than 100 %."""
    found = stretch(0, 60, 100_000, failed=1, worst=after(3), worst_failed=1, worst_asked=4, why="status 503")
    merged = _merged("live", PROBE, (after(0), after(60)), [found])
    assert merged.percent == 99.99
    assert "the worst second was 12:00:03 UTC (1 of 4 failed: status 503)" in merged.sentence
    assert "100 % of 10 requests" in _merged("live", PROBE, (after(0), after(60)), [stretch(0, 60)]).sentence
