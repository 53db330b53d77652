"""Who starts services looks after them: one that dies is started again, and one that dies again and again is given up.

Celery's worker ends itself when its broker was away for too long, the kernel ends what takes too much memory, and
people end the wrong process. None of that may leave a run that nobody works on, nor a command that waits for one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from workers.errors import EsyncError, ServiceLost
from workers.host.private import in_words

__all__ = ["DEATHS", "Service", "Supervisor"]

DEATHS = 5  #: within WINDOW, after which a service is given up
WINDOW = 60.0  #: seconds
PAUSE = 0.5  #: seconds before the first new start; doubled at each further one
ILL = 60.0  #: seconds that a service which runs may be of no use, its disk full for example, before it is given up
_LOOK = 0.3  #: seconds between two looks
_EXAMINED = 3.0  #: seconds between two examinations of a service that runs

Say = Callable[[str], None]


class Service(Protocol):
    """A process that is started, and may be started again: a `Child`, the embedded broker."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def log(self) -> Path:
        """What it says."""

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""

    @property
    def ended(self) -> int | None:
        """Its exit status, below 0 the signal; None while it runs, or when nobody can know."""

    def start(self) -> object:
        """Starts it, also again."""

    def trouble(self) -> str:
        """Why it is of no use although it runs, as the end of a sentence; empty when it is."""

    def last_words(self) -> str:
        """The last line of its log."""


@dataclass(slots=True)
class _Watched:
    service: Service
    needed: bool
    ready: bool = False
    given_up: bool = False
    deaths: deque[float] = field(default_factory=deque)
    examined: float = 0.0
    trouble: str = ""
    ill_since: float = 0.0

    def examine(self) -> str:
        """What is wrong with it that was not when it was last looked at; empty when nothing is, or it is known."""
        now = time.monotonic()
        if now - self.examined < _EXAMINED:
            return ""
        before, self.examined, self.trouble = self.trouble, now, self.service.trouble()
        self.ill_since = (self.ill_since if before else now) if self.trouble else 0.0
        return self.trouble if self.trouble != before else ""

    def is_hopeless(self) -> bool:
        """Whether it has been of no use for too long."""
        return bool(self.trouble) and time.monotonic() - self.ill_since > ILL

    def died(self) -> int:
        """Counts a death; how many there were within the window, this one included."""
        now = time.monotonic()
        self.deaths.append(now)
        while self.deaths[0] < now - WINDOW:
            self.deaths.popleft()
        return len(self.deaths)


class Supervisor:
    """Starts services again that die.

    Args:
        services: in the order in which they depend on each other: the broker first.
        say: told about each death.
        started: called after each new start.
        spared: names of those without which a run goes on; one that is given up is only told about.
    """

    def __init__(
        self, services: Sequence[Service], say: Say, started: Callable[[], None], *, spared: Sequence[str] = ()
    ) -> None:
        self._watched = [_Watched(one, one.name not in spared) for one in services]
        self._say = say
        self._started = started
        self._end = threading.Event()
        self._lost: EsyncError | None = None
        self._thread = threading.Thread(target=self._loop, name="esync-supervisor", daemon=True)

    def start(self) -> None:
        """Begins to look after them."""
        self._thread.start()

    def stop(self) -> None:
        """Starts none again from now on."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def is_ready(self, service: Service) -> None:
        """From now on an exit status is worth another try; before that it is a mistake that would repeat itself."""
        for one in self._watched:
            one.ready = one.ready or one.service is service

    def check(self) -> None:
        """Whether everything that is needed is there, or will be.

        Raises:
            ServiceLost: one was given up.
        """
        if self._lost is not None:
            raise self._lost

    def _loop(self) -> None:
        while self._lost is None and not self._end.wait(_LOOK):
            for one in self._watched:
                if one.given_up or self._end.is_set():
                    continue
                if not one.service.alive:
                    self._again(one)
                else:
                    self._examine(one)

    def _examine(self, one: _Watched) -> None:
        name, log = one.service.name, one.service.log
        if trouble := one.examine():
            self._say(f"the {name} {trouble}; everything waits for that, {ILL:.0f} seconds at most; its log: {log}")
        if one.is_hopeless():
            self._give_up(one, f"{one.trouble} for {ILL:.0f} seconds")

    def _again(self, one: _Watched) -> None:
        service, how = one.service, in_words(one.service.ended)
        count = one.died()
        mistaken = not one.ready and (service.ended or 0) > 0
        if count >= DEATHS or mistaken:
            self._give_up(one, how if mistaken else f"{how}, {count} times within {WINDOW:.0f} seconds")
            return
        self._say(f"the {service.name} {how} and is started again ({count} of {DEATHS - 1}); its log: {service.log}")
        if self._end.wait(PAUSE * 2 ** (count - 1)):
            return
        try:
            service.start()
            self._started()
        except EsyncError as error:
            self._say(f"the {service.name} could not be started again: {error}")

    def _give_up(self, one: _Watched, how: str) -> None:
        one.given_up = True
        # One that was killed has said nothing about it: its last words are of something else.
        killed = (one.service.ended or 0) < 0
        said = "" if killed else one.service.last_words()
        message = f"the {one.service.name} {how}" + (f": {said}" if said else "")
        if one.needed:
            remedy = (
                "see who ends it; the kernel does so when memory runs out" if killed else "see its log for the cause"
            )
            self._lost = ServiceLost(message, remedy=remedy, file=str(one.service.log))
        else:
            self._say(f"{message}; it is not started any more, the rest goes on; its log: {one.service.log}")
