"""Whether runs that do not move have a worker: asked for all of them at once, by one at a time, every few seconds."""

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, cast

from starlette.requests import HTTPConnection

from pipelines.engine import Engine
from pipelines.local.reading import start_of_worker
from pipelines.usecases.waiting import waiting_since, waiting_text
from workers.errors import EsyncError
from workers.records import RunRecord, RunState, now

__all__ = ["Waiting", "waiting"]

_QUIET = 6.0  #: seconds without an event, after which a run may wait
_AGAIN = 5.0  #: seconds for which an answer is remembered
_KEPT = 60.0  #: seconds after which an answer is forgotten that is not asked for any more


class _Answer(NamedTuple):
    """What was found out about a run, and when it was asked; no text while a worker answers, or it is not known."""

    asked: float
    text: str


_NOTHING = _Answer(0.0, "")


class Waiting:
    """Of the runs that someone looks at.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking = threading.Lock()
        self._known: dict[str, _Answer] = {}

    def texts(self, records: Iterable[RunRecord]) -> dict[str, str]:
        """The runs that wait, by id: since when, and how to start a worker.

        Takes some seconds when no worker answers; others get meanwhile what is known.
        """
        active = [record for record in records if _may_wait(record)]
        if asking := self._asked(active):
            asking.join()
        return {record.id: text for record in active if (text := self._known.get(record.id, _NOTHING).text)}

    def text(self, record: RunRecord, moved: float) -> str:
        """The same of one run, without waiting for the answer; empty as well if it has moved since it was asked.

        Args:
            record: the run.
            moved: when it last moved, in seconds of `time.monotonic`.
        """
        if not _may_wait(record) or time.monotonic() - moved < _QUIET:
            return ""
        self._asked([record])
        known = self._known.get(record.id, _NOTHING)
        return known.text if known.asked >= moved else ""

    def _asked(self, records: Sequence[RunRecord]) -> threading.Thread | None:
        """Begins to ask about those runs of which nothing new is known; None if there are none, or another asks."""
        at = time.monotonic()
        due = [one for one in records if not (before := self._known.get(one.id)) or at - before.asked > _AGAIN]
        if not due or not self._asking.acquire(blocking=False):
            return None
        asking = threading.Thread(target=self._ask, args=(due, at), name="esync-waiting", daemon=True)
        asking.start()
        return asking

    def _ask(self, records: Sequence[RunRecord], at: float) -> None:
        try:
            texts = self._texts(records)
            kept = {run: known for run, known in self._known.items() if at - known.asked < _KEPT}
            # Replaced, not changed: other threads read it at the same time.
            self._known = kept | {record.id: _Answer(at, texts.get(record.id, "")) for record in records}
        finally:
            self._asking.release()

    def _texts(self, records: Sequence[RunRecord]) -> dict[str, str]:
        with suppress(EsyncError):
            return {
                run: waiting_text(found, start_of_worker(self._engine.settings, run, site=found.site))
                for run, found in waiting_since(self._engine, records).items()
                if (now() - found.since).total_seconds() >= _QUIET
            }
        return {}


def _may_wait(record: RunRecord) -> bool:
    return record.state is not RunState.CONCLUDED and (now() - record.created).total_seconds() >= _QUIET


def waiting(connection: HTTPConnection) -> Waiting:
    """That of the server that answers this request; a dependency."""
    return cast("Waiting", connection.app.state.waiting)
