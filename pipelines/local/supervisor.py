"""Restarts services that end: the command that starts services supervises them, and gives up after repeated failures.

Celery's worker ends when its broker was away for too long, the kernel ends what takes too much memory, and people end
the wrong process. None of that may leave a run without a worker, or a command that waits for one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from workers.errors import EsyncError, ServiceLost
from workers.host.processes import exit_text

__all__ = ["FAILURES", "Service", "Supervisor"]

FAILURES = 5  #: ends within WINDOW, after which a service is given up
WINDOW = 60.0  #: seconds
PAUSE = 0.5  #: seconds before the first restart; doubled at each further one
UNUSABLE = 60.0  #: seconds that a running service may be unusable, its disk full for example, before it is given up
_LOOK_EVERY = 0.3  #: seconds between two checks whether services run
_EXAMINE_EVERY = 3.0  #: seconds between two checks whether a running service is usable

Report = Callable[[str], None]


class Service(Protocol):
    """A process that can be started again: a `Child`, the embedded broker."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""

    @property
    def exit_status(self) -> int | None:
        """Its exit status, below 0 the signal; None while it runs, or when it cannot be known."""

    def start(self) -> object:
        """Starts it, also again."""

    def trouble(self) -> str:
        """Why it is unusable although it runs, as the end of a sentence; empty when it is usable."""

    def last_log_line(self) -> str:
        """The last line of its log."""


@dataclass(slots=True)
class _Supervised:
    service: Service
    required: bool
    ready: bool = False
    given_up: bool = False
    ends: deque[float] = field(default_factory=deque)
    examined: float = 0.0
    trouble: str = ""
    trouble_since: float = 0.0
    remedy: str = ""  #: of its last start, if that failed

    def examine(self) -> str:
        """The trouble that is new since the last examination; empty when there is none."""
        now = time.monotonic()
        if now - self.examined < _EXAMINE_EVERY:
            return ""
        before, self.examined, self.trouble = self.trouble, now, self.service.trouble()
        self.trouble_since = (self.trouble_since if before else now) if self.trouble else 0.0
        return self.trouble if self.trouble != before else ""

    def is_hopeless(self) -> bool:
        """Whether it was unusable for too long."""
        return bool(self.trouble) and time.monotonic() - self.trouble_since > UNUSABLE

    def count_end(self) -> int:
        """Counts this end; returns the number of ends within the window."""
        now = time.monotonic()
        self.ends.append(now)
        while self.ends[0] < now - WINDOW:
            self.ends.popleft()
        return len(self.ends)


class Supervisor:
    """Restarts services that end.

    Args:
        services: in the order in which they depend on each other: the broker first.
        report: called with one sentence about each end.
        started: called after each restart.
        optional: names of services that runs do not need; when one is given up, that is only reported.
        lost: why nothing of this can continue, asked at each look; None while it can.
    """

    def __init__(
        self,
        services: Sequence[Service],
        report: Report,
        started: Callable[[], None],
        *,
        optional: Sequence[str] = (),
        lost: Callable[[], EsyncError | None] = lambda: None,
    ) -> None:
        self._supervised = [_Supervised(one, one.name not in optional) for one in services]
        self._report = report
        self._started = started
        self._stopped = threading.Event()
        self._look_for_loss = lost
        self._lost: EsyncError | None = None
        self._thread = threading.Thread(target=self._loop, name="esync-supervisor", daemon=True)

    def start(self) -> None:
        """Begins to supervise."""
        self._thread.start()

    def stop(self) -> None:
        """Restarts nothing from now on."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def is_ready(self, service: Service) -> None:
        """Restarts this service after any exit status from now on. Before that, an exit status would repeat itself."""
        for one in self._supervised:
            one.ready = one.ready or one.service is service

    def gave_up(self, service: Service) -> bool:
        """Whether this service is not restarted any more."""
        return any(one.given_up for one in self._supervised if one.service is service)

    def check(self) -> None:
        """Checks that every required service runs or will be restarted.

        Raises:
            ServiceLost: one was given up, or nothing of this can continue.
        """
        if self._lost is not None:
            raise self._lost

    def _loop(self) -> None:
        while self._lost is None and not self._stopped.wait(_LOOK_EVERY):
            if lost := self._look_for_loss():
                self._lost = lost
                return
            for one in self._supervised:
                if one.given_up or self._stopped.is_set():
                    continue
                if not one.service.alive:
                    self._restart(one)
                else:
                    self._examine(one)

    def _examine(self, one: _Supervised) -> None:
        name, log = one.service.name, one.service.log
        if trouble := one.examine():
            self._report(f"the {name} {trouble}; all work waits for it, {UNUSABLE:.0f} seconds at most; its log: {log}")
        if one.is_hopeless():
            self._give_up(one, f"{one.trouble} for {UNUSABLE:.0f} seconds")

    def _restart(self, one: _Supervised) -> None:
        service, how = one.service, exit_text(one.service.exit_status)
        count = one.count_end()
        misconfigured = not one.ready and (service.exit_status or 0) > 0
        if count >= FAILURES or misconfigured:
            self._give_up(one, how if misconfigured else f"{how}, {count} times within {WINDOW:.0f} seconds")
            return
        self._report(f"the {service.name} {how}; restarting it ({count} of {FAILURES - 1}); its log: {service.log}")
        if self._stopped.wait(PAUSE * 2 ** (count - 1)):
            return
        try:
            service.start()
            one.remedy = ""
            self._started()
        except EsyncError as error:
            one.remedy = error.remedy
            self._report(f"the {service.name} could not be restarted: {error}")

    def _give_up(self, one: _Supervised, how: str) -> None:
        one.given_up = True
        # A killed process wrote nothing about that: the last line of its log is about something else.
        killed = (one.service.exit_status or 0) < 0
        line = "" if killed else one.service.last_log_line()
        message = f"the {one.service.name} {how}" + (f": {line}" if line else "")
        if one.required:
            of_end = "find out who ends it; the kernel does when memory runs out"
            remedy = one.remedy or (of_end if killed else "see its log for the cause")
            self._lost = ServiceLost(message, remedy=remedy, file=str(one.service.log))
        else:
            self._report(
                f"{message}; it is not restarted any more, everything else continues; its log: {one.service.log}"
            )
