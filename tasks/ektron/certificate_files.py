"""Reads one certificate file each: `.cer`, `.pfx`, `.pvk`, and text (PEM) where binary is expected."""

import base64
import binascii
import hashlib
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from tasks.ektron.facts import CertificateFacts
from tasks.ektron.pvk import is_pvk, read_pvk
from tasks.ektron.refusals import CertificateRefused

__all__ = ["der_of", "describe_certificate", "encode", "key_of_cer", "key_of_pfx", "key_of_pvk", "thumbprint"]

_MAX_FILE = 1 << 20
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_SIGNATURES = {  # by name where the library knows no hash object for it any more
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.2": "md2",
    "1.3.14.3.2.29": "sha1",
}
_PEM_START = b"-----BEGIN "
_quiet: Final = threading.Lock()


def describe_certificate(data: bytes) -> CertificateFacts:
    """The public part of a certificate, DER or PEM.

    Raises:
        CertificateRefused: it is no certificate.
    """
    certificate = _certificate(data)
    key = certificate.public_key()
    return CertificateFacts(
        thumbprint=hashlib.sha256(der_of(data)).hexdigest(),
        subject=certificate.subject.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_bits=key.key_size if isinstance(key, RSAPublicKey) else 0,
        signature=_SIGNATURES.get(
            certificate.signature_algorithm_oid.dotted_string, certificate.signature_algorithm_oid.dotted_string
        ),
    )


def encode(der: bytes) -> str:
    """The `encodedValue` of a certificate: base64 of the DER, one line, no armour (ektron-facts 3.2)."""
    return base64.b64encode(der).decode("ascii")


def thumbprint(encoded: str) -> str:
    """SHA-256 of the certificate in an `encodedValue`, hex; empty for an empty value.

    A value that is not written exactly as the product writes one (not base64, or with line ends in it) gets the
    digest of its text, which agrees with no certificate.
    """
    if not encoded:
        return ""
    try:
        der = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        der = b""
    exact = bool(der) and encode(der) == encoded
    return hashlib.sha256(der if exact else b"text:" + encoded.encode(errors="replace")).hexdigest()


def der_of(data: bytes) -> bytes:
    """The DER in a `.cer` file: as it is, or out of its PEM wrapping.

    Raises:
        CertificateRefused: empty, too large, or a PEM block of another kind.
    """
    _bounded(data, "certificate")
    wrapped = _PEM.search(data)
    if wrapped is None:
        return data
    if wrapped[1] not in (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"):
        raise CertificateRefused(
            f"the file is a PEM block {wrapped[1].decode()!r}, not a certificate", remedy="export the family again"
        )
    try:
        return base64.b64decode(wrapped[2])
    except binascii.Error:
        raise CertificateRefused("the certificate's base64 is damaged", remedy="copy the file again") from None


def key_of_cer(data: bytes) -> RSAPublicKey:
    """The public key a certificate carries.

    Raises:
        CertificateRefused: it is no certificate, or no RSA key is in it.
    """
    return _rsa_public(_certificate(data).public_key())


def key_of_pvk(data: bytes, password: str | None = None) -> RSAPrivateKey:
    """The key of a `.pvk` file; a PEM or PKCS#8 key under that name is understood too.

    Raises:
        CertificateRefused: no such key is in it, or the password is wrong.
    """
    _bounded(data, ".pvk file")
    if is_pvk(data):
        return read_pvk(data, password)
    load = load_pem_private_key if _PEM_START in data else load_der_private_key
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateRefused("this is no .pvk file", remedy="export the family again") from None
    if not isinstance(key, RSAPrivateKey):
        raise CertificateRefused("the private key is no RSA key", remedy="eSync uses RSA; export the family again")
    return key


def key_of_pfx(data: bytes, passwords: tuple[str, ...] = ()) -> tuple[RSAPrivateKey, bytes]:
    """The private key of a `.pfx` file and the DER of its certificate. A blank password is tried first.

    Raises:
        CertificateRefused: no password opens it, or key or certificate is missing.
    """
    _bounded(data, ".pfx file")
    for attempt in _attempts(data, passwords):
        key, certificate = attempt
        if not isinstance(key, RSAPrivateKey) or certificate is None:
            raise CertificateRefused(
                "the .pfx file lacks its private key or certificate", remedy="export the family again"
            )
        return key, certificate
    raise CertificateRefused(
        "no password opens the .pfx file, or it is damaged", remedy="copy the file again, or give its password"
    )


def _attempts(data: bytes, passwords: tuple[str, ...]) -> Iterator[tuple[object, bytes | None]]:
    for password in ("", *passwords):
        if "\0" in password:
            continue  # the library panics on a zero byte
        with _silence():
            try:
                key, certificate, _ = pkcs12.load_key_and_certificates(data, password.encode())
            except (ValueError, TypeError, UnsupportedAlgorithm):
                continue
        yield key, certificate.public_bytes(Encoding.DER) if certificate else None


def _certificate(data: bytes) -> x509.Certificate:
    der = der_of(data)
    with _silence():
        try:
            certificate = x509.load_der_x509_certificate(der)
            # The library parses these when asked only; what is damaged in them is to be found here, not later.
            certificate.public_key()
            _ = (
                certificate.subject.rfc4514_string(),
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise CertificateRefused(
                "this is no certificate, or it is cut short", remedy="copy the file again from the origin"
            ) from None
        return certificate


@contextmanager
def _silence() -> Iterator[None]:
    """Old makecert wrote negative serial numbers, Windows writes BER; the library warns of both and reads them.

    Python's warning filters belong to the whole process, hence the lock.
    """
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _rsa_public(key: object) -> RSAPublicKey:
    if not isinstance(key, RSAPublicKey):
        raise CertificateRefused(
            "the certificate's key is no RSA key", remedy="eSync uses RSA; export the family again"
        )
    return key


def _bounded(data: bytes, what: str) -> None:
    if not data:
        raise CertificateRefused(f"the {what} is empty", remedy="copy the file again")
    if len(data) > _MAX_FILE:
        raise CertificateRefused(f"the {what} has {len(data)} bytes, too many for one", remedy="copy the file again")
