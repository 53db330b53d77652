"""One suite for both adapters of the port of sites: over the network, and a site that is a function."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import trustme

from tests.waiting import wait_until
from workers.errors import AgentFailed, DeadlineExceeded, NodeRefused
from workers.sites.http import HttpSite
from workers.sites.memory import Asked, MemorySite, Page
from workers.sites.port import LARGEST, Address, Site

NAME = "www.example.org"
Opened = Callable[[], Site]


def product(asked: Asked) -> Page:
    """A site that knows a few pages."""
    if asked.path == "/cookies":
        return Page(asked.cookies.encode())
    if asked.path == "/set":
        return Page(cookies=("ecm=a b; path=/; HttpOnly", "other=2; Domain=www.example.org", "s=3; Secure"))
    if asked.path == "/end":
        return Page(cookies=("ecm=; Max-Age=0", "other=; expires=Thu, 01-Jan-1970 00:00:00 GMT"))
    if asked.path == "/large":
        return Page(b"x" * (LARGEST + 1))
    if asked.path == "/moved":
        return Page(status=302, location="https://elsewhere.example.org/login.aspx")
    values = ",".join(f"{name}={value}" for name, value in sorted(asked.values.items()))
    return Page(f"{asked.method} {asked.path} {values}".encode())


class Handler(BaseHTTPRequestHandler):
    """Serves the function; and pages that only a network has."""

    hosts: list[str] = []  # noqa: RUF012 - one list a server class, made new for each server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A page."""
        parts = urlsplit(self.path)
        self._answered("GET", parts.path, dict(parse_qsl(parts.query)))

    def do_POST(self) -> None:
        """A form."""
        size = int(self.headers["Content-Length"])
        self._answered("POST", self.path, dict(parse_qsl(self.rfile.read(size).decode(), keep_blank_values=True)))

    def _answered(self, method: str, path: str, values: dict[str, str]) -> None:
        self.hosts.append(self.headers["Host"])
        if path == "/slow":
            self._slowly()
            return
        asked = Asked(Address("S1", "", 0, "http", ""), method, path, values, self.headers["Cookie"] or "")
        page = product(asked)
        self.send_response(page.status)
        for cookie in page.cookies:
            self.send_header("Set-Cookie", cookie)
        if page.location:
            self.send_header("Location", page.location)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def _slowly(self) -> None:
        """A byte now and then, for longer than any test waits."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - as the library names it
        """Not logged."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A real server on loopback."""
    Handler.hosts = []
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def address_of(server: ThreadingHTTPServer, **other: Any) -> Address:  # noqa: ANN401 - fields of the address
    """Its address, with the name of a site."""
    fields = {"node": "S1", "host": "127.0.0.1", "port": server.server_port, "scheme": "http", "name": NAME}
    return Address(**{**fields, **other})


@pytest.fixture(params=["http", "memory"])
def site(request: pytest.FixtureRequest, server: ThreadingHTTPServer) -> Site:
    """The site by each adapter."""
    address = address_of(server)
    return HttpSite(address) if request.param == "http" else MemorySite(address, product)


def test_queries_and_forms_arrive(site: Site) -> None:
    """With all their characters."""
    assert "GET /a b=1 2,c=&%" == site.get("/a", {"b": "1 2", "c": "&%"}, deadline=5).text
    assert "POST /a pässword=ö&=,user=u" == site.post("/a", {"user": "u", "pässword": "ö&="}, deadline=5).text


def test_cookies_are_kept_and_end(site: Site) -> None:
    """Also those for the name of the site; none over http that is meant for https only."""
    site.get("/set", deadline=5)
    assert "ecm=a b; other=2" == site.get("/cookies", deadline=5).text
    site.get("/end", deadline=5)
    assert "" == site.get("/cookies", deadline=5).text


def test_a_redirect_is_an_answer(site: Site) -> None:
    """It is not followed."""
    answer = site.get("/moved", deadline=5)
    assert (302, "https://elsewhere.example.org/login.aspx") == (answer.status, answer.location)


def test_an_answer_that_is_too_large_is_refused(site: Site) -> None:
    """Before all of it was read."""
    with pytest.raises(AgentFailed, match="answers more than"):
        site.get("/large", deadline=20)


def test_a_held_request_is_answered_later(site: Site) -> None:
    """The caller asks for the answer when it likes."""
    held = site.hold("/late", {"a": "1"}, deadline=5)
    wait_until(lambda: held.answer() is not None)
    answer = held.answer()
    assert answer is not None
    assert "GET /late a=1" == answer.text


def test_the_site_is_asked_by_its_name_at_the_node(server: ThreadingHTTPServer) -> None:
    """The header names the site, the connection is to the node."""
    HttpSite(address_of(server, name="www.example.org:8080")).get("/", deadline=5)
    assert ["www.example.org:8080"] == Handler.hosts


def test_a_slow_site_does_not_last_longer_than_the_deadline(server: ThreadingHTTPServer) -> None:
    """A byte now and then does not extend it."""
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="S1"):
        HttpSite(address_of(server)).get("/slow", deadline=0.4)
    assert time.monotonic() - begun < 4


def test_a_site_that_does_not_answer_is_refused(server: ThreadingHTTPServer) -> None:
    """With the address in the message."""
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(NodeRefused, match=f"127.0.0.1:{port} does not answer"):
        HttpSite(address_of(server)).get("/", deadline=5)


def test_a_certificate_must_be_valid_for_the_name_of_the_site(
    server: ThreadingHTTPServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By the authorities that are named; the address of the node does not matter."""
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    folder = tmp_path_factory.mktemp("ca")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    secure = {"scheme": "https", "ca_file": str(folder / "ca.pem")}
    assert "GET / " == HttpSite(address_of(server, **secure)).get("/", deadline=10).text
    for wrong in ({"name": "other.example.org"}, {"ca_file": str(folder / "other.pem")}, {"ca_file": ""}):
        with pytest.raises(NodeRefused, match="no certificate that is trusted"):
            HttpSite(address_of(server, **{**secure, **wrong})).get("/", deadline=10)
    with pytest.raises(NodeRefused, match="authorities"):
        HttpSite(address_of(server, **{**secure, "ca_file": str(folder / "none.pem")}))
