"""The clock that all workers share."""

from datetime import UTC, datetime, timedelta

from typing_extensions import override

from tasks.execution.shared_clock import ASKED_EVERY, SharedClock
from tests.conftest import Clock
from workers.errors import StoreUnavailable
from workers.records import now
from workers.store.memory import MemoryStore

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clocked(MemoryStore):
    """A store with a clock of its own; None: it does not answer."""

    told: datetime | None = NOON

    @override
    def time_of_day(self) -> datetime:
        if self.told is None:
            raise StoreUnavailable("away")
        return self.told


def test_it_is_asked_now_and_then_and_counted_on_between() -> None:
    """By the monotonic clock of this process, which does not jump."""
    clock, store = Clock(), Clocked()
    shared = SharedClock(store, clock)
    assert NOON == shared.time()
    clock.passes(ASKED_EVERY)
    assert NOON + timedelta(seconds=ASKED_EVERY) == shared.time()
    store.told = NOON + timedelta(hours=1)
    assert NOON + timedelta(seconds=ASKED_EVERY) == shared.time()
    clock.passes(1)
    assert store.told == shared.time()


def test_while_the_store_does_not_answer_the_clock_of_this_machine_counts() -> None:
    """No step fails because of that."""
    store = Clocked()
    store.told = None
    assert abs(SharedClock(store, Clock()).time() - now()) < timedelta(minutes=1)
