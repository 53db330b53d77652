"""Sessions kept open between steps: one per node and process, closed when idle, thrown away on doubt."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from workers.errors import Cancelled, DeadlineExceeded, EsyncError, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.channel import Limit, never
from workers.winrm.session import AgentSession, Way, open_session

__all__ = ["SessionPool"]

MOST = 500  #: sessions kept open, where nobody says otherwise
CLOSERS = 16  #: sessions closed at a time: a node that does not answer takes seconds
IDLE = 60.0  #: seconds; below the idle time of the shells themselves
OPEN_DEADLINE = 60.0  #: seconds until PowerShell must have been started
LOOK = 0.25  #: seconds between two looks whether a wait for a busy node is cancelled


class Opener(Protocol):
    """Opens a session; see `open_session`."""

    def __call__(
        self, endpoint: Endpoint, secret: Secret, *, deadline: float, way: Way, cancelled: Callable[[], bool]
    ) -> AgentSession:
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
        most: sessions that may be open at a time; beyond that the longest idle ones are closed. Each is an open file.
    """

    def __init__(self, opener: Opener = open_session, *, idle: float = IDLE, most: int = MOST) -> None:
        self._open = opener
        self._idle = idle
        self._most = most
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
            cancelled: asked while waiting for another thread, or for the node.

        Raises:
            Cancelled: an operator asked to stop.
            DeadlineExceeded: another thread kept the session too long, or the node took too long.
            EsyncError: no session can be opened; see `open_session`.
        """
        place = self._place(endpoint)
        limit = Limit(endpoint.node, deadline, cancelled)
        while not place.lock.acquire(timeout=LOOK):
            limit.check()
        try:
            if place.session is None:
                self._make_room()
                revealed = secret if isinstance(secret, Secret) else secret()
                place.session = self._open(endpoint, revealed, deadline=limit.left, way=place.way, cancelled=cancelled)
            session = place.session
            with _doubt_noticed(place):
                yield session
        finally:
            self._settle(place)
            place.lock.release()

    def reap(self) -> int:
        """Closes sessions that have been idle for long enough; gives how many."""
        return self._reaped(self._idle)

    def close(self) -> None:
        """Closes every session that is not in use."""
        self._reaped(0.0)

    def _reaped(self, idle: float) -> int:
        """Closes what has been idle for so long, several at a time."""
        now = time.monotonic()
        due = [place for place in self._open_places() if now - place.since >= idle]
        if not due:
            return 0
        with ThreadPoolExecutor(min(CLOSERS, len(due)), "esync-close") as closers:
            return sum(closers.map(_closed, due))

    def _make_room(self) -> None:
        """Closes the longest idle session where one more would be too many; those in use are not touched."""
        places = self._open_places()
        excess = len(places) + 1 - self._most
        for place in sorted(places, key=lambda place: place.since) if excess > 0 else ():
            excess -= _closed(place)
            if not excess:
                return

    def _open_places(self) -> list[_Place]:
        with self._guard:
            return [place for place in self._places.values() if place.session is not None]

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._open_places())

    def _place(self, endpoint: Endpoint) -> _Place:
        with self._guard:
            return self._places.setdefault(endpoint, _Place())

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


def _closed(place: _Place) -> bool:
    """Closes a place's session, unless somebody uses it."""
    if not place.lock.acquire(blocking=False):
        return False
    try:
        session, place.session = place.session, None
        if session is not None:
            session.close()
        return session is not None
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
