"""Ports that speak something else than WinRM: real servers on loopback, and what the operator reads."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.workers.winrm.https_server import Reply, answering
from workers.errors import AccessDenied, EsyncError, LogonRefused, MethodRefused, NodeRefused, Unreachable
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.session import open_session

RDP = bytes.fromhex("030000130ed000001234000200080002000000")


def says_first(banner: bytes) -> Callable[[socket.socket], None]:
    """A server that greets its client."""

    def serve(client: socket.socket) -> None:
        client.sendall(banner)
        client.recv(1000)

    return serve


def speaks_http(client: socket.socket) -> None:
    """A web server without TLS."""
    client.recv(1000)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")


def speaks_rdp(client: socket.socket) -> None:
    """It answers connection requests only, and ends the connection at anything else."""
    if client.recv(1000).startswith(b"\x03\x00"):
        client.sendall(RDP)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that handles each connection with the function."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, suppress(OSError):
                        serve(client)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def refusal(port: int, transport: Transport = Transport.NTLM, ca_file: Path | None = None) -> EsyncError:
    """The error of a session with that port."""
    at = Endpoint(
        node="S1",
        host="127.0.0.1",
        port=port,
        user="u",
        secret="env:X",
        transport=transport,
        ca_file=str(ca_file) if ca_file else None,
        connect_timeout=60,
    )
    with pytest.raises(EsyncError) as caught:
        open_session(at, Secret("planted"), deadline=20)
    assert "planted" not in f"{caught.value} {caught.value.remedy}"
    return caught.value


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (says_first(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "is an SSH server on this port, not WinRM: 'SSH-2.0-Op"),
        (says_first(b"220 mail.example ESMTP\r\n"), "is a mail or FTP server on this port"),
        (speaks_http, "speaks HTTP without TLS on this port: 'HTTP/1.1 400 Bad Request"),
        (speaks_rdp, "is a remote desktop service (RDP) on this port"),
        (says_first(b"hello, I am something else\n"), "is not HTTP, when asked to open a shell: 'hello, I am"),
    ],
)
def test_a_port_without_tls_is_called_by_what_it_is(serve: Callable[[socket.socket], None], says: str) -> None:
    """It is no question of time, so there is one attempt."""
    with listening(serve) as port:
        found = refusal(port)
    assert NodeRefused is type(found)
    assert f"failed the TLS handshake: it {says}" in found.message


def test_a_server_that_ends_every_connection_stays_unreachable() -> None:
    """It may be starting; nothing is assumed about it."""
    with listening(lambda _: None) as port:
        found = refusal(port)
    assert Unreachable is type(found)
    assert "failed the TLS handshake" in found.message


PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
ANSWERS: dict[str, tuple[Reply, Transport, type[EsyncError], str]] = {
    "a login page": (
        Reply(PAGE),
        Transport.BASIC,
        NodeRefused,
        "sent the web page 'Sign in' instead of an answer of WinRM",
    ),
    "a small page": (Reply(b"<html>It works!"), Transport.BASIC, NodeRefused, "sent a web page ('<html>It works!')"),
    "403": (Reply(PAGE, 403), Transport.BASIC, AccessDenied, "does not allow u to use WinRM (HTTP 403)"),
    "404": (Reply(status=404), Transport.BASIC, NodeRefused, "has no /wsman, so it is not WinRM"),
    "404 of Windows": (
        Reply(PAGE, 404, (("Server", "Microsoft-HTTPAPI/2.0"),)),
        Transport.BASIC,
        NodeRefused,
        "Windows answers on this port, but no WinRM listener",
    ),
    "405": (Reply(status=405), Transport.BASIC, NodeRefused, "does not allow POST to /wsman, so it is not WinRM"),
    "411": (Reply(status=411), Transport.NTLM, NodeRefused, "HTTP status 411"),
    "413": (Reply(status=413), Transport.NTLM, NodeRefused, "the request is too large"),
    "500": (
        Reply(b"oops", 500),
        Transport.BASIC,
        NodeRefused,
        "HTTP status 500 (internal error) and no fault of WinRM; it sent 'oops'",
    ),
    "503": (Reply(PAGE, 503), Transport.BASIC, Unreachable, "is too busy"),
    "a page for a proxy": (Reply(PAGE, 407), Transport.NTLM, NodeRefused, "a proxy on the way requires its own logon"),
    "NTLM restricted": (
        Reply(status=401, headers=(("WWW-Authenticate", "Negotiate"),)),
        Transport.NTLM,
        LogonRefused,
        "before it could judge a password; it offers Negotiate",
    ),
    "Basic not offered": (
        Reply(status=401, headers=(("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Kerberos"))),
        Transport.BASIC,
        MethodRefused,
        "does not offer the logon method Basic; it offers Negotiate, Kerberos",
    ),
    "NTLM not offered": (
        Reply(status=401, headers=(("WWW-Authenticate", 'Basic realm="WSMAN"'), ("WWW-Authenticate", "Kerberos"))),
        Transport.NTLM,
        MethodRefused,
        "does not offer the logon method Negotiate; it offers Basic, Kerberos",
    ),
    "another protocol in TLS": (
        Reply(raw=b"SSH-2.0-x\r\n", close=True),
        Transport.BASIC,
        NodeRefused,
        "is an SSH server on this port",
    ),
    "no WS-Management": (Reply(b"<a/>"), Transport.BASIC, NodeRefused, "when asked to open a shell: '<a/>'"),
}


@pytest.mark.parametrize(("reply", "transport", "kind", "says"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_without_a_fault_of_winrm_is_called_by_what_it_is(
    reply: Reply, transport: Transport, kind: type[EsyncError], says: str, tmp_path: Path
) -> None:
    """From a real server over TLS, through transport, logon and the library for messages."""
    with answering(reply) as server:
        server.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        found = refusal(server.port, transport, tmp_path / "ca.pem")
    assert kind is type(found)
    assert says in found.message
    assert found.remedy
