"""Open sessions, kept between steps: one per node and process, closed when idle or after an error."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from workers.errors import Cancelled, DeadlineExceeded, EsyncError, SessionLost
from workers.records import Endpoint
from workers.remembered import Remembered
from workers.settings import Secret
from workers.winrm.channel import OPEN, Gate, Limit, never
from workers.winrm.remembered import FilesOfNode, KnownFile
from workers.winrm.session import AgentSession, Way, open_session

__all__ = ["SessionPool"]

MOST = 500  #: default maximum of open sessions
CLOSERS = 16  #: sessions closed in parallel: a node that does not answer takes seconds
IDLE = 60.0  #: default seconds after which an unused session is closed
_FILES = 32 * 2**20  #: bytes of files that are remembered; a configuration with 1,000 keys has 40 kB, compressed
_MARGIN = 0.8  #: part of the time for which a node keeps a session, in which we use it
OPEN_DEADLINE = 60.0  #: seconds until PowerShell must have started
LOOK = 0.25  #: seconds between two checks for cancellation while another thread uses the node


class Opener(Protocol):
    """Opens a session; see `open_session`."""

    def __call__(
        self,
        endpoint: Endpoint,
        secret: Secret,
        *,
        gate: Gate,
        deadline: float,
        way: Way,
        cancelled: Callable[[], bool],
    ) -> AgentSession:
        """Logs on and starts PowerShell."""


@dataclass(slots=True)
class _Place:
    """The pool's state of one node. Only the thread that holds `lock` may use the session."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    session: AgentSession | None = None
    since: float = 0.0
    way: Way = "auto"

    def is_due(self, idle: float) -> bool:
        """Whether the session was not used for so many seconds, or for as long as the node surely keeps it."""
        session = self.session
        return session is not None and time.monotonic() - self.since >= min(idle, _MARGIN * session.keeps_for)


class SessionPool:
    """At most one session in use per node; safe for threads.

    Args:
        opener: opens a session.
        idle: seconds after which `reap` closes an unused session.
        most: maximum number of open sessions; above it, the longest idle ones are closed. Each is an open file.
    """

    def __init__(self, opener: Opener = open_session, *, idle: float = IDLE, most: int = MOST) -> None:
        self._open = opener
        self._idle = idle
        self._most = most
        self._files: Remembered[KnownFile] = Remembered(_FILES)
        self._places: dict[Endpoint, _Place] = {}
        self._guard = threading.Lock()

    @contextmanager
    def session(
        self,
        endpoint: Endpoint,
        secret: Secret | Callable[[], Secret],
        *,
        gate: Gate = OPEN,
        deadline: float = OPEN_DEADLINE,
        cancelled: Callable[[], bool] = never,
    ) -> Iterator[AgentSession]:
        """Lends the session of the node and opens one if needed; waits while another thread uses it.

        Args:
            endpoint: address and account.
            secret: the password, or a function that returns it; called only to open a session.
            gate: what the logon has to pass, if a session is opened.
            deadline: seconds until the session is ready.
            cancelled: called while waiting for another thread, or for the node.

        Raises:
            Cancelled: the run was cancelled.
            DeadlineExceeded: another thread used the session too long, or the node took too long.
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
                place.session = self._open(
                    endpoint, revealed, gate=gate, deadline=limit.left, way=place.way, cancelled=cancelled
                )
                place.since = time.monotonic()
                place.session.files = FilesOfNode(self._files, endpoint)
            session = place.session
            with _closed_on_doubt(place):
                yield session
        finally:
            try:
                self._settle(place)
            finally:  # whatever happens: a place that stays locked is lost to all later steps on its node
                place.lock.release()

    def reap(self) -> int:
        """Closes sessions that have been idle long enough; returns how many."""
        return self._reaped(self._idle)

    def close(self) -> None:
        """Closes every session that is not in use."""
        self._reaped(0.0)

    def _reaped(self, idle: float) -> int:
        """Closes sessions that have been idle for so many seconds, several in parallel."""
        places = self._open_places()
        for place in places:
            _tidied(place)
        due = [place for place in places if place.is_due(idle)]
        if not due:
            return 0
        with ThreadPoolExecutor(min(CLOSERS, len(due)), "esync-close") as closers:
            return sum(closers.map(lambda place: _closed(place, idle), due))

    def _make_room(self) -> None:
        """Closes the longest idle sessions if one more would exceed the maximum; sessions in use stay open."""
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
        """The number of open sessions."""
        return len(self._open_places())

    def _place(self, endpoint: Endpoint) -> _Place:
        with self._guard:
            return self._places.setdefault(endpoint, _Place())

    @staticmethod
    def _settle(place: _Place) -> None:
        """After use: keeps a usable session and drops any other. A node that needed batch gets batch again."""
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


def _tidied(place: _Place) -> None:
    """Drops from an unused session what is too old to be asked for."""
    if not place.lock.acquire(blocking=False):
        return
    try:
        if place.session is not None:
            place.session.drop_old()
    finally:
        place.lock.release()


def _closed(place: _Place, idle: float = 0.0) -> bool:
    """Closes the session of a place unless a thread uses it, or has just used it; returns whether it did."""
    if not place.lock.acquire(blocking=False):
        return False
    try:
        if not place.is_due(idle):
            return False
        session, place.session = place.session, None
        if session is not None:
            session.close()
        return session is not None
    finally:
        place.lock.release()


@contextmanager
def _closed_on_doubt(place: _Place) -> Iterator[None]:
    """Closes the session after an error that leaves the state of the conversation unknown."""
    try:
        yield
    except BaseException as error:
        doubtful = isinstance(error, (SessionLost, DeadlineExceeded, Cancelled)) or not isinstance(error, EsyncError)
        if doubtful and place.session is not None:
            place.session.close()
        raise
