"""All access to Redis: how we connect, how long we retry, and which errors of ours its errors become."""

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

__all__ = ["connect", "errors_mapped", "with_retries"]

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  #: seconds
ANSWER_TIMEOUT = 10.0  #: seconds; nothing we send blocks
CONNECTIONS = 128  #: of one process; a thread waits while none is free
_LOGON = f"check user and password in {BROKER} and {STORE}"
_REMEDIES: tuple[tuple[type[RedisError], str, str], ...] = (
    (AuthenticationError, "refused the password", _LOGON),
    (AuthorizationError, "refused the user", _LOGON),
    (NoPermissionError, "does not allow this user a command", "allow the commands that the documentation lists"),
    (OutOfMemoryError, "is out of memory", "raise maxmemory; the policy must be noeviction"),
    (ReadOnlyError, "is a read-only replica", "point the URL at the primary"),
    (BusyLoadingError, "is still loading its data", "wait, then try again"),
    (NoAnswer, "does not answer in time", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
    (NoConnection, "cannot be reached", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
)
#: Errors without their own class, by the beginning of their text.
_ANSWERS = (
    ("MISCONF", "cannot write its data to disk", "read its log, and free space on the disk of the server"),
    ("DB index is out of range", "has no database with this number", f"correct the end of {BROKER} or {STORE}"),
    ("WRONGPASS", "refused the password", _LOGON),
)
_TRANSIENT = (NoConnection, NoAnswer)
_PERMANENT = (AuthenticationError, AuthorizationError, NoPermissionError)


class _Pool(BlockingConnectionPool):
    """Connections to one server; an error names the server."""

    def __init__(self, *, variable: str, **given: Any) -> None:  # noqa: ANN401 - the options of the library
        super().__init__(**given)  # type: ignore[no-untyped-call] # the library has no types here
        self._variable = variable

    def get_connection(self, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - the same
        """A working connection, or an error with the address of the server as its note."""
        try:
            return super().get_connection(*given, **more)  # type: ignore[no-untyped-call] # the library has no types here
        except RedisError as error:
            error.add_note(self._where())
            raise

    def _where(self) -> str:
        # Without the variable esync chose the address, and the operator has nothing to correct.
        known = [self._variable] if os.environ.get(self._variable) else []
        known += ["TLS"] if "ssl_cert_reqs" in self.connection_kwargs else []
        address = f"{self.connection_kwargs['host']}:{self.connection_kwargs['port']}"
        return f"{address} ({', '.join(known)})" if known else address


def connect(url: Secret, variable: str = BROKER) -> Redis:
    """A client with explicit limits, safe to share between threads. It connects when first used.

    redis-py 8 retries a command ten times by default, and for each retry the connection ten times (measured: 59 s for a
    block of 7 s). Here the client never retries; `with_retries` does.

    Args:
        url: the address of the server.
        variable: the setting that has the URL, for messages.

    Raises:
        InputRefused: the URL is invalid, see `verified`.
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
            remedy="check that the server uses TLS, its certificate and name, and the authority (ssl_ca_certs)",
        )
    for kind, what, remedy in _REMEDIES:
        if isinstance(error, kind):
            return StoreUnavailable(f"the run store{where} {what}", remedy=remedy)
    for begin, what, remedy in _ANSWERS:
        if str(error).startswith(begin):
            return StoreUnavailable(f"the run store{where} {what}", remedy=remedy)
    return StoreUnavailable(f"the run store{where} answered with an error: {type(error).__name__}: {error}")


def _tls(error: BaseException | None) -> str:
    """Why TLS failed, as the library reports it; empty when it did not."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        if isinstance(error, ssl.SSLError):
            return (error.reason or "no TLS").replace("_", " ").lower()
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def errors_mapped() -> Iterator[None]:
    """Errors of the client become StoreUnavailable, without the URL and its password."""
    try:
        yield
    except RedisError as error:
        raise _meaning(error) from error


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, _TRANSIENT) and not isinstance(error, _PERMANENT)


def with_retries(request: Callable[[], T], patience: float) -> T:
    """Repeats a request for up to `patience` seconds while there is no connection or no answer.

    The request must be safe to repeat: a lost reply and a lost request look the same.

    Raises:
        StoreUnavailable: no answer in that time, or an error of the server.
    """
    tries = Retrying(
        retry=retry_if_exception(_is_transient),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(patience),
        reraise=True,
    )
    with errors_mapped():
        return tries(request)
