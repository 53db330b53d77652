"""Whether a run that does not move has a worker: asked in the background, without waiting for the answer."""

import threading
import time
from contextlib import suppress

from pipelines.engine import Engine
from pipelines.local.reading import start_of_worker
from pipelines.usecases.waiting import waiting_since, waiting_text
from pipelines.web.pages.scene import Scene
from workers.errors import EsyncError

__all__ = ["Attendance"]

_QUIET = 6.0  #: seconds without an event, after which it is asked whether a worker answers
_AGAIN = 5.0  #: seconds between two questions


class Attendance:
    """Of the runs that someone looks at.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking = threading.Lock()
        self._asked: dict[str, float] = {}
        self._missing: dict[str, tuple[float, str]] = {}

    def missing(self, scene: Scene) -> str:
        """Since when the run waits for a worker, and how to start one; empty while one answers, or it is not known."""
        run, at = scene.progress.record.id, time.monotonic()
        if scene.over or at - scene.moved < _QUIET:
            self._missing.pop(run, None)
            return ""
        if at - self._asked.get(run, 0.0) > _AGAIN and not self._asking.locked():
            self._asked = {known: when for known, when in self._asked.items() if at - when < 60 * _AGAIN} | {run: at}
            threading.Thread(target=self._ask, args=(scene, at), name="esync-attendance", daemon=True).start()
        moved, text = self._missing.get(run, (0.0, ""))
        return text if moved == scene.moved else ""

    def _ask(self, scene: Scene, at: float) -> None:
        record, moved = scene.progress.record, scene.moved
        with self._asking, suppress(EsyncError):
            found = waiting_since(self._engine, [record]).get(record.id)
            self._missing.pop(record.id, None)
            if found is not None and moved < at:
                start = start_of_worker(self._engine.settings, record.id, site=found.site)
                self._missing[record.id] = moved, waiting_text(found, start)
