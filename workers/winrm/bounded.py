"""A TCP or TLS connection where every wait has limits: a time, a number of bytes, and a cancellation.

The timeout of a socket limits a single read. A server that sends one byte per second never triggers it and can block
its client forever. Here the time, the byte count and the cancellation are checked at least twice per second.
"""

import io
import ipaddress
import os
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from typing_extensions import Buffer, override

from workers.winrm.channel import Limit

__all__ = ["Bound", "BoundedSocket", "NoAnswer", "TooMuch", "connected"]

T = TypeVar("T")
SLICE = 0.5  #: seconds between two checks of the limits
GRACE = 1.0  #: seconds after the deadline in which an answer may still arrive: a complete answer saves a new logon

_Place = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]  # as `socket.getaddrinfo` returns it
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Place]

#: For one look: the default one opens a file each time. Windows has no poll; what it has opens none.
_SELECTOR: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class NoAnswer(Exception):
    """The node did not finish in the time that it was given."""


class TooMuch(Exception):
    """The node sent more bytes than allowed."""


class Bound:
    """The limits of one exchange.

    Args:
        limit: the caller's deadline and cancellation.
        seconds: the time that the node is given, from now.
        size: bytes that the node may send.
    """

    def __init__(self, limit: Limit, seconds: float, size: int) -> None:
        self._limit = limit
        self._seconds = seconds
        self._size = size
        self._ends = time.monotonic() + seconds

    def slice(self) -> float:
        """Seconds to wait until the next check.

        Raises:
            Cancelled, DeadlineExceeded: the caller's limit.
            NoAnswer: the time of the node is over.
        """
        self._limit.check(GRACE)
        left = self._ends - time.monotonic()
        if left <= 0:
            raise NoAnswer(f"not finished within {self._seconds:g} s")
        return max(min(SLICE, left), 0.001)

    def take(self, count: int) -> None:
        """Counts received bytes.

        Raises:
            TooMuch: more bytes than allowed.
        """
        self._size -= count
        if self._size < 0:
            raise TooMuch


class BoundedSocket:
    """A connected socket as `http.client` needs it. `bound` has the limits of the current exchange."""

    def __init__(self, connection: socket.socket, bound: Bound) -> None:
        self._connection = connection
        self.bound = bound

    def secured(self, context: ssl.SSLContext, host: str) -> None:
        """Starts TLS on the connection.

        Raises:
            ssl.SSLError: the node does not support TLS, or its certificate is not trusted.
        """
        name = host.partition("%")[0]  # the zone of an IPv6 address is this machine's own; no certificate has it
        tls = context.wrap_socket(self._connection, server_hostname=name, do_handshake_on_connect=False)
        self._connection = tls
        self._within_bound(tls.do_handshake)

    @property
    def certificate(self) -> bytes:
        """The certificate of the node, DER; empty without TLS."""
        tls = self._connection
        return (tls.getpeercert(binary_form=True) or b"") if isinstance(tls, ssl.SSLSocket) else b""

    @property
    def version(self) -> str:
        """The TLS version that was agreed on, such as `TLSv1.2`; empty without TLS."""
        tls = self._connection
        return (tls.version() or "") if isinstance(tls, ssl.SSLSocket) else ""

    @property
    def idle(self) -> bool:
        """Whether nothing unexpected has arrived; the end of the connection counts as unexpected."""
        with _SELECTOR() as ready:
            ready.register(self._connection, selectors.EVENT_READ)
            return not ready.select(0)

    def sendall(self, data: bytes) -> None:
        """Sends everything."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._within_bound(partial(self._connection.send, rest)) :]

    def recv_into(self, buffer: Buffer) -> int:
        """Waits for bytes; 0 is the end of the connection."""
        count = self._within_bound(partial(self._connection.recv_into, buffer))
        self.bound.take(count)
        return count

    def makefile(self, mode: str, *_: object) -> io.BufferedReader:
        """A file object of the received bytes, for `http.client`."""
        del mode
        return io.BufferedReader(_Arriving(self))

    def close(self) -> None:
        """Does nothing. `http.client` calls it while an answer may still be read; the owner calls `disconnect`."""

    def disconnect(self) -> None:
        """Ends the connection without waiting for the node."""
        with suppress(OSError):
            self._connection.close()

    def _within_bound(self, act: Callable[[], T]) -> T:
        while True:
            self._connection.settimeout(self.bound.slice())
            try:
                return act()
            except TimeoutError as error:
                if error.errno is not None:  # an error of the system: the connection has ended
                    raise


class _Arriving(io.RawIOBase):
    """The received bytes of a connection. Closing this file leaves the connection open for the next answer."""

    def __init__(self, connection: BoundedSocket) -> None:
        super().__init__()
        self._connection = connection

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        return self._connection.recv_into(buffer)


def connected(host: str, port: int, bound: Bound) -> BoundedSocket:
    """A TCP connection to the first address of the host that accepts one.

    Raises:
        OSError: no address accepts a connection, or the name has no address.
        NoAnswer: no connection in time.
    """
    failed: OSError | None = None
    for address in _addresses(host, port, bound):
        try:
            return BoundedSocket(_opened(address, bound), bound)
        except OSError as error:
            failed = error
    raise failed or OSError(f"{host} has no address")


def _opened(address: _Address, bound: Bound) -> socket.socket:
    family, kind, protocol, _, place = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.connect_ex(place)
        with selectors.DefaultSelector() as ready:
            ready.register(connection, selectors.EVENT_WRITE)
            while not ready.select(bound.slice()):
                pass
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        connection.close()
        raise
    if status:
        connection.close()
        raise OSError(status, os.strerror(status))
    return connection


def _addresses(host: str, port: int, bound: Bound) -> Sequence[_Address]:
    """The addresses of a host. A thread resolves the name, because the resolver has no time limit."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: queue.SimpleQueue[Sequence[_Address] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error if isinstance(error, OSError) else socket.gaierror(str(error)))

    threading.Thread(target=resolve, name="esync-resolve", daemon=True).start()
    while True:
        try:
            answer = found.get(timeout=bound.slice())
        except queue.Empty:
            continue
        if isinstance(answer, OSError):
            raise answer
        return answer
