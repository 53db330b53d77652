"""HTTPS to one node: connections, limits of an answer, TLS contexts."""

import http.client
import os
import ssl
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import trustme
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError

from tests.unit.workers.winrm.https_server import HttpsServer, Reply, answering
from workers.errors import DeadlineExceeded, InputRefused
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm import tls as tls_module
from workers.winrm import transport as module
from workers.winrm.answers import Answer, Unusable
from workers.winrm.bounded import Bound, NoAnswer, TooMuch
from workers.winrm.channel import Gate, Limit
from workers.winrm.logon import Post
from workers.winrm.not_connected import NotConnected
from workers.winrm.tls import context_for
from workers.winrm.transport import HttpsTransport

SECRET = Secret("planted")


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """Where the server's authority is written."""
    return tmp_path / "ca.pem"


def endpoint(port: int, ca_file: Path | None, transport: Transport = Transport.BASIC) -> Endpoint:
    """A node on loopback."""
    return Endpoint(
        node="S1", host="127.0.0.1", port=port, user="u", secret="env:X", transport=transport,
        ca_file=str(ca_file) if ca_file else None, connect_timeout=5,
    )  # fmt: skip


def transport_to(server: HttpsServer, ca_file: Path, transport: Transport = Transport.BASIC) -> HttpsTransport:
    """A transport that trusts the server."""
    server.authority.cert_pem.write_to_path(ca_file)
    found = HttpsTransport(endpoint(server.port, ca_file, transport), SECRET)
    found.allow(Limit("S1", 30), 5)
    return found


@pytest.fixture
def server() -> Iterator[HttpsServer]:
    """A server that answers `done`."""
    with answering() as running:
        yield running


def test_messages_share_one_connection(server: HttpsServer, ca_file: Path) -> None:
    """The counters add up, and every request has the headers of WinRM."""
    found = transport_to(server, ca_file)
    assert [b"done", b"done"] == [found.send_message("r\u00e9quest"), found.send_message(b"second")]
    assert (1, ["r\u00e9quest".encode(), b"second"]) == (server.connections, server.bodies)
    assert (2, 8 + 6, 8) == (found.round_trips, found.bytes_sent, found.bytes_received)
    assert {"application/soap+xml;charset=UTF-8"} == {headers["Content-Type"] for headers in server.headers}
    assert {"identity"} == {headers["Accept-Encoding"] for headers in server.headers}
    assert {"/wsman"} == {headers["path"] for headers in server.headers}
    assert all(headers["Authorization"].startswith("Basic ") for headers in server.headers)
    found.close_session()
    assert server.closed.wait(5)


def test_a_closed_session_opens_a_new_connection(server: HttpsServer, ca_file: Path) -> None:
    """Closing twice is allowed."""
    found = transport_to(server, ca_file)
    found.send_message(b"1")
    found.close_session()
    found.close_session()
    assert (b"done", 2) == (found.send_message(b"2"), server.connections)
    found.close_session()


@pytest.mark.parametrize("headers", [(), (("Connection", "close"),)])
def test_a_connection_that_the_node_ended_is_replaced(headers: tuple[tuple[str, str], ...], ca_file: Path) -> None:
    """Whether it announced that or not: nothing was sent over it, so sending is safe."""
    with answering(Reply(close=True, headers=headers), Reply()) as server:
        found = transport_to(server, ca_file)
        found.send_message(b"1")
        assert server.closed.wait(5)
        assert (b"done", 2) == (found.send_message(b"2"), server.connections)
        assert [b"1", b"2"] == server.bodies
        found.close_session()


def test_status_401_is_a_refusal_of_the_credentials(ca_file: Path) -> None:
    """With basic there is one attempt, also on a connection that was used before; the connection is closed."""
    with answering(Reply(), Reply(status=401), Reply()) as server:
        found = transport_to(server, ca_file)
        found.send_message(b"1")
        with pytest.raises(InvalidCredentialsError):
            found.send_message(b"2")
        assert (1, [b"1", b"2"]) == (server.connections, server.bodies)
        found.close_session()


def test_another_status_is_an_error_with_the_body(ca_file: Path) -> None:
    """The body has the fault of WinRM."""
    with answering(Reply(status=500, body=b"fault\xff")) as server:
        found = transport_to(server, ca_file)
        with pytest.raises(WinRMTransportError) as caught:
            found.send_message(b"1")
        assert (500, "fault\u00ff") == (caught.value.code, caught.value.response_text)
        found.close_session()


def test_ntlm_logs_on_once_per_connection_and_again_where_the_node_asks(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 401 on a connection that is logged on starts a new connection with a new logon."""
    logons: list[bytes] = []

    def negotiated(
        at: Endpoint, secret: object, certificate: bytes, message: bytes, post: Post, limit: Limit, gate: Gate
    ) -> Answer:
        limit.check()
        gate.admit()
        assert (SECRET, Transport.NTLM) == (secret, at.transport)
        assert certificate.startswith(b"\x30\x82")
        logons.append(message)
        return post(message, {"Authorization": "Negotiate x"})

    monkeypatch.setattr(module, "negotiated", negotiated)
    with answering(Reply(), Reply(), Reply(status=401), Reply()) as server:
        found = transport_to(server, ca_file, Transport.NTLM)
        for message in (b"1", b"2", b"3"):
            assert b"done" == found.send_message(message)
        assert ([b"1", b"3"], 2) == (logons, server.connections)
        assert ["Negotiate x", "", "", "Negotiate x"] == [one.get("Authorization", "") for one in server.headers]
        found.close_session()


@pytest.mark.parametrize(("status", "accepted"), [(200, ["accepted"]), (401, []), (500, [])])
def test_the_first_logon_passes_a_gate_and_later_ones_do_not(status: int, accepted: list[str], ca_file: Path) -> None:
    """Another status than 200 may say that the account is refused."""
    passed: list[str] = []
    with answering(Reply(status=status), Reply()) as server:
        server.authority.cert_pem.write_to_path(ca_file)
        gate = Gate(lambda: passed.append(f"{server.connections} connections"), lambda: passed.append("accepted"))
        found = HttpsTransport(endpoint(server.port, ca_file), SECRET, gate)
        found.allow(Limit("S1", 30), 5)
        with nullcontext() if status == 200 else pytest.raises((WinRMTransportError, InvalidCredentialsError)):
            found.send_message(b"1")
        assert ["1 connections", *accepted] == passed
        found.close_session()
        found.send_message(b"2")
        later = [] if accepted else ["2 connections", "accepted"]
        assert ["1 connections", *accepted, *later] == passed
        found.close_session()


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(status=302, headers=(("Location", "http://x/"),)), Unusable, "sent a redirect (HTTP 302 to http://x/)"),
        (Reply(status=300), Unusable, "sent a redirect (HTTP 300 to no address)"),
        (Reply(status=399), Unusable, "sent a redirect (HTTP 399 to no address)"),
        (Reply(headers=(("Content-Encoding", "gzip"),)), Unusable, "content encoding that was not requested: gzip"),
        (Reply(b"<!DOCTYPE a>"), Unusable, "sent XML that defines entities or is not UTF-8"),
        (Reply(b"a\0"), Unusable, "sent XML that defines entities or is not UTF-8"),
        (Reply(b"<" * 25_000 + b"=" * 25_001), TooMuch, ""),
        (Reply(raw=b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nshort", close=True), http.client.IncompleteRead, ""),
        (Reply(raw=b"no HTTP\r\n\r\n", close=True), http.client.BadStatusLine, ""),
    ],
)
def test_an_invalid_answer_closes_the_connection(
    reply: Reply, kind: type[Exception], message: str, ca_file: Path
) -> None:
    """It is not parsed."""
    with answering(reply, Reply()) as server:
        found = transport_to(server, ca_file)
        with pytest.raises(kind) as caught:
            found.send_message(b"1")
        assert message in str(caught.value)
        assert (b"done", 2) == (found.send_message(b"2"), server.connections)
        found.close_session()


def test_an_answer_at_the_limits_is_accepted(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many elements as allowed, as many bytes as allowed; status 299 and 400 are no redirects."""
    monkeypatch.setattr(module, "ANSWER_LIMIT", 50_000)
    identity = (("Content-Encoding", " Identity "),)
    body = b"<" * 25_000 + b"=" * 25_000
    replies = [Reply(body, headers=identity), Reply(status=299), Reply(status=400), Reply(body + b"x"), Reply(body * 9)]
    with answering(*replies) as server:
        found = transport_to(server, ca_file)
        assert body == found.send_message(b"1")
        for status in (299, 400):
            with pytest.raises(WinRMTransportError) as caught:
                found.send_message(b"2")
            assert status == caught.value.code
        for _ in range(2):
            with pytest.raises(TooMuch):
                found.send_message(b"3")
        found.close_session()


def test_an_answer_without_a_length_is_read_to_its_end(ca_file: Path) -> None:
    """The connection is not used again."""
    with answering(Reply(raw=b"HTTP/1.1 200 X\r\n\r\nall of it", close=True), Reply()) as server:
        found = transport_to(server, ca_file)
        assert b"all of it" == found.send_message(b"1")
        assert (b"done", 2) == (found.send_message(b"2"), server.connections)
        found.close_session()


def test_a_closed_port_and_an_untrusted_certificate_send_nothing(server: HttpsServer, ca_file: Path) -> None:
    """Both are failures before anything was sent; only the second one is of TLS."""
    other = ca_file.with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(other)
    for ca, port, tls, reason in (
        (other, server.port, True, ssl.SSLCertVerificationError),
        (other, 1, False, ConnectionRefusedError),
    ):
        found = HttpsTransport(endpoint(port, ca), SECRET)
        found.allow(Limit("S1", 30), 5)
        with pytest.raises(NotConnected) as caught:
            found.send_message(b"1")
        assert (tls, reason) == (caught.value.tls, type(caught.value.reason))
        assert str(caught.value.reason) == str(caught.value)
    assert [] == server.bodies


def test_a_name_that_the_certificate_does_not_have_is_not_trusted(server: HttpsServer, ca_file: Path) -> None:
    """The chain alone is not enough."""
    server.authority.cert_pem.write_to_path(ca_file)
    found = HttpsTransport(endpoint(server.port, ca_file).model_copy(update={"host": "localhost"}), SECRET)
    found.allow(Limit("S1", 30), 5)
    with pytest.raises(NotConnected, match="certificate verify failed"):
        found.send_message(b"1")


def test_connecting_has_the_smaller_of_two_times(monkeypatch: pytest.MonkeyPatch, ca_file: Path) -> None:
    """The endpoint's and the message's; the caller's limit counts as well."""
    trustme.CA().cert_pem.write_to_path(ca_file)
    seconds: list[float] = []

    def connected(_host: str, _port: int, bound: Bound) -> None:
        seconds.append(bound._seconds)
        raise NoAnswer

    monkeypatch.setattr(module, "connected", connected)
    found = HttpsTransport(endpoint(1, ca_file), SECRET)
    for allowed in (3, 8):
        found.allow(Limit("S1", 30), allowed)
        with pytest.raises(NotConnected):
            found.send_message(b"1")
    assert [3, 5] == seconds
    monkeypatch.undo()
    fresh = HttpsTransport(endpoint(1, ca_file), SECRET)
    with pytest.raises((NotConnected, DeadlineExceeded)):
        fresh.send_message(b"1")


def test_all_nodes_of_an_authority_share_one_context(ca_file: Path) -> None:
    """Loading the certificates takes longer than a connection; a changed file is read again."""
    trustme.CA().cert_pem.write_to_path(ca_file)
    first, second = (context_for(endpoint(port, ca_file), SECRET) for port in (1, 2))
    system, again = (context_for(endpoint(port, None), SECRET) for port in (1, 2))
    trustme.CA().cert_pem.write_to_path(ca_file)
    changed = context_for(endpoint(1, ca_file), SECRET)
    assert (True, True, False, False) == (first is second, system is again, first is system, changed is first)
    assert (1, 1) == (len(first.get_ca_certs()), len(changed.get_ca_certs()))
    assert len(system.get_ca_certs()) != 1
    for context in (first, system):
        assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
        assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_client_certificate_is_loaded_from_the_secret(ca_file: Path) -> None:
    """Each node has its own context then; the server requires the certificate."""
    clients = trustme.CA()
    pair = clients.issue_cert("client@example.org")
    pem = Secret(pair.private_key_and_cert_chain_pem.bytes().decode())
    with answering(client=clients) as server:
        server.authority.cert_pem.write_to_path(ca_file)
        at = endpoint(server.port, ca_file, Transport.CERTIFICATE)
        found = HttpsTransport(at, pem)
        found.allow(Limit("S1", 30), 5)
        assert b"done" == found.send_message(b"1")
        assert server.headers[0]["Authorization"].startswith("http")
        assert found._context is not HttpsTransport(at, pem)._context
        found.close_session()
    without_ca = context_for(at.model_copy(update={"ca_file": None}), pem)
    assert len(without_ca.get_ca_certs()) != 1
    with pytest.raises(InputRefused, match="S1: the secret is not a PEM of certificate and key") as caught:
        HttpsTransport(at, Secret("planted"))
    assert caught.value.__cause__ is None
    assert "planted" not in repr(caught.value)


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, too large, without certificates; a link to a file is fine."""
    empty, large, link = tmp_path / "empty.pem", tmp_path / "large.pem", tmp_path / "link.pem"
    empty.write_text("no certificates")
    with pytest.raises(ValueError, match="embedded null") as words:  # each version of Python has its own
        os.lstat("a\0b")
    for path, message in (
        (tmp_path / "none.pem", "does not exist"),
        (tmp_path, "cannot be read: Is a directory"),
        (Path("/dev/null"), "contains no certificates"),
        (empty, "contains no certificates"),
        (empty / "below", "cannot be read: Not a directory"),
        (tmp_path / "a\0b", f"cannot be read: {words.value}"),
    ):
        with pytest.raises(InputRefused) as caught:
            HttpsTransport(endpoint(1, path), SECRET)
        assert (f"the CA file {path} {message}", str(path)) == (caught.value.message, caught.value.file)
        assert caught.value.remedy
    trustme.CA().cert_pem.write_to_path(large)
    link.symlink_to(large)
    monkeypatch.setattr(tls_module, "_CA_LIMIT", large.stat().st_size)
    HttpsTransport(endpoint(1, link), SECRET)
    monkeypatch.setattr(tls_module, "_CA_LIMIT", large.stat().st_size - 1)
    with pytest.raises(InputRefused, match="contains no certificates"):
        HttpsTransport(endpoint(1, link), SECRET)


def test_the_limits_of_an_answer() -> None:
    """Bytes of body and headers, elements, bytes of a CA file; a foreign text in a message is cut to 40 characters."""
    assert (2_097_152, 65_536, 50_000, 5_242_880) == (
        module.ANSWER_LIMIT, module._HEAD_LIMIT, module._ELEMENTS, tls_module._CA_LIMIT,
    )  # fmt: skip
    with pytest.raises(Unusable, match=r"not requested: x{40}$"):
        module._expected(Answer(200, b""), "x" * 50)
    with pytest.raises(Unusable, match=r"to y{200}\)$"):
        module._expected(Answer(302, b"", location="y" * 300), "identity")


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("srv_1.example", "srv_1.example"),
        ("2001:db8::7", "[2001:db8::7]"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_request_is_one_piece_that_names_host_and_length(host: str, named: str) -> None:
    """As HTTP/1.1 wants them: an IPv6 address in brackets, an international name in its ASCII form."""
    at = Endpoint(node="S1", host=host, port=5986, user="u", secret="env:X")
    head, _, body = module._request(at, {"Authorization": "Basic x"}, b"\r\n\r\nbody").partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert ("POST /wsman HTTP/1.1", b"\r\n\r\nbody") == (first, body)
    assert (f"{named}:5986", "8", "Basic x") == tuple(fields[n] for n in ("Host", "Content-Length", "Authorization"))
