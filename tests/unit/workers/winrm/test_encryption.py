"""The envelope of encrypted messages: whatever arrives is the message of this logon, or is refused."""

import struct
from typing import Any

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from spnego import ContextReq

from workers.records import Transport
from workers.winrm import encryption
from workers.winrm.encryption import Encryption, NotEncrypted, weak_session

HEAD = b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
KIND = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'


class Turned:
    """Keys that turn bytes around: enough to see what is encrypted."""

    context_attr = ContextReq.confidentiality | ContextReq.integrity

    def wrap_winrm(self, data: bytes) -> tuple[bytes, bytes, int]:
        """Encrypts."""
        return b"head", data[::-1], 0

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        """Decrypts."""
        if header != b"head":
            raise ValueError(header)
        return data[::-1]


def with_keys(transport: Transport = Transport.NTLM, **different: Any) -> Encryption:  # noqa: ANN401 - attributes
    """The encryption of a logon."""
    keys: Any = Turned()
    for name, value in different.items():
        setattr(keys, name, value)
    return Encryption(keys, transport)


@given(st.binary(max_size=40_000), st.sampled_from(sorted(encryption.ENCRYPTING)))
def test_what_is_sealed_opens(message: bytes, transport: Transport) -> None:
    """Every message, with every method; CredSSP in parts of at most a TLS record."""
    keys = with_keys(transport)
    body, headers = keys.sealed(message)
    assert message == keys.opened(body, headers["Content-Type"])
    parts = body.count(b"octet-stream")
    assert parts == (max(1, -(-len(message) // 16384)) if transport is Transport.CREDSSP else 1)
    assert ("x-multi-encrypted" in headers["Content-Type"]) == (parts > 1)


def test_the_envelope_is_that_of_the_specification() -> None:
    """Byte by byte, as MS-WSMV 2.2.9.1 has it; the length is that of the message."""
    body, headers = with_keys().sealed(b"<a/>")
    assert (
        HEAD
        + b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=4\r\n--Encrypted Boundary\r\n"
        + b"\tContent-Type: application/octet-stream\r\n\x04\0\0\0head>/a<--Encrypted Boundary--\r\n"
    ) == body
    assert {"Content-Type": KIND} == headers


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(body: bytes) -> None:
    """Whatever a node sends, also after a right beginning."""
    for data in (body, HEAD + body, with_keys().sealed(b"x")[0][:-24] + body):
        with pytest.raises(NotEncrypted):
            with_keys().opened(data, KIND)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"Length=4", b"Length=5", "of another length"),
        (b"Length=4", b"", "invalid part"),
        (b"\x04\0\0\0", b"\xff\xff\xff\xff", "invalid security header"),
        (b"\x04\0\0\0", b"\xff\0\0\0", "invalid security header"),
        (b"head", b"heap", "cannot be decrypted"),
        (b"--Encrypted Boundary--\r\n", b"", "without its parts"),
        (b"--Encrypted Boundary--\r\n", b"--Encrypted Boundary--\r\nmore", "without its parts"),
    ],
)
def test_each_damage_is_said(old: bytes, new: bytes, said: str) -> None:
    """Nothing of a damaged answer is used."""
    body = with_keys().sealed(b"<a/>")[0]
    with pytest.raises(NotEncrypted, match=said):
        with_keys().opened(body.replace(old, new, 1), KIND)


@pytest.mark.parametrize("kind", ["", "application/soap+xml", "multipart/mixed"])
def test_an_answer_without_encryption_is_refused(kind: str) -> None:
    """Also with the right bytes."""
    with pytest.raises(NotEncrypted, match="is not encrypted"):
        with_keys().opened(with_keys().sealed(b"<a/>")[0], kind)


@pytest.mark.parametrize("attributes", [0, ContextReq.integrity, ContextReq.confidentiality])
def test_a_logon_without_encryption_is_refused(attributes: int) -> None:
    """Integrity and confidentiality; CredSSP is TLS, and has both."""
    with pytest.raises(NotEncrypted, match="no encryption"):
        with_keys(context_attr=attributes)
    assert with_keys(Transport.CREDSSP, context_attr=attributes).sealed(b"x")


def test_keys_that_expire_soon_are_not_used() -> None:
    """Those of a ticket with less time left than an answer may take; others never expire."""
    for seconds, expiring in ((None, False), (89, True), (91, False)):
        held = type("Held", (), {"lifetime": seconds})()
        assert expiring is with_keys(_context=held).expiring


@given(st.integers(0, 31))
def test_a_challenge_that_lacks_a_protection_is_weak(bit: int) -> None:
    """Sign, seal, extended session security, keys of 128 bits, key exchange: an attacker could take each away."""
    client = spnego.client("u", "p", protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
    (flags,) = struct.unpack_from("<I", client.step() or b"", 12)
    challenge = b"NTLMSSP\0\2\0\0\0" + bytes(8) + struct.pack("<I", flags & ~(1 << bit)) + bytes(24)
    assert weak_session(challenge) is (bit in {4, 5, 19, 29, 30})
    assert not weak_session(b"no NTLM")
