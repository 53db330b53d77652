"""Identifies any certificate file, for `esync certs inspect`."""

import hashlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from contextlib import suppress
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tasks.ektron.certificates.encoded import der_of, encode
from tasks.ektron.certificates.family import node_of, weaknesses
from tasks.ektron.certificates.files import describe_certificate, key_of_cer, key_of_pfx, key_of_pvk
from tasks.ektron.certificates.pvk import is_pvk
from tasks.ektron.facts.values import CertificateFacts, Fact
from tasks.ektron.refusals import CertificateRefused

__all__ = ["Inspected", "inspect"]


_PEM = b"-----BEGIN "
_SEQUENCE = b"\x30"  #: first byte of every DER file


class Inspected(Fact):
    """A certificate file.

    Attributes:
        what: the format, for people.
        node: the node in the file name; empty when the name is not the name of a family file.
        certificate: the public part, when the file contains a certificate.
        key: short digest of the public key, equal in all files of one key pair.
        key_bits: size of the RSA key.
        private: whether the file contains the private key.
        encoded_value: the value for the configuration files, when the file contains a certificate.
        notes: weaknesses, and a file name that does not match the content.
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
    """Identifies a file by its content, then compares its name with the result.

    Args:
        name: the file name, without folder.
        data: its content.
        now: the time for notes about validity.
        passwords: tried after the blank one.

    Raises:
        CertificateRefused: it is no known kind of file, or no password opens it.
    """
    if is_pvk(data):
        return _inspected("private key (.pvk)", name, key_of_pvk(data, next(iter(passwords), None)).public_key())
    if b"PRIVATE KEY-----" in data:
        _require_no_password(data)
        return _inspected("private key (PEM text)", name, key_of_pvk(data).public_key(), notes=_of_several(data))
    try:
        public = key_of_cer(data)
    except CertificateRefused:
        if _node_and_kind(name)[1].endswith(".cer") or _PEM in data or _is_certificate(data):
            raise
        if data and not data.startswith(_SEQUENCE):
            raise _unknown(name, data) from None
        key, certificate = key_of_pfx(data, passwords)
        return _inspected("key and certificate (.pfx)", name, key.public_key(), certificate, now)
    kind = "PEM text" if der_of(data) != data else ".cer"
    return _inspected(f"certificate ({kind})", name, public, der_of(data), now, _of_several(data))


def _require_no_password(key: bytes) -> None:
    """Passes unless a key in PEM text has a password.

    Raises:
        CertificateRefused: it has one.
    """
    if b"ENCRYPTED" in key:
        raise CertificateRefused(
            "this is a private key in PEM text, and it has a password",
            remedy="the product needs a .pvk file: openssl rsa -in FILE -outform PVK -pvk-none -out NAME.pvk",
        )


def _is_certificate(data: bytes) -> bool:
    with suppress(CertificateRefused):
        return bool(describe_certificate(data))
    return False


def _unknown(name: str, data: bytes) -> CertificateRefused:
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return CertificateRefused(
            "this is text in UTF-16, as `>` of Windows PowerShell writes it",
            remedy="export the certificate as a file, or save the text as ASCII",
        )
    return CertificateRefused(
        "this is not a certificate, .pfx or .pvk file",
        remedy="copy the file again from the origin"
        if node_of(name)
        else "name .pfx, .pvk or .cer files, or their folder",
    )


def _of_several(text: bytes) -> tuple[str, ...]:
    """What else is in a file of PEM text."""
    count = text.count(_PEM)
    return (f"the first of {count} certificates and keys in this file",) if count > 1 else ()


def _inspected(
    what: str,
    name: str,
    public: RSAPublicKey,
    certificate: bytes | None = None,
    now: datetime | None = None,
    notes: tuple[str, ...] = (),
) -> Inspected:
    node, kind = _node_and_kind(name)
    facts = describe_certificate(certificate) if certificate else None
    found = [*notes, *(text for text, _ in weaknesses(facts, now))] if facts and now else [*notes]
    suffix = kind.rpartition(".")[2]
    if kind and f"(.{suffix})" not in what:
        found.append(f"the file name is for a .{suffix} file")
    return Inspected(
        what=what,
        node=node,
        certificate=facts,
        key=hashlib.sha256(f"{public.public_numbers().n:x}".encode()).hexdigest()[:16],
        key_bits=public.key_size,
        private="key" in what,
        encoded_value=encode(certificate) if certificate else "",
        notes=tuple(found),
    )


def _node_and_kind(name: str) -> tuple[str, str]:
    return node_of(name) or ("", "")
