"""Runs that wait for a worker: work that no worker takes is reported, and not waited for in silence."""

import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

from pipelines.engine import Engine
from tasks.steering import Steering
from workers.broker.names import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import EsyncError, RecordRefused
from workers.records import RunRecord, RunState, now

__all__ = ["Attendance", "Missing", "has_work", "missing_workers", "waiting_since", "waiting_text"]

EVERY = 2.0  #: seconds between two questions whether a worker answers
ANSWER = 4.0  #: seconds that a worker has to answer; a busy machine may need some


class Missing(NamedTuple):
    """Work without a worker: the last sign of one, and the site whose workers are missing; empty for any worker."""

    since: datetime
    site: str = ""


def waiting_text(missing: Missing, start: str) -> str:
    """The sentence about a run that has work and no worker: `waiting for a worker since 14:03:10 UTC; start one: ...`.

    Args:
        missing: the last sign of a worker, and of which site.
        start: how to get one, as the end of the sentence.
    """
    of_site = f" of site {missing.site}" if missing.site else ""
    return f"waiting for a worker{of_site} since {missing.since.astimezone(UTC):%H:%M:%S} UTC; {start}"


def waiting_since(engine: Engine, records: Iterable[RunRecord]) -> dict[str, Missing]:
    """The runs that have work for which no worker answers, by id. Asks the workers once.

    Raises:
        StoreUnavailable: the broker or the run store does not answer.
    """
    needed = {record.id: _needed(engine, record) for record in records if has_work(engine, record)}
    unserved = engine.unserved(set().union(*needed.values()), ANSWER) if needed else frozenset()
    return {
        record.id: Missing(min(_last_event(engine, record), now()), _site(needed[record.id] & unserved))
        for record in records
        if needed.get(record.id, frozenset()) & unserved
    }


def missing_workers(engine: Engine, *records: RunRecord) -> frozenset[str]:
    """The queues that have work of these runs and no worker that answers.

    Raises:
        StoreUnavailable: the broker or the run store does not answer.
    """
    return engine.unserved(frozenset().union(*(_needed(engine, record) for record in records)), ANSWER)


def _needed(engine: Engine, record: RunRecord) -> frozenset[str]:
    """As `_queues`; a run that cannot be read needs no worker, and hides no other."""
    with suppress(RecordRefused):
        return _queues(engine, record)
    return frozenset()


def _queues(engine: Engine, record: RunRecord) -> frozenset[str]:
    """The queues that have work of a run now, or will have it next: of all its nodes where none belongs to a site."""
    from pipelines.coordinator import snapshot_of  # noqa: PLC0415 - a list of runs without work needs neither
    from tasks.cluster import Cluster  # noqa: PLC0415

    queues = {node.name: engine.queue_of(node) for node in Cluster.of_run(record).nodes}
    if set(queues.values()) == {NODES_QUEUE}:
        return frozenset({CONTROL_QUEUE, NODES_QUEUE})
    unfinished = snapshot_of(engine, record).unfinished(record.turn) if record.turn else ()
    return frozenset({CONTROL_QUEUE, *(queues[node] for node in unfinished)})


def _site(queues: Collection[str]) -> str:
    """The site of the first of these queues; empty if another queue is among them."""
    return min(queues).removeprefix(NODES_QUEUE).removeprefix(".") if CONTROL_QUEUE not in queues else ""


def has_work(engine: Engine, record: RunRecord) -> bool:
    """Whether a run needs a worker now: it has not ended, waits for no person, and can be read."""
    with suppress(RecordRefused):
        return record.state is not RunState.CONCLUDED and not Steering.of(engine.store, record.id).waits
    return False


def _last_event(engine: Engine, record: RunRecord) -> datetime:
    at, after = record.created, ""
    while events := engine.store.events(record.id, after):
        at, after = events[-1].at, events[-1].id
    return at


class Attendance:
    """Asks again and again, in the background, whether workers answer.

    Args:
        ask: the queues without one; may take some seconds. While it raises an EsyncError, nothing is known.
        every: seconds between two questions.
    """

    def __init__(self, ask: Callable[[], Collection[str]], every: float = EVERY) -> None:
        self._ask = ask
        self._every = every
        self._answered: datetime | None = None
        self._missing: Collection[str] = ()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="esync-attendance", daemon=True)

    def missing_since(self, last_event: datetime) -> Missing | None:
        """The last sign of a worker, while one is missing; None while all answer, or it is unknown.

        Args:
            last_event: when the run last progressed.
        """
        if not self._missing:
            return None
        return Missing(min(max(last_event, self._answered or last_event), now()), _site(self._missing))

    def _loop(self) -> None:
        while not self._ended.wait(self._every):
            try:
                missing = self._ask()
            except EsyncError:
                continue
            self._answered = self._answered if missing else now()
            self._missing = missing

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()  # not joined: an unanswered question must not delay the end of the command
