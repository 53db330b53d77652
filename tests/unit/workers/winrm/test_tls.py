"""Whom a connection trusts: real listeners with old, weak, nameless and replaced certificates."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.winrm.https_server import HttpsServer, answering
from workers.errors import Unreachable
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.channel import Limit
from workers.winrm.faults import Phase, mapped
from workers.winrm.listener import grouped, listener_certificate
from workers.winrm.not_connected import NotConnected, fingerprint_of
from workers.winrm.tls import fetch_certificate
from workers.winrm.transport import HttpsTransport

NAMED = ("-addext", "subjectAltName=IP:127.0.0.1")


def made(folder: Path, *options: str, key: str = "rsa:2048") -> Path:
    """A self-signed certificate with its key, by OpenSSL: our own code cannot be the judge of what is weak."""
    pem = folder / "listener.pem"
    command = ["openssl", "req", "-x509", "-newkey", key, "-nodes", "-subj", "/CN=old-server", "-days", "30"]
    subprocess.run(
        [*command, *options, "-keyout", str(folder / "key"), "-out", str(folder / "cert")],
        check=True,
        capture_output=True,
    )
    pem.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return pem


def serving(pem: Path) -> ssl.SSLContext:
    """A server's context that shows anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(pem)
    return context


@contextmanager
def listener(folder: Path, *options: str, key: str = "rsa:2048") -> Iterator[tuple[HttpsServer, str]]:
    """A listener with a certificate that OpenSSL made, and its fingerprint as OpenSSL prints it."""
    with answering(context=serving(made(folder, *options, key=key))) as server:
        command = ["openssl", "x509", "-in", str(folder / "cert"), "-noout", "-fingerprint", "-sha256"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield server, printed.strip().partition("=")[2]


def at(server: HttpsServer, **different: object) -> Endpoint:
    """The endpoint of a listener."""
    known = {"node": "S1", "host": "127.0.0.1", "port": server.port, "user": "u", "secret": "env:X"}
    return Endpoint.model_validate({**known, "transport": Transport.BASIC, "connect_timeout": 5} | different)


def answer_of(endpoint: Endpoint) -> bytes:
    """What the node answers to a message."""
    transport = HttpsTransport(endpoint, Secret("planted"))
    transport.allow(Limit("S1", 30), 5)
    try:
        with mapped(endpoint, Phase.OPENING):
            return transport.send_message(b"message")
    finally:
        transport.close_session()


def refused(server: HttpsServer, **different: object) -> Unreachable:
    """Why a node is not connected; nothing was sent to it."""
    with pytest.raises(Unreachable) as caught:
        answer_of(at(server, **different))
    assert [] == server.bodies
    return caught.value


@pytest.mark.parametrize(
    ("options", "key", "said", "remedy"),
    [
        (NAMED, "rsa:1024", "a TLS certificate with a key of 1024 bits", "at least 2048 bits"),
        ((), "rsa:2048", "without a subject alternative name: its subject old-server", "-DnsName"),
        (("-addext", "subjectAltName=DNS:p1.example.org"), "rsa:2048", "valid for p1.example.org, not for 127.0.0.1",
         "use a name of the certificate as `host`"),
    ],
)  # fmt: skip
def test_a_weakness_is_named_and_a_pin_accepts_it(
    tmp_path: Path, options: tuple[str, ...], key: str, said: str, remedy: str
) -> None:
    """Each has a sentence and a remedy of its own; the remedy contains the pin, which connects."""
    with listener(tmp_path, *options, key=key) as (server, fingerprint):
        error = refused(server, ca_file=str(tmp_path / "cert"))
        assert said in error.message
        assert remedy in error.remedy
        assert f'fingerprint: "{fingerprint}"' in error.remedy
        assert b"done" == answer_of(at(server, fingerprint=fingerprint.replace(":", "").lower()))


def test_a_sha1_signature_of_an_authority_is_named(tmp_path: Path) -> None:
    """TLS checks the signatures below what it trusts."""
    made(tmp_path, "-sha256")
    (tmp_path / "ca.pem").write_text((tmp_path / "cert").read_text())
    (tmp_path / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=leaf", "-keyout", "leaf.key", "-out", "leaf.csr"],
        ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "key", "-CAcreateserial", "-sha1",
         "-extfile", "extensions", "-out", "leaf.cer"],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True, cwd=tmp_path)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "leaf.key").read_text() + (tmp_path / "leaf.cer").read_text())
    with answering(context=serving(both)) as server:
        error = refused(server, ca_file=str(tmp_path / "ca.pem"))
        assert "has a TLS certificate with a SHA-1 signature, which TLS of this machine refuses" in error.message
        assert "a SHA-256 signature, or pin this certificate" in error.remedy


def test_a_self_signed_certificate_is_pinned_or_trusted_itself(tmp_path: Path) -> None:
    """The message says both ways, and both connect."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with listener(tmp_path, *NAMED) as (server, fingerprint):
        error = refused(server, ca_file=str(other))
        assert f"has a self-signed TLS certificate that is not in {other}" in error.message
        assert fingerprint in error.remedy
        assert "put the certificate itself into a `ca_file`" in error.remedy
        assert b"done" == answer_of(at(server, ca_file=str(tmp_path / "cert")))


def test_an_issuing_authority_is_named_and_need_not_be_a_root(tmp_path: Path) -> None:
    """A listener that does not send its issuing authority: the file may contain that one alone."""
    root = trustme.CA()
    issuing = root.create_child_ca()
    leaf = issuing.issue_cert("127.0.0.1")
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "leaf.pem"
    pem.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    alone.load_cert_chain(pem)
    root.cert_pem.write_to_path(tmp_path / "root.pem")
    issuing.cert_pem.write_to_path(tmp_path / "issuing.pem")
    with answering(context=alone) as server:
        error = refused(server, ca_file=str(tmp_path / "root.pem"))
        assert f"which is not trusted by {tmp_path / 'root.pem'}" in error.message
        issuer = x509.load_pem_x509_certificate(issuing.cert_pem.bytes()).subject.rfc4514_string()
        assert f"was issued by {issuer}" in error.message
        assert "(it need not be a root)" in error.remedy
        assert b"done" == answer_of(at(server, ca_file=str(tmp_path / "issuing.pem")))


def test_a_replaced_certificate_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    """The pin decides alone: also a certificate of a trusted authority is refused then."""
    with answering() as server:
        server.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        error = refused(server, fingerprint="ab" * 32, ca_file=str(tmp_path / "ca.pem"))
        shown = grouped(fingerprint_of(fetch_certificate("127.0.0.1", server.port, 5)))
        assert "has another TLS certificate than the pinned one" in error.message
        assert f"pinned is SHA-256 {grouped('ab' * 32)}, it shows {shown}" in error.message
        assert "correct `fingerprint`" in error.remedy


def test_an_expired_certificate_is_said_with_its_dates(tmp_path: Path) -> None:
    """And not as one that is not trusted."""
    authority = trustme.CA()
    begins, ends = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with answering(context=context) as server:
        error = refused(server, ca_file=str(tmp_path / "ca.pem"))
        assert "out of date: valid from 2020-01-01 to 2021-01-01" in error.message


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
def test_a_listener_with_tls_1_0_only_is_named_and_accepted_on_request(tmp_path: Path) -> None:
    """Both ways out are in the remedy: TLS 1.2 there, or `tls_minimum` here."""
    context = serving(made(tmp_path, *NAMED))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1
    with answering(context=context) as server:
        error = refused(server, ca_file=str(tmp_path / "cert"))
        assert "speaks only TLS versions older than 1.2" in error.message
        assert "enable TLS 1.2 on the server" in error.remedy
        assert 'tls_minimum: "1.0"' in error.remedy
        assert b"done" == answer_of(at(server, ca_file=str(tmp_path / "cert"), tls_minimum="1.0"))
        shown = fetch_certificate("127.0.0.1", server.port, 5)
        pinned = at(server, fingerprint=fingerprint_of(shown), tls_minimum="1.0")
        assert b"done" == answer_of(pinned)


def test_a_port_that_speaks_http_is_named(tmp_path: Path) -> None:
    """5985 in place of 5986: the remedy has both ways to correct it."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with answering(plain=True) as server:
        error = refused(server, ca_file=str(tmp_path / "ca.pem"))
        assert "does not speak TLS on this port" in error.message
        assert "`scheme: http`" in error.remedy
        with pytest.raises(NotConnected) as caught:
            fetch_certificate("127.0.0.1", server.port, 5)
        assert caught.value.tls


def test_what_a_certificate_says_is_read(tmp_path: Path) -> None:
    """Names, key, signature and fingerprint, as OpenSSL has them."""
    with listener(tmp_path, *NAMED) as (server, fingerprint):
        shown = listener_certificate(fetch_certificate("127.0.0.1", server.port, 5))
        assert shown
        assert ("old-server", True, ("127.0.0.1",), 2048, "sha256", fingerprint) == (
            shown.subject, shown.self_signed, shown.names, shown.bits, shown.digest, grouped(shown.fingerprint),
        )  # fmt: skip
    with pytest.raises(NotConnected) as caught:
        fetch_certificate("127.0.0.1", server.port, 5)
    assert not caught.value.tls


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_none(data: bytes) -> None:
    """Whatever a node sends."""
    assert listener_certificate(data) is None
