"""By how much a clock is wrong for certain: a node that answers slowly has no wrong clock."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.observe.replies import skew_of

BEGAN = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
SEEN = BEGAN + timedelta(minutes=7)


@pytest.mark.parametrize(
    ("seconds", "skew"),
    [(-600.0, -600.0), (-0.5, -0.5), (0.0, 0.0), (5.0, 0.0), (420.0, 0.0), (421.0, 1.0), (1020.0, 600.0)],
)
def test_only_what_the_exchange_does_not_explain_is_skew(seconds: float, skew: float) -> None:
    """The node read its clock at any moment between the question and the end of its answers."""
    assert skew_of(BEGAN + timedelta(seconds=seconds), BEGAN, SEEN) == skew
