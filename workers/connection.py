"""The one border to Redis: how we connect, how long we try, and what its errors mean to us."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

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

from workers.errors import InputRefused, StoreUnavailable
from workers.settings import Secret

__all__ = ["connect", "mapped", "patiently", "verified"]

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  #: seconds
ANSWER_TIMEOUT = 10.0  #: seconds; nothing we send blocks
CONNECTIONS = 128  #: of one process; a thread that finds none free waits
_REMEDIES: tuple[tuple[type[RedisError], str, str], ...] = (
    (AuthenticationError, "refuses the password", "check user and password in the broker and store URLs"),
    (AuthorizationError, "refuses the user", "check user and password in the broker and store URLs"),
    (NoPermissionError, "does not allow the user a command", "see the list of commands in the documentation"),
    (OutOfMemoryError, "is full", "raise maxmemory; the policy must be noeviction"),
    (ReadOnlyError, "is a read-only replica", "point the URL at the primary"),
    (BusyLoadingError, "is still loading its data", "wait, then try again"),
    (NoAnswer, "does not answer in time", "check that the server runs and is reachable"),
    (NoConnection, "cannot be reached", "check that the server runs and is reachable"),
)
_TRANSIENT = (NoConnection, NoAnswer)
_LASTING = (AuthenticationError, AuthorizationError, NoPermissionError)


def verified(url: Secret) -> Secret:
    """The URL as Celery, kombu and our own client all understand it, with the server's certificate verified.

    Over rediss:// kombu verifies nothing by default and Celery's results want to be told: we tell both.

    Raises:
        InputRefused: another scheme than redis or rediss, or a certificate that is not to be verified.
    """
    parts = urlsplit(url.reveal())
    if parts.scheme not in {"redis", "rediss"}:
        raise InputRefused("a broker or store URL begins with redis:// or rediss://", remedy="correct ESYNC_BROKER_URL")
    options = dict(parse_qsl(parts.query))
    if options.get("ssl_cert_reqs", "required") != "required" or options.get("ssl_check_hostname", "true") != "true":
        raise InputRefused(
            "the broker or store URL asks not to verify the server's certificate",
            remedy="use ssl_cert_reqs=required and name the authority with ssl_ca_certs=FILE",
        )
    if parts.scheme == "rediss":
        options["ssl_cert_reqs"] = "required"
    return Secret(urlunsplit(parts._replace(query=urlencode(options))))


def connect(url: Secret) -> Redis:
    """A client with explicit limits, safe to share between threads. It connects when first used.

    redis-py 8 by itself would retry a command ten times, each with a connection retried ten times again
    (engineering: 59 s measured for a block of 7 s). Here the client never retries; `patiently` does.

    Raises:
        InputRefused: the URL is not usable, see `verified`.
    """
    address = verified(url).reveal()
    try:
        pool = BlockingConnectionPool.from_url(
            address,
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
    except ValueError as error:
        raise InputRefused("the broker or store URL cannot be read", remedy="correct ESYNC_BROKER_URL") from error
    return Redis(connection_pool=pool)


def _meaning(error: RedisError) -> StoreUnavailable:
    for kind, what, remedy in _REMEDIES:
        if isinstance(error, kind):
            return StoreUnavailable(f"the run store {what}", remedy=remedy)
    return StoreUnavailable(f"the run store answers with an error: {type(error).__name__}: {error}")


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
