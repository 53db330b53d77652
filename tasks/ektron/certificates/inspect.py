"""What is this file? For `esync certs inspect`: any certificate file, told in one screen."""

import hashlib
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tasks.ektron.certificates.family import node_of, weaknesses
from tasks.ektron.certificates.files import (
    der_of,
    describe_certificate,
    encode,
    key_of_cer,
    key_of_pfx,
    key_of_pvk,
)
from tasks.ektron.certificates.pvk import is_pvk
from tasks.ektron.facts import CertificateFacts, Fact
from tasks.ektron.refusals import CertificateRefused

__all__ = ["Inspected", "inspect"]


_SEQUENCE = b"\x30"  #: what any DER begins with


class Inspected(Fact):
    """A certificate file.

    Attributes:
        what: the format, for people.
        node: the node its name is for; empty when the name is no family file's.
        certificate: the public part, where the file holds a certificate.
        key: short digest of the public key: files of one pair have the same.
        key_bits: size of the RSA key.
        private: whether the private key is in the file.
        encoded_value: what the configuration files would hold for it, where it holds a certificate.
        notes: weaknesses, and a name that promises something else.
    """

    what: str
    node: str = ""
    certificate: CertificateFacts | None = None
    key: str
    key_bits: int
    private: bool = False
    encoded_value: str = ""
    notes: tuple[str, ...] = ()


def inspect(name: str, data: bytes, now: datetime, *, passwords: tuple[str, ...] = ()) -> Inspected:
    """What a file is, judged by its bytes; its name is only compared with that.

    Args:
        name: the file's name, without folder.
        data: its content.
        now: for what is said about dates.
        passwords: tried after the blank one.

    Raises:
        CertificateRefused: it is none of the kinds, or no password opens it.
    """
    named = node_of(name)
    if is_pvk(data):
        return _inspected("private key (.pvk)", name, key_of_pvk(data, next(iter(passwords), None)).public_key())
    if b"PRIVATE KEY-----" in data:
        return _inspected("private key (PEM text)", name, key_of_pvk(data).public_key())
    try:
        public = key_of_cer(data)
    except CertificateRefused:
        if named and named[1].endswith(".cer"):
            raise
        if data and not data.startswith(_SEQUENCE):
            raise CertificateRefused(
                "this is no certificate, no .pfx and no .pvk file", remedy="copy the file again from the origin"
            ) from None
        key, certificate = key_of_pfx(data, passwords)
        return _inspected("key and certificate (.pfx)", name, key.public_key(), certificate, now)
    wrapped = " (PEM text)" if der_of(data) != data else " (.cer)"
    return _inspected(f"certificate{wrapped}", name, public, der_of(data), now)


def _inspected(
    what: str, name: str, public: RSAPublicKey, certificate: bytes | None = None, now: datetime | None = None
) -> Inspected:
    named = node_of(name)
    facts = describe_certificate(certificate) if certificate else None
    notes = [text for text, _ in weaknesses(facts, now)] if facts and now else []
    suffix = name.casefold().rpartition(".")[2]
    if named and f"(.{suffix})" not in what:
        notes.append(f"its name promises a .{suffix} file")
    return Inspected(
        what=what,
        node=named[0] if named else "",
        certificate=facts,
        key=hashlib.sha256(f"{public.public_numbers().n:x}".encode()).hexdigest()[:16],
        key_bits=public.key_size,
        private="key" in what,
        encoded_value=encode(certificate) if certificate else "",
        notes=tuple(notes),
    )
