"""A TCP or TLS connection of which every wait ends: by a moment, by a number of bytes, or because somebody cancels.

A timeout of a socket bounds one read. A server that sends a byte a second never meets it, and holds whoever waits for
ever. Here the clock, the count and the cancel are looked at while reading and writing, twice a second at least.
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
from typing import Any, TypeVar

from typing_extensions import override

from workers.winrm.channel import Limit

__all__ = ["Bound", "BoundedSocket", "NoAnswer", "TooMuch", "connected"]

T = TypeVar("T")
SLICE = 0.5  #: seconds between two looks at the clock and the cancel
GRACE = 1.0  #: seconds an answer that is on its way may come after the deadline: an orderly end needs no new logon

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class NoAnswer(Exception):
    """The other side did not do its part in the time it was given."""


class TooMuch(Exception):
    """The other side sent more than any answer needs."""


class Bound:
    """What one exchange may cost.

    Args:
        limit: the caller's deadline, and his cancel.
        seconds: that the other side is given, from now.
        size: bytes it may send.
    """

    def __init__(self, limit: Limit, seconds: float, size: int) -> None:
        self._limit = limit
        self._seconds = seconds
        self._size = size
        self._ends = time.monotonic() + seconds

    def slice(self) -> float:
        """How long to wait until the next look.

        Raises:
            Cancelled, DeadlineExceeded: the caller's limit.
            NoAnswer: the time of the other side is over.
        """
        self._limit.check(GRACE)
        left = self._ends - time.monotonic()
        if left <= 0:
            raise NoAnswer(f"not done within {self._seconds:g} s")
        return max(min(SLICE, left, self._limit.left + GRACE), 0.001)

    def take(self, count: int) -> None:
        """Counts bytes that arrived.

        Raises:
            TooMuch: there are more than it may send.
        """
        self._size -= count
        if self._size < 0:
            raise TooMuch


class BoundedSocket:
    """A connected socket, as `http.client` uses one. `bound` is what the present exchange may cost."""

    def __init__(self, connection: socket.socket, bound: Bound) -> None:
        self._connection = connection
        self.bound = bound

    def secured(self, context: ssl.SSLContext, host: str) -> None:
        """Talks TLS from now on.

        Raises:
            ssl.SSLError: the other side cannot, or shows a certificate that is not trusted.
        """
        tls = context.wrap_socket(self._connection, server_hostname=host, do_handshake_on_connect=False)
        self._connection = tls
        self._patiently(tls.do_handshake)

    @property
    def certificate(self) -> bytes:
        """The other side's certificate, DER; empty without TLS."""
        tls = self._connection
        return (tls.getpeercert(binary_form=True) or b"") if isinstance(tls, ssl.SSLSocket) else b""

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived that nobody asked for; the end of the connection is such a thing."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._connection, selectors.EVENT_READ)
            return not ready.select(0)

    def sendall(self, data: bytes) -> None:
        """Sends everything."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._patiently(lambda part=rest: self._connection.send(part)) :]  # type: ignore[misc]

    def recv_into(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Waits for bytes; none means the end."""
        count = self._patiently(lambda: self._connection.recv_into(buffer))
        self.bound.take(count)
        return count

    def makefile(self, mode: str, *_: object) -> io.BufferedReader:
        """For `http.client`: what arrives, as a file."""
        del mode
        return io.BufferedReader(_Arriving(self))

    def close(self) -> None:
        """What `http.client` does with a connection it uses no more: its owner ends it, an answer may still be read."""

    def disconnect(self) -> None:
        """Ends the connection, without waiting for the other side."""
        with suppress(OSError):
            self._connection.close()

    def _patiently(self, act: Callable[[], T]) -> T:
        while True:
            self._connection.settimeout(self.bound.slice())
            try:
                return act()
            except TimeoutError as error:
                if error.errno is not None:  # the system's own: the connection is gone
                    raise


class _Arriving(io.RawIOBase):
    """What arrives on a connection. Closing it leaves the connection open for the next answer."""

    def __init__(self, connection: BoundedSocket) -> None:
        super().__init__()
        self._connection = connection

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any, /) -> int:  # any writable buffer
        return self._connection.recv_into(buffer)


def connected(host: str, port: int, bound: Bound) -> BoundedSocket:
    """A TCP connection to the first address of a host that takes one.

    Raises:
        OSError: none does, or the name has no address.
        NoAnswer: not in time.
    """
    failed: OSError | None = None
    for address in _addresses(host, port, bound):
        try:
            return BoundedSocket(_opened(address, bound), bound)
        except OSError as error:
            failed = error
    raise failed or OSError(f"{host} has no address")


def _opened(address: _Address, bound: Bound) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.connect_ex(where)
        with selectors.DefaultSelector() as ready:
            ready.register(connection, selectors.EVENT_WRITE)
            while not ready.select(bound.slice()):
                pass
        _refused(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _refused(status: int) -> None:
    """Raises what became of a connection, where none did."""
    if status:
        raise OSError(status, os.strerror(status))


def _addresses(host: str, port: int, bound: Bound) -> Sequence[_Address]:
    """The addresses of a host. A name is looked up in a thread: the resolver has no limit of its own."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: queue.SimpleQueue[Sequence[_Address] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error if isinstance(error, OSError) else socket.gaierror(str(error)))

    threading.Thread(target=look_up, name="esync-resolve", daemon=True).start()
    while True:
        try:
            answer = found.get(timeout=bound.slice())
        except queue.Empty:
            continue
        if isinstance(answer, OSError):
            raise answer
        return answer
