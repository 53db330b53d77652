"""Whether a run waits for a worker, for programs: asked once in some seconds, and by one request at a time."""

import threading
import time
from contextlib import suppress
from typing import cast

from starlette.requests import HTTPConnection

from pipelines.engine import Engine
from pipelines.local.reading import start_of_worker
from pipelines.usecases.waiting import waiting_since, waiting_text
from workers.errors import EsyncError
from workers.records import RunRecord, RunState, now

__all__ = ["Waiting", "waiting"]

_QUIET = 6.0  #: seconds without an event, after which a run may wait
_AGAIN = 5.0  #: seconds for which an answer is remembered
_MOST = 1000  #: answers


class Waiting:
    """Of the runs that programs ask for.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}

    def text(self, record: RunRecord) -> str:
        """Since when a run waits, and how to start a worker; empty while one answers, or it is not known.

        Takes some seconds when no worker answers.
        """
        if record.state is RunState.CONCLUDED or (now() - record.created).total_seconds() < _QUIET:
            return ""
        asked, text = self._known.get(record.id, (0.0, ""))
        if (asked and time.monotonic() - asked < _AGAIN) or not self._asking.acquire(blocking=False):
            return text
        try:
            text = self._asked(record)
            others = list(self._known.items())[1 - _MOST :]
            self._known = dict(others) | {record.id: (time.monotonic(), text)}
        finally:
            self._asking.release()
        return text

    def _asked(self, record: RunRecord) -> str:
        with suppress(EsyncError):
            found = waiting_since(self._engine, [record]).get(record.id)
            if found is not None and (now() - found.since).total_seconds() >= _QUIET:
                return waiting_text(found, start_of_worker(self._engine.settings, record.id, site=found.site))
        return ""


def waiting(connection: HTTPConnection) -> Waiting:
    """That of the server that answers this request; a dependency."""
    return cast("Waiting", connection.app.state.waiting)
