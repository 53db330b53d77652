"""A run as this process knows it, for all who look at it: read once, and only what is new each time."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from pipelines.coordinator import snapshot_of
from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.event_words import is_line, line
from pipelines.report.rows import Report
from pipelines.report.sync_rows import build_sync
from pipelines.report.sync_text import sync_lines
from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from pipelines.run.snapshot import Snapshot
from pipelines.run.summary import summary_of
from pipelines.run.sync_kinds import AT_A_TERMINAL
from pipelines.usecases.updates import take, updates_of
from pipelines.web.pages.grid import codes_of
from tasks.steering import Steering
from workers.errors import EsyncError
from workers.records import Event, RunState, Status, StepOutcome

__all__ = ["LINES", "Line", "Scene", "Scenes"]

LINES = 200  #: lines of the event log that a page shows
_KEPT = 24  #: runs that a process remembers
_SPARE = 10.0  #: a report of a running run is made again after that many times the time it took


class Line(NamedTuple):
    """One line of the event log."""

    id: str
    text: str
    css: str


class Scene:
    """A run as it was at the last `refresh`: progress, letters of the grid, event log, report.

    Args:
        engine: where the run is.
        run_id: the run.

    Raises:
        RunUnknown: there is no such run.
    """

    def __init__(self, engine: Engine, run_id: str) -> None:
        record = engine.store.run(run_id)
        self._engine = engine
        self._updates = updates_of(engine.store, run_id)
        self._after = ""
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._made: tuple[str, float, float] = ("", 0.0, 0.0)  #: after which event the report was made, when, how long
        self._report: Report | None = None
        self.moved = time.monotonic()  #: when something last happened, as this process saw it
        self.progress = Progress(record, kind_of(record.kind, run_id))
        self.answer = ""  #: of a run about a sync that has ended, as at a terminal; as new as the report
        self.codes: Mapping[str, str] = {}
        if engine.store.chain(run_id).dropped:  # a very large run: its first events are not kept, its outcomes are
            self.progress.take(record, map(_end_of, engine.store.outcomes(run_id)))
        self.lines: tuple[Line, ...] = ()
        self._told: deque[Line] = deque(maxlen=LINES)

    @property
    def after(self) -> str:
        """The id of the newest event that was read."""
        return self._after

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.progress.record.state is RunState.CONCLUDED

    @property
    def reported(self) -> bool:
        """Whether the report is of the present state."""
        return self._made[0] == self._after

    def refresh(self) -> "Scene":
        """Reads what is new.

        Raises:
            RunUnknown: the run was forgotten.
            StoreUnavailable: the store does not answer.
        """
        with self._lock:
            before = self.progress.record.version
            update = self._updates(self._after)
            changed = update.record.version != before or not self.codes
            while True:
                take(self.progress, update)
                self._log(update.events)
                changed = changed or bool(update.events)
                if not update.events:
                    break
                self._after = update.events[-1].id
                update = self._updates(self._after)
            if changed:
                # Replaced, not changed: other threads read them at the same time.
                self.codes, self.lines = codes_of(self.progress), tuple(self._told)
                self.moved = time.monotonic()
        return self

    def _log(self, events: Sequence[Event]) -> None:
        for event in events:
            if is_line(event, verbose=True) and (event.kind != "step.ended" or is_line(event, verbose=False)):
                css = "bad" if event.status in {Status.FAILED, Status.UNREACHABLE} else ""
                self._told.append(Line(event.id, line(self.progress.record, event), css))

    def report(self) -> Report:
        """The report of the run now. While the run lasts, a large one may be some seconds old.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with self._building:
            if self._report is None or not self._fresh():
                began, after = time.monotonic(), self._after
                snapshot = snapshot_of(self._engine, self._engine.store.run(self.progress.record.id))
                self.answer = _answer(snapshot)
                self._report = build(summary_of(snapshot, self.progress.kind))
                ended = time.monotonic()
                self._made = after, ended, ended - began
            return self._report

    def newest_report(self) -> Report:
        """The newest report that there is, without waiting for a newer one: that is made in the background.

        Raises:
            StoreUnavailable: the store does not answer, and there is none yet.
        """
        if self._report is None:
            return self.report()
        if not self._fresh() and not self._building.locked():
            threading.Thread(target=self._make, name="esync-report", daemon=True).start()
        return self._report

    def _make(self) -> None:
        with suppress(EsyncError):  # the store does not answer: the next look asks again
            self.report()

    def _fresh(self) -> bool:
        made, at, took = self._made
        return made == self._after or (not self.over and time.monotonic() < at + took * _SPARE)

    def steering(self) -> Steering:
        """What operators have requested of the run."""
        return Steering() if self.over else Steering.of(self._engine.store, self.progress.record.id)


def _answer(snapshot: Snapshot) -> str:
    """What the servers of a run about a sync have answered; empty for other runs, and while it lasts."""
    if snapshot.record.kind not in AT_A_TERMINAL or snapshot.record.state is not RunState.CONCLUDED:
        return ""
    return "\n".join(sync_lines(build_sync(snapshot)))


def _end_of(outcome: StepOutcome) -> Event:
    """The event that told of an outcome."""
    return Event(
        kind="step.ended",
        at=outcome.ended,
        turn=outcome.turn,
        node=outcome.node,
        step=outcome.step,
        status=outcome.status,
        failure=outcome.failure or "",
        message=outcome.message,
    )


class Scenes:
    """The runs that someone looked at lately.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Scene] = OrderedDict()

    def of(self, run_id: str) -> Scene:
        """A run as it is now.

        Raises:
            RunUnknown: there is no such run.
            StoreUnavailable: the store does not answer.
        """
        with self._lock:
            scene = self._known.get(run_id)
            if scene is None:
                scene = self._known[run_id] = Scene(self._engine, run_id)
            self._known.move_to_end(run_id)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return scene.refresh()
