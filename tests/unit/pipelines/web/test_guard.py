"""What every request passes, asked over a socket by clients that do as they like."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.usecases.tokens import Role
from pipelines.web import guard, server
from tests.unit.pipelines.web.served_site import ServedSite, served_site


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedSite]:
    """A server with a cluster file."""
    with served_site(tmp_path) as started:
        yield started


def told(served: ServedSite, request: bytes, limit: float = 60.0) -> str:
    """All that the server sends until it closes the connection."""
    host, _, port = served.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), limit) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def test_a_body_that_does_not_arrive_is_not_waited_for(served: ServedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed, and nothing is held for it any longer."""
    monkeypatch.setattr(guard, "SLOWEST", 0.3)
    began = time.monotonic()
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        head = f"POST /logon HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\ntoken=a"
        answer = told(served, head.encode())
        assert answer.startswith("HTTP/1.1 4"), answer
    assert "408 Request Timeout" in answer
    assert "the body did not arrive within" in answer
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("before", ["", "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize("begun", ["", "GET /api/v1/health HTTP/1.1\r\nHost: local"])
def test_headers_that_do_not_arrive_are_not_waited_for(
    served: ServedSite, before: str, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No one has logged on yet, and each connection costs the server a file: also the second request of one."""
    monkeypatch.setattr(server, "HEADERS", 0.3)
    began = time.monotonic()
    answer = told(served, (before + begun).encode())
    assert before.count("\r\n\r\n") == answer.count("204 No Content") == answer.count("HTTP/1.1")
    assert time.monotonic() - began < 30


def test_a_key_that_stands_in_a_body_twice_is_refused(served: ServedSite) -> None:
    """A program before this server may have read the other one of them."""
    client, headers = served.client(), {"Content-Type": "application/json"}
    body = '{"name": "x", "role": "viewer", "days": 1, "role": "admin"}'
    answer = client.post("/api/v1/tokens", content=body, headers=headers)
    assert (422, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert "'role' stands there twice" in answer.json()["message"]
    assert ["ann"] == [row["name"] for row in client.get("/api/v1/tokens").json()["tokens"]]


@pytest.mark.parametrize("host", ["Host: 10.1.2.3:8470\r\n", ""])
def test_whether_the_server_lives_is_answered_under_any_name(served: ServedSite, host: str) -> None:
    """A container, or a proxy, asks it by its address, or with HTTP/1.0; nothing else is answered then."""
    asked = {path: told(served, f"GET {path} HTTP/1.0\r\n{host}\r\n".encode()) for path in ("/api/v1/health", "/logon")}
    assert ["204", "421"] == [answer.split()[1] for answer in asked.values()]


@pytest.mark.parametrize("path", ["/logon", "/api/v1/me", "/api/v1/runs", "/", "/none", "/api/v1/none"])
def test_head_is_answered_as_get_without_a_body(served: ServedSite, path: str) -> None:
    """Status and headers are the same."""
    client = served.client(Role.VIEWER)
    whole, head = client.get(path), client.head(path)
    differ = {"date"}
    assert (whole.status_code, b"") == (head.status_code, head.content)
    assert {name: value for name, value in whole.headers.items() if name not in differ} == {
        name: value for name, value in head.headers.items() if name not in differ
    }


def test_head_of_an_event_stream_ends(served: ServedSite) -> None:
    """Also while the run lasts; nothing listens any more afterwards."""
    run = served.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"}).json()["run"]
    client = served.client(Role.VIEWER)
    for path in (f"/api/v1/runs/{run}/events", f"/moves?run={run}", "/moves"):
        answer = client.head(path)
        assert (200, "text/event-stream") == (answer.status_code, answer.headers["content-type"].partition(";")[0])


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"limit": ' + b"1" * 100_000 + b"}", b'{"cluster": "\xff"}', b"{", b"\x00"], ids=repr
)
def test_a_body_that_is_no_json_is_refused_with_what_is_expected(served: ServedSite, body: bytes) -> None:
    """However it is made, it breaks nothing."""
    answer = served.client().post("/api/v1/runs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert "with Content-Type: application/json" in answer.json()["remedy"]


def test_headers_without_end_are_not_kept(served: ServedSite) -> None:
    """The connection ends after some kilobytes."""
    with pytest.raises(OSError, match=r"reset|closed|Broken pipe"):
        told(served, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000_000)
