"""The one border to Redis: how we connect, how long we try, and what its errors mean to us."""

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from workers.errors import StoreUnavailable
from workers.redis.address import BROKER, STORE, verified
from workers.settings import Secret

__all__ = ["connect", "mapped", "patiently", "verified"]

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  #: seconds
ANSWER_TIMEOUT = 10.0  #: seconds; nothing we send blocks
CONNECTIONS = 128  #: of one process; a thread that finds none free waits
_LOGON = f"check user and password in {BROKER} and {STORE}"
_REMEDIES: tuple[tuple[type[RedisError], str, str], ...] = (
    (AuthenticationError, "refuses the password", _LOGON),
    (AuthorizationError, "refuses the user", _LOGON),
    (NoPermissionError, "does not allow the user a command", "see the list of commands in the documentation"),
    (OutOfMemoryError, "is full", "raise maxmemory; the policy must be noeviction"),
    (ReadOnlyError, "is a read-only replica", "point the URL at the primary"),
    (BusyLoadingError, "is still loading its data", "wait, then try again"),
    (NoAnswer, "does not answer in time", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
    (NoConnection, "cannot be reached", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
)
#: Answers without a class of their own: how they begin.
_ANSWERS = (
    ("MISCONF", "cannot write its data to disk", "look into its log, and free space on the server's disk"),
    ("DB index is out of range", "has no database of that number", f"correct the end of {BROKER} or {STORE}"),
    ("WRONGPASS", "refuses the password", _LOGON),
)
_TRANSIENT = (NoConnection, NoAnswer)
_LASTING = (AuthenticationError, AuthorizationError, NoPermissionError)


class _Pool(BlockingConnectionPool):
    """Connections to one server; whoever gets none is told to which."""

    def __init__(self, *, variable: str, **given: Any) -> None:  # noqa: ANN401 - the library's own options
        super().__init__(**given)  # type: ignore[no-untyped-call] # the library's
        self._variable = variable

    def get_connection(self, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - the same
        """A connection that works, or an error with the server's address as its note."""
        try:
            return super().get_connection(*given, **more)  # type: ignore[no-untyped-call] # the library's
        except RedisError as error:
            error.add_note(self._where())
            raise

    def _where(self) -> str:
        # The embedded broker has its address from us: nobody could correct a variable.
        known = [self._variable] if os.environ.get(self._variable) else []
        known += ["TLS"] if "ssl_cert_reqs" in self.connection_kwargs else []
        address = f"{self.connection_kwargs['host']}:{self.connection_kwargs['port']}"
        return f"{address} ({', '.join(known)})" if known else address


def connect(url: Secret, variable: str = BROKER) -> Redis:
    """A client with explicit limits, safe to share between threads. It connects when first used.

    redis-py 8 by itself would retry a command ten times, each with a connection retried ten times again
    (engineering: 59 s measured for a block of 7 s). Here the client never retries; `patiently` does.

    Args:
        url: where the server is.
        variable: the setting it comes from, for messages.

    Raises:
        InputRefused: the URL is not usable, see `verified`.
    """
    pool = _Pool.from_url(
        verified(url, variable).reveal(),
        variable=variable,
        max_connections=CONNECTIONS,
        timeout=20,
        protocol=2,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis(connection_pool=pool)


def _meaning(error: RedisError) -> StoreUnavailable:
    where = f" at {notes[0]}" if (notes := getattr(error, "__notes__", ())) else ""
    if tls := _tls(error):
        return StoreUnavailable(
            f"the run store{where} cannot be reached over TLS: {tls}",
            remedy="check that the server speaks TLS, its certificate and name, and the authority (ssl_ca_certs)",
        )
    for kind, what, remedy in _REMEDIES:
        if isinstance(error, kind):
            return StoreUnavailable(f"the run store{where} {what}", remedy=remedy)
    for begin, what, remedy in _ANSWERS:
        if str(error).startswith(begin):
            return StoreUnavailable(f"the run store{where} {what}", remedy=remedy)
    return StoreUnavailable(f"the run store{where} answers with an error: {type(error).__name__}: {error}")


def _tls(error: BaseException | None) -> str:
    """Why TLS failed, if it did, in the library's words."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        if isinstance(error, ssl.SSLError):
            return (error.reason or "no TLS").replace("_", " ").lower()
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def mapped() -> Iterator[None]:
    """The border: errors of the client become StoreUnavailable, without the URL and its password."""
    try:
        yield
    except RedisError as error:
        raise _meaning(error) from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _TRANSIENT) and not isinstance(error, _LASTING)


def patiently(ask: Callable[[], T], patience: float) -> T:
    """Asks again for up to `patience` seconds while there is no connection or no answer.

    What is asked must bear being done twice: a lost reply looks like a lost request.

    Raises:
        StoreUnavailable: no answer in that time, or a refusal.
    """
    tries = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(patience),
        reraise=True,
    )
    with mapped():
        return tries(ask)
