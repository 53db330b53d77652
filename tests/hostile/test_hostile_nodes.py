"""A node that attacks uses no more than its limits of time and memory, and its texts cannot control a terminal."""

import base64
import gzip
import itertools
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.node import PASSWORD, Asked, HostileNode, http, memory_peak, plain
from workers.errors import (
    Cancelled,
    DeadlineExceeded,
    EsyncError,
    LogonRefused,
    MethodRefused,
    NodeError,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.session import open_session

pytestmark = pytest.mark.integration
DEADLINE = 1.0  #: limit in seconds for each of the two: open, ask
AFTER = 120.0  #: seconds until everything has ended after that; an attack lasts forever
MEMORY = 100 * 2**20  #: limit of memory for one reply, in bytes

Attack = Callable[[HostileNode, Asked], Iterator[bytes] | None]


def spoken_to(
    node: HostileNode, cancelled: Callable[[], bool] = lambda: False, deadline: float = DEADLINE
) -> list[ops.Reply]:
    """Opens a session and requests two operations."""
    session = open_session(node.endpoint, Secret(PASSWORD), deadline=deadline, cancelled=cancelled)
    try:
        return session.ask([ops.clock(), ops.stat("C:\\")], deadline=deadline, cancelled=cancelled)
    finally:
        session.close()


def ended_badly(node: HostileNode, kinds: type[EsyncError] | tuple[type[EsyncError], ...]) -> EsyncError:
    """The error of the session: in time, with limited memory, as one printable line."""
    started = time.monotonic()
    with memory_peak() as peak, pytest.raises(kinds) as caught:
        spoken_to(node)
    assert time.monotonic() - started < 2 * DEADLINE + AFTER
    assert peak() < MEMORY
    error = caught.value
    assert error.message.isprintable()
    assert error.remedy.isprintable()
    assert len(error.message) < 600
    assert PASSWORD not in f"{error!r}{error.remedy}"
    return error


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HostileNode]:
    """A healthy node, until a test sets its play."""
    with HostileNode(tmp_path) as running:
        yield running


def test_a_node_that_does_not_attack_is_spoken_to(node: HostileNode) -> None:
    """A healthy node works, or the attacks would prove nothing: two round trips to log on, one connection in total."""
    clock, root = spoken_to(node)
    assert (True, True) == (clock.ok, root["exists"])
    assert (1, 1) == (node.seen["connect"], node.seen["logon"])


def at(what: str, data: Callable[[HostileNode, Asked], Iterator[bytes]]) -> Attack:
    """An attack at one kind of request; the others get the right reply."""
    return lambda node, asked: data(node, asked) if asked.what == what else None


STAGES = ("logon", "Create", "Command", "Send", "Receive")
SLOW: dict[str, Attack] = {
    "connection, silence": at("connect", lambda node, _: node.silently()),
    "connection, a byte at a time": at("connect", lambda node, _: node.slowly(b"\x16\x03\x03" * 99)),
    **{f"{stage}, silence": at(stage, lambda node, _: node.silently()) for stage in STAGES},
    **{f"{stage}, a byte at a time": at(stage, lambda node, asked: node.slowly(asked.healthy)) for stage in STAGES},
    "status line without end": at("Receive", lambda node, _: node.endlessly(b"HTTP/1.1 ", b"2" * 100)),
    "chunks of one byte": at(
        "Receive",
        lambda node, _: itertools.chain(
            [b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"], node.slowly(b"1\r\nx\r\n" * 999, 0.05)
        ),
    ),
    "continue, and again": at("Create", lambda node, _: node.slowly(b"HTTP/1.1 100 Continue\r\n\r\n" * 999, 0.01)),
}


@pytest.mark.parametrize("attack", SLOW.values(), ids=SLOW)
def test_a_slow_node_costs_its_deadline_and_no_more(node: HostileNode, attack: Attack) -> None:
    """A slow TLS handshake, slow headers, a slow body or a slow logon: all end at the deadline."""
    node.play = lambda asked: attack(node, asked)
    ended_badly(node, (DeadlineExceeded, Unreachable, SessionLost, NodeRefused))


@pytest.mark.parametrize("stage", ["connect", *STAGES])
@pytest.mark.parametrize("slowly", [True, False])
def test_a_cancel_is_seen_while_a_node_keeps_us_waiting(node: HostileNode, stage: str, slowly: bool) -> None:  # noqa: FBT001 - a parameter
    """A cancel ends the wait long before the deadline."""
    cancel = threading.Event()

    def play(asked: Asked) -> Iterator[bytes] | None:
        if asked.what != stage:
            return None
        threading.Timer(0.2, cancel.set).start()
        return node.slowly(asked.healthy or b"\x16\x03\x03" * 99) if slowly else node.silently()

    node.play = play
    started = time.monotonic()
    with pytest.raises(Cancelled):
        spoken_to(node, cancel.is_set, deadline=600)
    assert time.monotonic() - started < AFTER


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


ENDLESS = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE: dict[str, Attack] = {
    "a body without end": at("Receive", lambda node, _: node.endlessly(ENDLESS, chunked(b"x" * 65536))),
    "chunks of one byte, quickly": at("Receive", lambda node, _: node.endlessly(ENDLESS, chunked(b"x") * 1000)),
    "a body of no known length": at(
        "Receive", lambda node, _: node.endlessly(b"HTTP/1.1 200 X\r\n\r\n", b"<a/>" * 16384)
    ),
    "headers without end": at("Receive", lambda node, _: node.endlessly(b"HTTP/1.1 200 X\r\n", b"A: b\r\n" * 9)),
    "one header without end": at("Create", lambda node, _: node.endlessly(b"HTTP/1.1 200 X\r\nA: ", b"b" * 65536)),
    "trailers without end": at("Create", lambda node, _: node.endlessly(ENDLESS + b"0\r\n", b"A: b\r\n" * 999)),
    "a length beyond belief": at(
        "Create", lambda node, _: node.endlessly(b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536)
    ),
    "an error without end": at(
        "Create",
        lambda node, _: node.endlessly(ENDLESS.replace(b"200", b"500"), chunked(b"<s:Envelope>" * 5000)),
    ),
    "a logon without end": at(
        "logon", lambda node, _: node.endlessly(ENDLESS.replace(b"200", b"401"), chunked(b"x" * 9999))
    ),
    "48 MB of elements": at("Receive", lambda node, _: node.endlessly(ENDLESS, chunked(b"<a/>" * 16384))),
    "many small elements": at("Receive", lambda *_: iter([http(b"<a>" + b"<b/>" * 400_000 + b"</a>")])),
    "many small attributes": at(
        "Receive", lambda *_: iter([http(b"<a " + b" ".join(b'a%x=""' % n for n in range(150_000)) + b"/>")])
    ),
    "packed by HTTP": at(
        "Receive", lambda *_: iter([http(gzip.compress(bytes(200 * 2**20), 1), Content_Encoding="gzip")])
    ),
    "deflated by HTTP": at(
        "Create", lambda *_: iter([http(zlib.compress(bytes(200 * 2**20), 1), Content_Encoding="deflate")])
    ),
    "a thousand laughs": at(
        "Create",
        lambda *_: iter(
            [
                http(
                    b'<!DOCTYPE a [<!ENTITY b "ha">'
                    + b"".join(b'<!ENTITY b%d "%s">' % (n, b"&b%d;" % (n - 1) * 10) for n in range(1, 9))
                    + b"]><a>&b8;</a>"
                )
            ]
        ),
    ),
}


@pytest.mark.parametrize("attack", LARGE.values(), ids=LARGE)
def test_a_large_answer_costs_bounded_memory(node: HostileNode, attack: Attack) -> None:
    """A reply that is large on the network, after unpacking or in the parser uses limited memory."""
    node.play = lambda asked: attack(node, asked)
    ended_badly(node, (NodeRefused, SessionLost, Unreachable, DeadlineExceeded))


def packed(text: bytes, reply: dict[str, Any]) -> bytes:
    """A reply whose results unpack to these bytes."""
    word = base64.b64encode(gzip.compress(text, 1)).decode()
    return json.dumps({"v": 1, "id": reply["id"], "gzip": word}).encode() + b"\n"


def instead(results: bytes, reply: dict[str, Any]) -> bytes:
    """A reply with these results, unchanged."""
    return b'{"v":1,"id":%s,"results":%s}\n' % (json.dumps(reply["id"]).encode(), results)


MEGABYTE = 2**20
TWISTS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a line without end": lambda _: b"{" + b" " * 40 * MEGABYTE,
    "40 MB in one text": lambda reply: instead(b'[{"ok":true,"data":"%s"}]' % (b"A" * 40 * MEGABYTE), reply),
    "11 MB in one text, with a wide letter": lambda reply: instead(
        b'[{"ok":true,"data":"%s\\ud83d\\ude00"}]' % (b"A" * 11 * MEGABYTE), reply
    ),
    "11 MB of escapes": lambda reply: instead(b'[{"ok":true,"data":"%s"}]' % (b"\\u4e00" * 1_900_000), reply),
    "small values": lambda reply: instead(b"[" + b",".join([b'{"a":0}'] * 1_400_000) + b"]", reply),
    "small texts": lambda reply: instead(b'[{"a":[' + b",".join([b'"\\u4e00"'] * 1_100_000) + b"]}]", reply),
    "as many as may be": lambda reply: instead(
        b'[{"a":[' + b",".join(b'{"k%d":%d}' % (n, n + 10**6) for n in range(130_000)) + b"]}]", reply
    ),
    "packed, 2 GB of blanks": lambda reply: packed(b"[" + b" " * 300 * MEGABYTE + b"]", reply),
    "packed, small values": lambda reply: packed(b"[" + b'{"a":[]},' * 1_300_000 + b"{}]", reply),
    "deep": lambda reply: instead(b"[" * 100_000 + b"]" * 100_000, reply),
    "packed, deep": lambda reply: packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, reply),
    "a number without end": lambda reply: instead(b'[{"ok":true,"a":%s}]' % (b"9" * 5 * MEGABYTE), reply),
    "no number": lambda reply: instead(b'[{"ok":true,"a":NaN},{"ok":true,"b":-Infinity}]', reply),
    "no result": lambda reply: instead(b"[]", reply),
    "results of another kind": lambda reply: instead(b'[1,"a",null]', reply),
    "another version": lambda reply: json.dumps({**reply, "v": "1"}).encode() + b"\n",
    "too many results": lambda reply: json.dumps({**reply, "results": reply["results"] * 9}).encode() + b"\n",
    "noise without end": lambda _: b"noise\n" * 2_000_000,
    "another reply first": lambda reply: json.dumps({**reply, "id": "99"}).encode() + b"\n",
    "bytes that are no ASCII": lambda reply: json.dumps(reply, ensure_ascii=False).encode("utf-16"),
    "a greeting of wrong types": lambda reply: _greeting(reply, agent="x", drives=[1, 2], admin=[], winrm=7),
    "a greeting with a drive of nothing": lambda reply: _greeting(reply, drives=[{"name": None, "free": -1}]),
    "a greeting of little": lambda reply: instead(b'[{"ok":true},{"ok":true},{"ok":true}]', reply),
}


def _greeting(reply: dict[str, Any], **fields: object) -> bytes:
    first, *others = reply["results"]
    return json.dumps({**reply, "results": [{**first, **fields}, *others]}).encode() + b"\n"


@pytest.mark.parametrize("twist", TWISTS.values(), ids=TWISTS)
def test_a_reply_of_the_agent_costs_bounded_memory(node: HostileNode, twist: Callable[[dict[str, Any]], bytes]) -> None:
    """Also if every reply on the network is small, and if it is not a valid reply."""
    healthy: list[dict[str, Any]] = []

    def heard(reply: dict[str, Any]) -> bytes:
        healthy.append(reply)
        return plain(reply)

    node.twist = heard
    spoken_to(node)
    line = twist(healthy[0])  # created here, so that it is not measured
    node.twist = lambda _: line
    ended_badly(node, NodeError)


TEXTS = [
    "half \ud800 surrogate",
    "\x1b]8;;http://evil\x07click\x1b]8;;\x07",
    "a\nJOINED: all nodes",
    "\u202etxt.exe",
    "\x00\x07",
]


@pytest.mark.parametrize("text", [*TEXTS, "x" * 3_000_000], ids=["half", "link", "line", "turned", "nul", "long"])
def test_texts_of_a_node_are_cleaned_and_cut_where_they_enter(node: HostileNode, text: str) -> None:
    """In successful results and in failed ones, and in the names of fields."""

    def twist(reply: dict[str, Any]) -> bytes:
        hello, clock, _ = reply["results"]
        failed = {"ok": False, "error": "failed", "message": text, "path": text, text[:50]: text}
        hello = {**hello, "computer": text, "os": text}
        return (
            json.dumps({**reply, "results": [hello, {**clock, "note": [text, {"a": text}]}, failed]}).encode() + b"\n"
        )

    node.twist = twist
    error = ended_badly(node, NodeError)
    assert "stat" in error.message or "C:" in error.message or len(text) > 2000
    assert len(error.file) <= 2000
    assert error.file.isprintable()


WRONG: dict[str, bytes] = {
    "no XML": b"hello",
    "nothing": b"",
    "HTML": b"<html><body>It works!</body></html>",
    "an envelope without a body": b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"/>',
    "an identifier without text": b'<a><b Name="ShellId"/><c><CommandId/></c></a>',
    "an identifier of a megabyte": b'<a><b><x Name="ShellId">'
    + b"x" * MEGABYTE
    + b"</x><CommandId>"
    + b"y" * MEGABYTE
    + b"</CommandId></b></a>",
    "a stream that is no base64": b'<a><b><x Name="ShellId">1</x><CommandId>1</CommandId>'
    b'<Stream Name="stdout">\xc3\xa4</Stream></b></a>',
    "a stream without a name": b'<a><b><x Name="ShellId">1</x><CommandId>1</CommandId><Stream>YQ==</Stream></b></a>',
    "an exit code that is none": b'<a><b><x Name="ShellId">1</x><CommandId>1</CommandId>'
    b'<CommandState State="CommandState/Done"><ExitCode>seven</ExitCode></CommandState></b></a>',
    "deep XML": b"<a>" * 20_000 + b"</a>" * 20_000,
    "another encoding": '<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16"),
    "an encoding nobody has": b'<?xml version="1.0" encoding="klingon"?><a/>',
    "a NUL": b"<a>\0</a>",
}
FAULT = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Reason><s:Text>%s</s:Text>'
    b'</s:Reason><s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%s"/>'
    b"</s:Detail></s:Fault></s:Body></s:Envelope>"
)
FAULTS: dict[str, bytes] = {
    "a code that is none": FAULT % (b"x", b"seven"),
    "a reason that turns": FAULT % ("\u202eevil\n\u2028JOINED".encode(), b"5"),
    "a long reason": FAULT % (b"x " * 400_000, b"7"),
    "no fault": b"<a/>",
    "no XML": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("stage", ["Create", "Command", "Receive"])
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_an_answer_that_is_none_is_a_sentence(node: HostileNode, stage: str, body: bytes) -> None:
    """An invalid reply results in a sentence, not in an exception of a parser, for a new shell as for its output."""
    node.play = lambda asked: iter([http(body)]) if asked.what in {stage, "Receive"} else None
    ended_badly(node, NodeError)


@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("status", [500, 400, 503, 403, 404, 407, 204, 999])
def test_a_fault_that_is_none_is_a_sentence(node: HostileNode, body: bytes, status: int) -> None:
    """An invalid fault results in a sentence, with any HTTP status."""
    node.play = lambda asked: iter([http(body, status)]) if asked.what == "Create" else None
    ended_badly(node, NodeError)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("stage", ["logon", "Create", "Receive"])
def test_a_redirect_is_not_followed(node: HostileNode, stage: str, status: int) -> None:
    """There is no connection to the other address, so it gets neither credentials nor the body."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        there = f"http://127.0.0.1:{other.getsockname()[1]}/wsman"
        node.play = lambda asked: iter([http(b"", status, Location=there)]) if asked.what == stage else None
        error = ended_badly(node, (NodeRefused, SessionLost))
        assert f"HTTP {status}" in error.message
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


CHALLENGES: dict[str, tuple[str, type[EsyncError]]] = {
    "bare": ("Negotiate", LogonRefused),
    "bare, among others": ("Basic realm=x, Negotiate", LogonRefused),
    "the method is not offered": ("Kerberos", MethodRefused),
    "nothing": ("", MethodRefused),
    "no base64": ("Negotiate ????", NodeRefused),
    "no such message": ("Negotiate " + base64.b64encode(b"NTLMSSP\0\xff\xff\xff\xff" * 9).decode(), NodeRefused),
    "our own message back": ("Negotiate TlRMTVNTUAABAAAABzCIoAAAAAAAAAAAAAAAAAAAAAA=", NodeRefused),
}


@pytest.mark.parametrize(("challenge", "kind"), CHALLENGES.values(), ids=CHALLENGES)
def test_a_logon_that_is_refused_is_told_from_one_that_is_none(
    node: HostileNode, challenge: str, kind: type[EsyncError]
) -> None:
    """A server refuses NTLM with a bare Negotiate after our first message; either way there is one attempt."""
    node.play = lambda asked: iter([http(b"", 401, WWW_Authenticate=challenge)]) if asked.what == "logon" else None
    ended_badly(node, kind)
    assert 1 == len(node.authorizations)


def test_a_logon_that_never_ends_is_ended(node: HostileNode) -> None:
    """A server that sends challenge after challenge is stopped."""
    node.play = lambda asked: iter([asked.healthy]) if asked.what == "logon" else None
    wrong = Secret("wrong")
    with pytest.raises(LogonRefused):
        open_session(node.endpoint, wrong, deadline=DEADLINE)
    assert 2 == len(node.authorizations)


def test_a_port_that_speaks_no_tls_is_sent_nothing(tmp_path: Path) -> None:
    """It gets no message and no credentials."""
    with HostileNode(tmp_path, tls=False) as node:
        with pytest.raises((Unreachable, NodeRefused), match="failed the TLS handshake"):
            spoken_to(node, deadline=10)
        assert [] == node.authorizations
