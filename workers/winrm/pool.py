"""Sessions kept open between steps: one per node and process, closed when idle, thrown away on doubt."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from workers.errors import Cancelled, DeadlineExceeded, EsyncError, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.channel import never
from workers.winrm.session import AgentSession, Way, open_session

__all__ = ["SessionPool"]

IDLE = 60.0  #: seconds; below the idle time of the shells themselves
OPEN_DEADLINE = 60.0  #: seconds until PowerShell must have been started
LOOK = 0.25  #: seconds between two looks whether a wait for a busy node is cancelled


class Opener(Protocol):
    """Opens a session; see `open_session`."""

    def __call__(self, endpoint: Endpoint, secret: Secret, *, deadline: float, way: Way) -> AgentSession:
        """Logs on and starts PowerShell."""


@dataclass(slots=True)
class _Place:
    """What the pool knows of one node. Whoever holds `lock` may touch the session."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    session: AgentSession | None = None
    since: float = 0.0
    way: Way = "auto"


class SessionPool:
    """At most one session in use per node; safe for threads.

    Args:
        opener: opens a session.
        idle: seconds after which `reap` closes a session that nobody used.
    """

    def __init__(self, opener: Opener = open_session, *, idle: float = IDLE) -> None:
        self._open = opener
        self._idle = idle
        self._places: dict[Endpoint, _Place] = {}
        self._guard = threading.Lock()

    @contextmanager
    def session(
        self,
        endpoint: Endpoint,
        secret: Secret | Callable[[], Secret],
        *,
        deadline: float = OPEN_DEADLINE,
        cancelled: Callable[[], bool] = never,
    ) -> Iterator[AgentSession]:
        """Lends the node's session, opening one if there is none; waits while another thread has it.

        Args:
            endpoint: where and as whom.
            secret: the password, or what gives it; asked only when a session has to be opened.
            deadline: seconds for getting a session that is ready to be asked.
            cancelled: asked while waiting for another thread.

        Raises:
            Cancelled: an operator asked to stop.
            DeadlineExceeded: another thread kept the session too long.
            EsyncError: no session can be opened; see `open_session`.
        """
        place = self._place(endpoint)
        _wait_for(place.lock, endpoint.node, deadline, cancelled)
        try:
            session = place.session or self._opened(place, endpoint, secret, deadline)
            place.session = session
            with _doubt_noticed(place):
                yield session
        finally:
            self._settle(place)
            place.lock.release()

    def reap(self) -> int:
        """Closes sessions that have been idle for long enough; gives how many."""
        with self._guard:
            places = list(self._places.items())
        return sum(self._reaped(endpoint, place, self._idle) for endpoint, place in places)

    def close(self) -> None:
        """Closes every session that is not in use."""
        with self._guard:
            places = list(self._places.items())
        for endpoint, place in places:
            self._reaped(endpoint, place, 0.0)

    def __len__(self) -> int:
        """How many sessions are open."""
        with self._guard:
            return sum(place.session is not None for place in self._places.values())

    def _place(self, endpoint: Endpoint) -> _Place:
        with self._guard:
            return self._places.setdefault(endpoint, _Place())

    def _opened(
        self, place: _Place, endpoint: Endpoint, secret: Secret | Callable[[], Secret], deadline: float
    ) -> AgentSession:
        revealed = secret if isinstance(secret, Secret) else secret()
        return self._open(endpoint, revealed, deadline=deadline, way=place.way)

    @staticmethod
    def _settle(place: _Place) -> None:
        """After use: keep it for the next, or throw it away. A node that needed batch once gets batch again."""
        session = place.session
        if session is None:
            return
        place.way = "batch" if session.way == "batch" else place.way
        if session.usable:
            session.fresh = False
            place.since = time.monotonic()
            return
        place.session = None
        session.close()

    @staticmethod
    def _reaped(endpoint: Endpoint, place: _Place, idle: float) -> bool:
        del endpoint
        if not place.lock.acquire(blocking=False):
            return False
        try:
            session = place.session
            if session is None or time.monotonic() - place.since < idle:
                return False
            place.session = None
            session.close()
            return True
        finally:
            place.lock.release()


@contextmanager
def _doubt_noticed(place: _Place) -> Iterator[None]:
    """Whoever leaves by an error that puts the conversation in doubt leaves no session behind."""
    try:
        yield
    except BaseException as error:
        doubtful = isinstance(error, (SessionLost, DeadlineExceeded, Cancelled)) or not isinstance(error, EsyncError)
        if doubtful and place.session is not None:
            place.session.close()
        raise


def _wait_for(lock: threading.Lock, node: str, deadline: float, cancelled: Callable[[], bool]) -> None:
    until = time.monotonic() + deadline
    while not lock.acquire(timeout=LOOK):
        if cancelled():
            raise Cancelled(f"stopped waiting for {node}: the run was cancelled")
        if time.monotonic() > until:
            raise DeadlineExceeded(f"{node}: its session was in use for {deadline:g} s")
