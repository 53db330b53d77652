"""A server that speaks enough WinRM for a logon, and then attacks as a test requests: slow, large, wrong."""

import asyncio
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPMessage, parse_headers
from io import BufferedReader
from pathlib import Path
from typing import Any, Self

import trustme

from lab.agent.session import Agent
from lab.machine.condition import Counters
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.winrm.logon import Account, Connection
from lab.winrm.wsman import (
    Chunk,
    Message,
    command_response,
    create_response,
    empty_response,
    read,
    receive_response,
)
from workers.records import Endpoint

__all__ = ["PASSWORD", "Asked", "HostileNode", "http", "memory_peak", "plain"]

PASSWORD = "planted-Hostile-4711"
USER = "esync"
SHELL = "11111111-2222-3333-4444-555555555555"
_PIECE = 90_000  #: bytes of output in one answer, as WinRM gives them


@dataclass(frozen=True, slots=True)
class Asked:
    """One action of a client: it connects, or sends a request.

    Attributes:
        what: `connect`, `logon`, or the last word of the message's action: `Create`, `Receive`.
        number: number of earlier actions of that kind on this server.
        healthy: the HTTP reply of a healthy node.
    """

    what: str
    number: int
    healthy: bytes = b""


#: The bytes to send instead of the healthy reply; None: the healthy reply. An iterator may be slow.
Play = Callable[[Asked], Iterator[bytes] | None]
#: Changes the reply line of the agent.
Twist = Callable[[dict[str, Any]], bytes]


def http(body: bytes, status: int = 200, **headers: str) -> bytes:
    """An HTTP reply; underscores in the names of headers become dashes."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain(reply: dict[str, Any]) -> bytes:
    """A reply line of the agent."""
    return json.dumps(reply).encode() + b"\r\n"


@dataclass
class HostileNode:
    """The server. `seen` counts the actions of clients; `authorizations` are the logons that were sent.

    Args:
        folder: for the certificate of its authority.
        play: what it sends instead of the right reply.
        twist: how it changes the replies of the agent.
        tls: whether it uses TLS.
    """

    folder: Path
    play: Play = lambda _: None
    twist: Twist = plain
    tls: bool = True
    seen: dict[str, int] = field(default_factory=dict)
    authorizations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "hostile-ca.pem")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._account = Account(USER, PASSWORD, "P9")
        self._agent = Agent(Machine("P9", MemoryDisk()))
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        self._stdin = b""
        self._stdout = b""
        self._lines = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of the server."""
        return Endpoint(
            node="P9",
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            user=USER,
            secret="env:PASSWORD",
            ca_file=str(self.folder / "hostile-ca.pem"),
            connect_timeout=2,
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._account.close()

    def slowly(self, data: bytes, pause: float = 0.3) -> Iterator[bytes]:
        """Sends one byte at a time, until the server is stopped."""
        for one in data:
            yield bytes([one])
            if self._stopped.wait(pause):
                return

    def silently(self) -> Iterator[bytes]:
        """Sends nothing, without end."""
        self._stopped.wait(600)
        yield from ()

    def endlessly(self, begin: bytes, piece: bytes) -> Iterator[bytes]:
        """Sends the same bytes again and again."""
        yield begin
        while not self._stopped.is_set():
            yield piece

    def _asked(self, what: str, healthy: bytes = b"") -> Iterator[bytes] | None:
        with self._guard:
            number = self.seen.get(what, 0)
            self.seen[what] = number + 1
        return self.play(Asked(what, number, healthy))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with suppress(OSError, ValueError), raw:
            instead = self._asked("connect")
            if instead is not None:
                for piece in instead:
                    raw.sendall(piece)
                return
            connection = self._context.wrap_socket(raw, server_side=True) if self.tls else raw
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        logon = Connection(self._account, Counters())
        with connection.makefile("rb") as arriving:
            while arriving.readline(65536):
                headers = parse_headers(arriving)
                self._answer(connection, logon, headers, _body(arriving, headers))

    def _answer(self, connection: socket.socket, logon: Connection, headers: HTTPMessage, body: bytes) -> None:
        authorization = headers.get("Authorization", "")
        if authorization:
            self.authorizations.append(authorization)
        verdict = logon.judge(authorization)
        if not verdict.user:
            healthy = http(b"", 401, WWW_Authenticate=verdict.challenges[0])
            _send(connection, self._asked("logon", healthy), healthy)
            return
        message = read(body)
        what = message.action.rpartition("/")[2]
        healthy = http(self._done(what, message), Content_Type="application/soap+xml;charset=UTF-8")
        _send(connection, self._asked(what, healthy), healthy)

    def _done(self, what: str, message: Message) -> bytes:
        if what == "Create":
            return create_response(message, SHELL, USER, 180)
        if what == "Command":
            self._stdin, self._stdout, self._lines = b"", b"", itertools.count()
            return command_response(message, SHELL)
        if what == "Send":
            self._take(b"".join(item.data for item in message.inputs()))
        if what == "Receive":
            return self._given(message)
        return empty_response(message)

    def _take(self, data: bytes) -> None:
        *lines, self._stdin = (self._stdin + data).split(b"\n")
        for line in lines:
            if next(self._lines):  # the first line is the script
                reply = json.loads(asyncio.run(self._agent.reply(line.decode())).text)
                self._stdout += self.twist(reply)

    def _given(self, message: Message) -> bytes:
        data, self._stdout = self._stdout[:_PIECE], self._stdout[_PIECE:]
        if not data:
            time.sleep(0.05)
        chunks = [Chunk(SHELL, "stdout", data)] if data else []
        return receive_response(message, SHELL, chunks, None)


def _body(arriving: BufferedReader, headers: HTTPMessage) -> bytes:
    return arriving.read(int(headers.get("Content-Length", "0")))


def _send(connection: socket.socket, instead: Iterator[bytes] | None, healthy: bytes) -> None:
    for piece in [healthy] if instead is None else instead:
        connection.sendall(piece)


@contextmanager
def memory_peak() -> Iterator[Callable[[], int]]:
    """Returns a function that returns the peak growth of this process's memory since then, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    yield lambda: _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
