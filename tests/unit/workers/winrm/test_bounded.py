"""Connections with limits on time and bytes, and a cancellation."""

import errno
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import trustme

from tests.unit.workers.winrm.clocks import clock_in
from workers.errors import Cancelled, DeadlineExceeded
from workers.winrm.bounded import Bound, BoundedSocket, NoAnswer, TooMuch, connected
from workers.winrm.channel import Limit


def bound(seconds: float = 5, size: int = 1000, limit: Limit | None = None) -> Bound:
    """Limits of an exchange."""
    return Bound(limit or Limit("S1", 60), seconds, size)


@contextmanager
def pair(limits: Bound | None = None) -> Iterator[tuple[BoundedSocket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield BoundedSocket(ours, limits or bound()), theirs


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """A port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, server.getsockname()[1]


def test_a_wait_is_bounded_by_the_next_check_and_the_time_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the checks, the deadline of the caller ends it, with a second of grace."""
    clock = clock_in(monkeypatch, "bounded", "channel")
    assert 0.5 == bound(seconds=5).slice()
    limits = bound(seconds=5)
    clock.sleep(4.75)
    assert 0.25 == limits.slice()
    limit = Limit("S1", 10)
    limits = bound(seconds=60, limit=limit)
    clock.sleep(10.75)
    assert 0.5 == limits.slice()
    clock.sleep(0.25)
    with pytest.raises(DeadlineExceeded):
        limits.slice()


def test_a_wait_ends_exactly_with_the_time_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a wait of zero seconds, which would be a wait without end."""
    clock = clock_in(monkeypatch, "bounded", "channel")
    limits = bound(seconds=2)
    clock.sleep(1.9999)
    assert 0.001 == limits.slice()
    clock.sleep(0.0001)
    with pytest.raises(NoAnswer, match="not finished within 2 s"):
        limits.slice()


def test_a_cancellation_ends_a_wait() -> None:
    """At the next check."""
    with pytest.raises(Cancelled):
        bound(limit=Limit("S1", 60, lambda: True)).slice()


def test_as_many_bytes_as_allowed_and_not_one_more() -> None:
    """Over all reads together."""
    limits = bound(size=3)
    limits.take(2)
    limits.take(1)
    with pytest.raises(TooMuch):
        limits.take(1)


def test_a_large_message_is_sent_completely_to_a_slow_reader() -> None:
    """In as many parts as the connection accepts."""
    data = bytes(range(256)) * 8192
    received = bytearray()
    with pair() as (ours, theirs):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def read() -> None:
            while len(received) < len(data):
                received.extend(theirs.recv(50_000))

        reader = threading.Thread(target=read)
        reader.start()
        ours.sendall(data)
        reader.join(10)
    assert data == received


def test_received_bytes_count_and_the_end_is_zero_bytes() -> None:
    """The limit applies to what arrives."""
    with pair(bound(size=4)) as (ours, theirs):
        buffer = bytearray(10)
        theirs.sendall(b"abc")
        assert (3, b"abc") == (ours.recv_into(buffer), bytes(buffer[:3]))
        theirs.sendall(b"de")
        with pytest.raises(TooMuch):
            ours.recv_into(buffer)
    with pair(bound(size=0)) as (ours, theirs):
        theirs.close()
        assert 0 == ours.recv_into(buffer)


def test_a_silent_node_ends_in_no_answer() -> None:
    """After its time."""
    with pair(bound(seconds=0.05)) as (ours, _), pytest.raises(NoAnswer):
        ours.recv_into(bytearray(1))


def test_a_timeout_of_the_system_is_a_broken_connection() -> None:
    """A wait of ours that ends has no error number, and is repeated."""
    with pair() as (ours, _):
        results: list[TimeoutError | int] = [TimeoutError("ours"), 7, TimeoutError(errno.ETIMEDOUT, "the system's")]

        def act() -> int:
            found = results.pop(0)
            if isinstance(found, TimeoutError):
                raise found
            return found

        assert 7 == ours._within_bound(act)
        with pytest.raises(TimeoutError, match="the system's"):
            ours._within_bound(act)


def test_a_file_of_the_answer_leaves_the_connection_open() -> None:
    """`http.client` closes both after each answer; the next one comes over the same connection."""
    with pair() as (ours, theirs):
        theirs.sendall(b"one\ntwo\n")
        with ours.makefile("rb") as file:
            assert file.readable()
            assert b"one\n" == file.readline()
        ours.close()
        ours.sendall(b"still open")
        assert b"still open" == theirs.recv(100)
        ours.disconnect()
        assert b"" == theirs.recv(100)


def test_a_connection_is_idle_until_something_arrives() -> None:
    """Its end arrives too: such a connection is not used again."""
    with pair() as (ours, theirs):
        assert (True, b"") == (ours.idle, ours.certificate)
        theirs.sendall(b"x")
        assert not ours.idle
    with pair() as (ours, theirs):
        theirs.close()
        assert not ours.idle


def sockets_made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Collects the sockets that are created from here on."""
    made: list[socket.socket] = []

    class Recorded(socket.socket):
        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Recorded)
    return made


@contextmanager
def tls_server(authority: trustme.CA) -> Iterator[int]:
    """Completes one handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with listening() as (server, port):

        def serve() -> None:
            connection, _ = server.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(tls.recv(100).upper())
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        thread.join(10)


def test_tls_verifies_the_certificate_and_keeps_it_for_the_logon() -> None:
    """The logon is bound to its bytes."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tls_server(authority) as port:
        wire = connected("127.0.0.1", port, bound())
        wire.secured(context, "127.0.0.1")
        wire.sendall(b"hello")
        buffer = bytearray(10)
        assert (5, b"HELLO") == (wire.recv_into(buffer), bytes(buffer[:5]))
        assert wire.certificate.startswith(b"\x30\x82")
        wire.disconnect()
    with tls_server(authority) as port:
        wire = connected("127.0.0.1", port, bound())
        with pytest.raises(ssl.SSLCertVerificationError):
            wire.secured(ssl.create_default_context(), "127.0.0.1")
        wire.disconnect()


def test_a_handshake_that_does_not_end_is_bounded() -> None:
    """The node's bytes come too slowly."""
    with listening() as (_, port):
        wire = connected("127.0.0.1", port, bound(seconds=0.2))
        with pytest.raises(NoAnswer):
            wire.secured(ssl.create_default_context(), "127.0.0.1")
        wire.disconnect()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connection_sends_small_messages_at_once(host: str) -> None:
    """By address or by name."""
    with listening() as (_, port):
        wire = connected(host, port, bound())
        assert wire._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        wire.disconnect()


def test_a_closed_port_refuses_and_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the system's."""
    made = sockets_made(monkeypatch)
    with listening() as (_, port):
        pass
    with pytest.raises(ConnectionRefusedError) as caught:
        connected("127.0.0.1", port, bound())
    assert errno.ECONNREFUSED == caught.value.errno
    assert [-1, -1] == [one.fileno() for one in made]  # the listener and the connection


def test_the_next_address_is_tried_where_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last error counts if all refuse."""
    with listening() as (_, port):
        family, kind, protocol = socket.AF_INET, socket.SOCK_STREAM, 0
        closed = (family, kind, protocol, "", ("127.0.0.1", 1))
        opened = (family, kind, protocol, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [closed, opened])
        connected("any.name", port, bound()).disconnect()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [closed, closed])
        with pytest.raises(ConnectionRefusedError):
            connected("any.name", port, bound())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
        with pytest.raises(OSError, match=r"any\.name has no address"):
            connected("any.name", port, bound())


def test_a_connection_attempt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops packets answers nothing; the socket is closed."""
    made = sockets_made(monkeypatch)
    waits: list[float] = []

    def select(_: selectors.DefaultSelector, seconds: float) -> list[object]:
        waits.append(seconds)
        time.sleep(0.01)
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    with listening() as (_, port), pytest.raises(NoAnswer):
        connected("127.0.0.1", port, bound(seconds=0.05))
    assert 0 < max(waits) <= 0.05
    assert [-1, -1] == [one.fileno() for one in made]  # the listener and the connection


@pytest.mark.parametrize(
    ("raised", "kind"), [(socket.gaierror(-2, "unknown"), socket.gaierror), (UnicodeError("label"), socket.gaierror)]
)
def test_a_name_that_cannot_be_resolved_is_one_error(
    raised: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that cannot be encoded."""

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(kind, match=r"unknown|label"):
        connected("any.name", 1, bound())


def test_a_resolver_that_does_not_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no limit of its own, so it runs in a thread; an address needs no resolver."""
    release = threading.Event()
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60) and [])
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        connected("any.name", 1, bound(seconds=0.1))
    assert time.monotonic() - started < 50
    release.set()
    threads: list[str] = []

    def resolve(*args: Any, **options: Any) -> list[Any]:  # noqa: ANN401 - as `socket.getaddrinfo`
        threads.append(threading.current_thread().name)
        assert options["flags"] == socket.AI_NUMERICHOST
        return real(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with listening() as (_, port):
        connected("127.0.0.1", port, bound()).disconnect()
    assert [threading.current_thread().name] == threads
