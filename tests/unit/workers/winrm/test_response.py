"""The head of an HTTP answer: what our reader and that of the library make of it."""

import http.client
import io
from socket import socket
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.winrm.response import Response

NAMES = ("Content-Type", "content-length", "WWW-Authenticate", "Connection", "Transfer-Encoding", "Server", "Location")
names = st.sampled_from(NAMES) | st.text("aB-: \t(\xe9", max_size=4)
values = st.sampled_from(["close", "keep-alive", "chunked", "5", "-5", "0", "x", "Negotiate", " a\t", ""]) | st.text(
    "aB:\t \xe9\x85\x0b", max_size=6
)
lines = st.tuples(names, st.sampled_from([":", ": ", ""]), values, st.sampled_from(["\r\n", "\n"])).map("".join)
folded = st.sampled_from([" more\r\n", "\tmore\n", " \r\n"])
heads = st.lists(lines | folded, max_size=6).map("".join)
statuses = st.sampled_from(
    ["HTTP/1.1 200 OK", "HTTP/1.0 200", "HTTP/1.1 401  No ", "HTTP/1.1 204 x", "HTTP/2 200 OK", "HTTP/1.1 99 x",
     "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK", "HTTP/1.1 x", "x", ""]
)  # fmt: skip


class _Sent:
    """A connection that has received an answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self._answer)))


def _read(kind: type[http.client.HTTPResponse], answer: bytes) -> tuple[object, ...]:
    """Everything that is used of an answer; or the error."""
    with kind(cast("socket", _Sent(answer)), method="POST") as response:
        try:
            response.begin()
            body = response.read(1000)
        except http.client.HTTPException as error:
            return type(error), str(error)
        headers = [response.getheader(name, "none") for name in NAMES]
        every = [response.msg.get_all(name, ()) for name in NAMES]
        how: Any = vars(response)
        framing = response.length, response.will_close, how["chunked"], response.isclosed()
        return response.status, response.reason, response.version, body, headers, every, framing


@given(status=statuses, head=heads, body=st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]))
@example(status="HTTP/1.1 200 OK", head="WWW-Authenticate: a\r\nwww-authenticate: b\r\n", body=b"")
@example(status="HTTP/1.1 200 OK", head="no header\r\nServer: a\r\n", body=b"")
@example(status="HTTP/1.1 200 OK", head=" folded\r\nServer: a\r\n", body=b"")
def test_every_head_is_read_as_the_library_reads_it(status: str, head: str, body: bytes) -> None:
    """Also those that are invalid."""
    answer = f"{status}\r\n{head}\r\n".encode("iso-8859-1") + body
    assert _read(http.client.HTTPResponse, answer) == _read(Response, answer)


@pytest.mark.parametrize(
    "head", ["A: b\r\n" * 99, "A: b\r\n" * 100, f"A: {'b' * 65_530}\r\n", f"A: {'b' * 65_540}\r\n"]
)
def test_a_head_has_the_limits_of_the_library(head: str) -> None:
    """A hundred lines of 65,536 bytes."""
    answer = f"HTTP/1.1 200 OK\r\n{head}\r\n".encode()
    assert _read(http.client.HTTPResponse, answer) == _read(Response, answer)
