"""Whether a run waits for a worker: the background questions, and the sentence."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.usecases.waiting import Attendance, Missing, waiting_text
from tests.waiting import wait_until
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import StoreUnavailable
from workers.records import now

LONG_AGO = now() - timedelta(hours=1)
ANY = frozenset({CONTROL_QUEUE, NODES_QUEUE})


def missing(attendance: Attendance) -> Callable[[], bool]:
    """Whether the attendance says that no worker answers."""
    return lambda: attendance.missing_since(LONG_AGO) is not None


def test_a_worker_that_never_answered_is_missing_since_the_last_event() -> None:
    """Nothing is said before the first question was asked; then the last event is the last sign of a worker."""
    with Attendance(lambda: ANY, every=0.01) as attendance:
        wait_until(missing(attendance), lambda: "not missing")
        assert attendance.missing_since(LONG_AGO) == Missing(LONG_AGO)
    assert Attendance(lambda: ANY).missing_since(LONG_AGO) is None


def test_a_worker_that_answered_is_missing_since_its_last_answer() -> None:
    """The last answer counts when it is later than the last event; a worker that answers again is not missing."""
    unserved: list[frozenset[str]] = [frozenset()]
    with Attendance(lambda: unserved[0], every=0.01) as attendance:
        wait_until(lambda: attendance._answered, lambda: "no answer")
        unserved[0] = ANY
        wait_until(missing(attendance), lambda: "not missing")
        found = attendance.missing_since(LONG_AGO)
        assert found is not None
        assert found.since > LONG_AGO
        unserved[0] = frozenset()
        wait_until(lambda: not missing(attendance)(), lambda: "still missing")


def test_a_clock_that_is_ahead_gives_no_moment_in_the_future() -> None:
    """An event of a worker whose clock is an hour ahead: since now, not since an hour to come."""
    with Attendance(lambda: ANY, every=0.01) as attendance:
        wait_until(missing(attendance), lambda: "not missing")
        found = attendance.missing_since(now() + timedelta(hours=1))
        assert found is not None
        assert found.since <= now()


def test_a_broker_that_does_not_answer_says_nothing_about_workers() -> None:
    """The question fails: no worker is called missing, and the questions go on."""
    asked: list[int] = []

    def ask() -> frozenset[str]:
        asked.append(1)
        raise StoreUnavailable("away")

    with Attendance(ask, every=0.01) as attendance:
        wait_until(lambda: len(asked) > 2, lambda: "not asked again")
        assert not missing(attendance)()


def test_the_sentence() -> None:
    """It has the moment in UTC and the command."""
    at = datetime(2026, 11, 26, 14, 3, 10, tzinfo=UTC)
    start = "start one: esync up"
    assert waiting_text(Missing(at), start) == "waiting for a worker since 14:03:10 UTC; start one: esync up"
    assert waiting_text(Missing(at, "ams"), start).startswith("waiting for a worker of site ams since 14:03:10 UTC; ")


@pytest.mark.parametrize(
    ("unserved", "site"),
    [({"esync.v1.nodes.ams"}, "ams"), ({"esync.v1.nodes"}, ""), ({*ANY, "esync.v1.nodes.ams"}, "")],
)
def test_the_site_is_named_when_only_its_workers_are_missing(unserved: set[str], site: str) -> None:
    """While no worker answers at all, any worker comes first."""
    with Attendance(lambda: unserved, every=0.01) as attendance:
        wait_until(missing(attendance), lambda: "not missing")
        assert attendance.missing_since(LONG_AGO) == Missing(LONG_AGO, site)
