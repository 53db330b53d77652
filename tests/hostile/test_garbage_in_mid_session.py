"""Garbage after a good start: it has its class and its cause, costs no more than its deadline, and damages no file."""

import gzip
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.node import PASSWORD, Asked, HostileNode, http
from workers.errors import AccessDenied, ConnectionLost, DeadlineExceeded, EsyncError, NodeRefused, SessionLost
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.session import open_session

pytestmark = pytest.mark.integration
DEADLINE = 3.0
DATA = b"these bytes, or none" * 20
FILE = "C:\\site\\a.txt"
PAGE = b"<html><head><title>Proxy Error</title></head><body>An invalid response</body></html>"
FAULT = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Receiver'
    '</s:Value></s:Code><s:Reason><s:Text xml:lang="de-DE">Die Anforderung kann nicht verarbeitet werden.</s:Text>'
    '</s:Reason><s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{}"/>'
    "</s:Detail></s:Fault></s:Body></s:Envelope>"
)
SOAP = "application/soap+xml;charset=UTF-8"
Garbage = Callable[[HostileNode, Asked], Iterator[bytes]]


def body(asked: Asked) -> bytes:
    """The message that a healthy node sends."""
    return asked.healthy.partition(b"\r\n\r\n")[2]


def changed(find: bytes, replace: bytes) -> Garbage:
    """The healthy answer, changed."""
    return lambda _, asked: iter([http(re.sub(find, replace, body(asked)), Content_Type=SOAP)])


def page(status: int, **headers: str) -> Garbage:
    """A web page."""
    return lambda *_: iter([http(PAGE, status, Content_Type="text/html", **headers)])


#: What comes instead of one answer -> the class, and words of the message.
GARBAGE: dict[str, tuple[Garbage, type[EsyncError], str]] = {
    "a page": (page(200), NodeRefused, "sent the web page 'Proxy Error' instead of an answer of WinRM"),
    "a page, 302": (page(302, Location="http://login/"), NodeRefused, "the web page 'Proxy Error'"),
    "a page, 407": (page(407), NodeRefused, "a proxy on the way requires its own logon"),
    "a page, 503": (page(503), ConnectionLost, "HTTP status 503"),
    "nothing": (lambda *_: iter([http(b"")]), SessionLost, "no message of WS-Management"),
    "half a message": (
        lambda _, asked: iter([http(body(asked)[: len(body(asked)) // 2], Content_Type=SOAP)]),
        SessionLost,
        "",
    ),
    "half a body": (lambda _, asked: iter([asked.healthy[:-9]]), DeadlineExceeded, "did not answer"),
    "chunks without end": (
        lambda node, _: itertools.chain(
            [b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"], node.slowly(b"1\r\nx\r\n" * 999, 0.05)
        ),
        DeadlineExceeded,
        "did not answer",
    ),
    "the answer to another message": (
        changed(rb"RelatesTo>[^<]*<", b"RelatesTo>uuid:00000000-0000-0000-0000-000000000000<"),
        SessionLost,
        "sent the answer to another message",
    ),
    "packed": (
        lambda _, asked: iter([http(gzip.compress(body(asked)), Content_Encoding="gzip", Content_Type=SOAP)]),
        SessionLost,
        "a content encoding that was not requested: gzip",
    ),
    "a fault in German": (
        lambda *_: iter([http(FAULT.format(2150858843).encode(), 500)]),
        SessionLost,
        "has closed the shell: Die Anforderung kann nicht verarbeitet werden. (fault 2150858843",
    ),
    "an unknown fault in German": (
        lambda *_: iter([http(FAULT.format(2150858999).encode(), 500)]),
        SessionLost,
        "'Die Anforderung kann nicht verarbeitet werden.'",
    ),
    "access denied in German": (lambda *_: iter([http(FAULT.format(5).encode(), 500)]), AccessDenied, "(fault 5"),
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HostileNode]:
    """A healthy node, until a test sets its play."""
    with HostileNode(tmp_path) as running:
        yield running


def played(node: HostileNode, stage: str, garbage: Garbage) -> list[ops.Reply]:
    """A good exchange, and then a change whose first answer of that kind (a Receive: with output) is garbage."""
    session, sent = open_session(node.endpoint, Secret(PASSWORD), deadline=20), list[Asked]()

    def play(asked: Asked) -> Iterator[bytes] | None:
        if asked.what != stage or sent or (stage == "Receive" and b"Stream" not in asked.healthy):
            return None
        sent.append(asked)
        return garbage(node, asked)

    try:
        session.ask([ops.clock()], deadline=20)
        node.play = play
        return session.ask([ops.mkdir("C:\\site"), ops.write(FILE, DATA, expect=ops.ABSENT)], deadline=DEADLINE)
    finally:
        assert sent
        node.play = lambda _: None
        session.close()


@pytest.mark.parametrize("stage", ["Send", "Receive"])
@pytest.mark.parametrize(("garbage", "kind", "says"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_mid_session_has_its_class_and_cause(
    node: HostileNode, stage: str, garbage: Garbage, kind: type[EsyncError], says: str
) -> None:
    """A change is never reported as done by it; the file is whole or absent, and the next session sees which."""
    if (stage, says) == ("Send", ""):  # nothing of the answer to a send is needed but that it is one
        kind, replies = EsyncError, played(node, stage, garbage)
        assert [True, True] == [reply.ok for reply in replies]
    else:
        started = time.monotonic()
        with pytest.raises(kind) as caught:
            played(node, stage, garbage)
        assert says in caught.value.message
        assert time.monotonic() - started < DEADLINE + 60
    again = open_session(node.endpoint, Secret(PASSWORD), deadline=20)
    (file,) = again.ask([ops.stat(FILE, hashes=True)], deadline=20)
    assert file["exists"] is False or file["hash"] == ops.digest(DATA)
    again.close()


def test_output_of_another_command_is_not_taken(node: HostileNode) -> None:
    """A listener that mixes up two shells."""
    other = changed(b"11111111-2222-3333-4444-555555555555", b"99999999-2222-3333-4444-555555555555")
    with pytest.raises(SessionLost, match="sent the output of another command"):
        played(node, "Receive", other)


def test_output_that_comes_twice_counts_once(node: HostileNode) -> None:
    """The reply has the id of its request; the second one belongs to no request."""
    twice = changed(rb"(<[^>]*Stream[^>]*>[^<]*</[^>]*Stream>)", rb"\1\1")
    assert [True, True] == [reply.ok for reply in played(node, "Receive", twice)]
