"""All access to Redis: how we connect, how long we retry, and which errors of ours its errors become."""

import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool
from typing_extensions import override

from workers.errors import StoreUnavailable
from workers.redis.address import BROKER, ENCODE, STORE, address_of
from workers.redis.probe import Listener, listener_at
from workers.redis.sentinels import Sentinels, sentinels_of
from workers.settings import Secret

__all__ = [
    "ANSWER_TIMEOUT",
    "KEEPALIVE",
    "PROMPT",
    "READ",
    "WORKER",
    "Moved",
    "Waits",
    "connect",
    "connections_made",
    "errors_mapped",
    "stays",
    "takes_no_writes",
    "with_retries",
]

T = TypeVar("T")


class Waits(NamedTuple):
    """How long a process waits for Redis.

    Attributes:
        answer: seconds for each answer.
        repeat: seconds for which a request is repeated after it got none.
    """

    answer: float
    repeat: float


CONNECT_TIMEOUT = 3.0  #: seconds
ANSWER_TIMEOUT = 10.0  #: seconds; nothing we send blocks
WORKER = Waits(ANSWER_TIMEOUT, 10.0)  #: it has time, and what it gives up is done again later
PROMPT = Waits(3.0, 3.0)  #: a person or a program waits for this answer
CONNECTIONS = 128  #: of one process; a thread waits while none is free
#: A connection that a firewall has forgotten, or whose other end has lost its power, ends in about ten seconds, also
#: while it waits for nothing. The default is two hours.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}.items()
    if hasattr(socket, name)  # not on every system
}
READ = 4096  #: bytes, the buffer of a connection: a worker has fifty, and almost every answer is shorter
_LOGON = f"check user and password in {BROKER} or {STORE}; {ENCODE}"
_FULL = ("is out of memory", "raise maxmemory; the policy must be noeviction")
_REPLICA = ("is a read-only replica", "point the URL at the primary")
_REMEDIES: tuple[tuple[type[RedisError], str, str], ...] = (
    (AuthenticationError, "refused the password", _LOGON),
    (AuthorizationError, "refused the user", _LOGON),
    (OutOfMemoryError, *_FULL),
    (ReadOnlyError, *_REPLICA),
    (BusyLoadingError, "is still loading its data", "wait, then try again"),
    (
        MasterNotFoundError,
        "cannot be found: no Sentinel that answers knows a primary of that name",
        f"check that the Sentinels run, and hosts, `master` and logon in {BROKER} or {STORE}",
    ),
    (NoAnswer, "does not answer in time", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
    (NoConnection, "cannot be reached", f"check that the server runs and is reachable, and {BROKER} or {STORE}"),
)
#: Errors without their own class, by words of their text: where a script or a pipeline fails, it begins otherwise.
_ANSWERS = (
    ("MISCONF", "cannot write its data to disk", "read its log, and free space on the disk of the server"),
    ("NOREPLICAS", "has lost its replicas, and takes no writes without", "start them, or lower min-replicas-to-write"),
    ("OOM", *_FULL),
    ("READONLY", *_REPLICA),
    ("DB index is out of range", "has no database with this number", f"correct the end of {BROKER} or {STORE}"),
    ("WRONGPASS", "refused the password", _LOGON),
)
#: Of a server that takes no writes now, whatever they are about: a full one, or one that is no primary.
_NO_WRITES = re.compile(r"\b(MISCONF|NOREPLICAS|OOM|READONLY|MASTERDOWN|BUSY)\b")
_TRANSIENT = (NoConnection, NoAnswer)
_PERMANENT = (AuthenticationError, AuthorizationError, NoPermissionError)


#: What listens there instead -> what is wrong, and the remedy; for a URL without TLS, and for one with TLS.
_WITHOUT_TLS = {
    Listener.TLS: ("requires TLS, and the URL begins with redis://", "begin the URL with rediss://"),
    Listener.WEB: ("is a web server and no broker", "correct host and port of the URL"),
}
_WITH_TLS = {
    Listener.REDIS: (
        "has no TLS, and the URL begins with rediss://",
        "begin the URL with redis://, or use the TLS port",
    ),
    Listener.WEB: _WITHOUT_TLS[Listener.WEB],
}
_OWN_CERTIFICATE = ", and that ssl_certfile and ssl_keyfile are what it may require of clients"
_REFUSED_COMMAND = re.compile(r"run the '([\w|]{1,40})' command")


Moved = Callable[[], Secret | None]  #: where a server is now that is not at its address any more; None if unknown


def stays() -> None:
    """A server whose address is the only one that is known."""


class _Server(NamedTuple):
    """The server that an error is about; without a port, what the Sentinels know it by."""

    host: str
    port: int
    tls: bool
    variable: str

    def __str__(self) -> str:
        # Without the variable esync chose the address, and the operator has nothing to correct.
        known = [self.variable] if os.environ.get(self.variable) else []
        known += ["TLS"] if self.tls else []
        where = f"{self.host}:{self.port}" if self.port else self.host
        return where + (f" ({', '.join(known)})" if known else "")


class _Named(ConnectionPool):
    """A pool whose errors name the server, and that follows a server to its next address.

    Attributes:
        made: how often it has connected. The library replaces an idle connection that is dead without an error.
    """

    def __init__(
        self,
        *given: Any,  # noqa: ANN401 - the options of the library
        variable: str,
        sentinels: Sentinels | None = None,
        moved: Moved = stays,
        **more: Any,  # noqa: ANN401 - the same
    ) -> None:
        self._variable = variable
        self._sentinels = sentinels
        self._moved = moved
        self.made = 0
        super().__init__(*given, **more, redis_connect_func=self._connected)

    def _connected(self, connection: Any) -> None:  # noqa: ANN401 - of the library
        connection.on_connect()
        self.made += 1

    def get_connection(self, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - the same
        """A working connection, or an error that knows the server."""
        try:
            return super().get_connection(*given, **more)
        except RedisError as error:
            if self._follows():
                return self.get_connection(*given, **more)
            options = self.connection_kwargs
            host, port = (str(self._sentinels), 0) if self._sentinels else (options["host"], options["port"])
            vars(error)["server"] = _Server(host, port, "ssl_cert_reqs" in options, self._variable)
            raise

    def _follows(self) -> bool:
        """Whether the server is known to have another address now; connections are made there from now on."""
        url = self._moved()
        place = parse_url(url.reveal()) if url else {}  # type: ignore[no-untyped-call] # the library has no types here
        if place.items() <= self.connection_kwargs.items():
            return False
        self.connection_kwargs.update(place)
        self.reset()
        return True


class _Client(Redis):
    """Without the library's retries and measurements of each command, of which `connect` wants none."""

    @override
    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Sends a command, and returns its answer."""
        connection: Any = self.connection_pool.get_connection()
        try:
            connection.send_command(*command, **options)
            return self.parse_response(connection, command[0], **options)  # type: ignore[no-untyped-call] # the library has no types here
        except (NoConnection, NoAnswer):
            connection.disconnect()
            raise
        finally:
            self.connection_pool.release(connection)


class _Pool(_Named, BlockingConnectionPool):
    """Connections to one server."""


class _SentinelPool(_Named, SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the server that Sentinels know; each new one asks them where it is."""


def connect(url: Secret, variable: str = BROKER, waits: Waits = WORKER, moved: Moved = stays) -> Redis:
    """A client with explicit limits, safe to share between threads. It connects when first used.

    redis-py 8 retries a command ten times by default, and for each retry the connection ten times (measured: 59 s for a
    block of 7 s). Here the client never retries; `with_retries` does.

    Args:
        url: the address of the server, or of the Sentinels that know it.
        variable: the setting that has the URL, for messages.
        waits: for each answer; `repeat` is for `with_retries`.
        moved: asked when the server is not at its address. Not for Sentinels: these know.

    Raises:
        InputRefused: the URL is invalid, see `verified`.
    """
    address = address_of(url, variable)
    options: dict[str, Any] = {
        "variable": variable,
        "max_connections": CONNECTIONS,
        "timeout": 20,
        "protocol": 2,
        "decode_responses": True,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": waits.answer,
        "socket_keepalive": True,
        "socket_keepalive_options": KEEPALIVE,
        "socket_read_size": READ,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        # The server is not told the version of the library: that reads its package's files for each connection.
        "driver_info": None,
    }
    sentinels = sentinels_of(address)
    if sentinels is None:
        return _Client(connection_pool=_Pool.from_url(address.url.reveal(), moved=moved, **options))
    options |= parse_url(address.url.reveal())  # type: ignore[no-untyped-call] # the library has no types here
    return _Client(connection_pool=sentinels.pool(options, _SentinelPool, sentinels=sentinels))


def connections_made(client: Redis) -> int:
    """How often a client from `connect` has connected: while that stays the same, its server cannot have changed."""
    pool = client.connection_pool
    return pool.made if isinstance(pool, _Named) else 0


def _meaning(error: RedisError) -> StoreUnavailable:
    server: _Server | None = getattr(error, "server", None)
    what, remedy = _other_listener(error, server) or _words(error)
    return StoreUnavailable(f"the run store{f' at {server}' if server else ''} {what}", remedy=remedy)


def _other_listener(error: RedisError, server: _Server | None) -> tuple[str, str] | None:
    """What is wrong when there is no Redis, or one with TLS where the URL has none, or the reverse."""
    if server is None or not server.port or not (isinstance(error, InvalidResponse) or _is_transient(error)):
        return None
    if tls := _tls(error):
        usual = (
            "cannot be reached over TLS: " + tls,
            f"check that the server uses TLS, its certificate and name, the authority (ssl_ca_certs){_OWN_CERTIFICATE}",
        )
        return usual if "certificate" in tls else _WITH_TLS.get(listener_at(server.host, server.port), usual)
    return (_WITH_TLS if server.tls else _WITHOUT_TLS).get(listener_at(server.host, server.port))


def _words(error: RedisError) -> tuple[str, str]:
    """What an error of the client means, and its remedy."""
    if isinstance(error, NoPermissionError):
        command = _REFUSED_COMMAND.search(str(error))
        to = f"run {command[1].upper()}" if command else "access a key or channel that esync needs"
        return f"does not allow the user of the URL to {to}", "docs/operating.md lists the rights that esync needs"
    for kind, what, remedy in _REMEDIES:
        if isinstance(error, kind):
            return what, remedy
    for words, what, remedy in _ANSWERS:
        if re.search(rf"\b{words}\b", str(error)):
            return what, remedy
    return f"answered with an error: {type(error).__name__}: {error}", ""


def _tls(error: BaseException | None) -> str:
    """Why TLS failed, as the library reports it; empty when it did not."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        if isinstance(error, ssl.SSLError):
            return (error.reason or "it ended the connection").replace("_", " ").lower()
        error = error.__cause__ or error.__context__
    return ""


def takes_no_writes(error: RedisError) -> bool:
    """Whether an error says nothing of what was asked: the server takes no writes now, and may later."""
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or _NO_WRITES.search(str(error)) is not None


@contextmanager
def errors_mapped() -> Iterator[None]:
    """Errors of the client become StoreUnavailable, without the URL and its password."""
    try:
        yield
    except RedisError as error:
        raise _meaning(error) from error


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, _TRANSIENT) and not isinstance(error, _PERMANENT)


def _is_new(error: RedisError) -> bool:
    """Whether it comes from a connection that was only being made."""
    return hasattr(error, "server")


def with_retries(request: Callable[[], T], patience: float) -> T:
    """Repeats a request for up to `patience` seconds while there is no connection or no answer.

    The time that a new connection had no answer counts; that of an old one does not, because it may only be that one
    which is lost. The request must be safe to repeat: a lost reply and a lost request look the same.

    Raises:
        StoreUnavailable: no answer in that time, or an error of the server.
    """
    begun = time.monotonic()
    try:  # without `errors_mapped`: it would cost a generator for each request
        return request()
    except RedisError as error:
        if _is_new(error):
            patience -= time.monotonic() - begun
        if patience <= 0 or not _is_transient(error):
            raise _meaning(error) from error
    # Only now: to load what repeats takes as long as the rest of a command that reads, and to prepare it as a request.
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential  # noqa: PLC0415

    with errors_mapped():
        tries = Retrying(
            retry=retry_if_exception(_is_transient),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_after_delay(patience),
            reraise=True,
        )
        return tries(request)
