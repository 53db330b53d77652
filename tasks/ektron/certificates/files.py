"""Reads one certificate file each: `.cer`, `.pfx`, `.pvk`, and text (PEM) where binary is expected."""

import base64
import binascii
import hashlib
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from tasks.ektron.certificates.pfx import arranged
from tasks.ektron.certificates.pvk import is_pvk, read_pvk
from tasks.ektron.facts import CertificateFacts
from tasks.ektron.refusals import CertificateRefused

__all__ = ["der_of", "describe_certificate", "encode", "key_of_cer", "key_of_pfx", "key_of_pvk", "thumbprint"]

_MAX_FILE = 1 << 20
_MAX_KEY_FILE = 8_192  #: bytes; a key of 8,192 bits has 6,400 as text, and larger ones take very long to be checked
_MAX_BITS = 16_384  #: of a public key
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
_NO_CERTIFICATE, _COPY = "this is no certificate, or it is cut short", "copy the file again from the origin"
_quiet: Final = threading.Lock()


def describe_certificate(data: bytes) -> CertificateFacts:
    """The public part of a certificate, DER or PEM.

    Raises:
        CertificateRefused: it is no certificate.
    """
    certificate = _certificate(data)
    with _library(_NO_CERTIFICATE, _COPY):
        key = certificate.public_key()
        oid = certificate.signature_algorithm_oid.dotted_string
        return CertificateFacts(
            thumbprint=hashlib.sha256(der_of(data)).hexdigest(),
            subject=certificate.subject.rfc4514_string(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key_bits=key.key_size if isinstance(key, RSAPublicKey) else 0,
            signature=_SIGNATURES.get(oid, oid),
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
    _bounded(data, ".pvk file", _MAX_KEY_FILE)
    load = load_pem_private_key if _PEM_START in data else load_der_private_key
    with _library("this is no .pvk file", "export the family again"):
        key = read_pvk(data, password) if is_pvk(data) else load(data, None)
    if not isinstance(key, RSAPrivateKey):
        raise CertificateRefused("the private key is no RSA key", remedy="eSync uses RSA; export the family again")
    return key


def key_of_pfx(data: bytes, passwords: tuple[str, ...] = ()) -> tuple[RSAPrivateKey, bytes]:
    """The private key of a `.pfx` file and the DER of its certificate. A blank password is tried first.

    Raises:
        CertificateRefused: no password opens it, or key or certificate is missing.
    """
    _bounded(data, ".pfx file")
    for key, certificate in _attempts(data, passwords):
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
        file = arranged(data, password)
        if file is None:
            continue
        found: list[tuple[object, bytes | None]] = []
        with suppress(CertificateRefused), _library("no password opens it"):
            key, certificate, _ = pkcs12.load_key_and_certificates(file, password.encode())
            found = [(key, certificate.public_bytes(Encoding.DER) if certificate else None)]
        yield from found


def _certificate(data: bytes) -> x509.Certificate:
    """Read whole: the library parses some parts when asked only; what is damaged in them is to be found here."""
    der = der_of(data)
    with _library(_NO_CERTIFICATE, _COPY):
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        _ = certificate.subject.rfc4514_string(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if isinstance(key, RSAPublicKey) and key.key_size > _MAX_BITS:
        raise CertificateRefused(f"the certificate has a key of {key.key_size:,} bits, too many for one", remedy=_COPY)
    return certificate


@contextmanager
def _library(refusal: str, remedy: str = "") -> Iterator[None]:
    """The one border to the library that parses: whatever it makes of the bytes of others, we say it in a sentence.

    Raises:
        CertificateRefused: it raised something, which may be nearly anything: errors of its own that share no parent,
            wrong dates and versions, panics of its other half, which Python takes for no exception at all.
    """
    try:
        with _silence():
            yield
    except CertificateRefused:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CertificateRefused(refusal, remedy=remedy) from None


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


def _bounded(data: bytes, what: str, most: int = _MAX_FILE) -> None:
    if not data:
        raise CertificateRefused(f"the {what} is empty", remedy="copy the file again")
    if len(data) > most:
        raise CertificateRefused(f"the {what} has {len(data)} bytes, too many for one", remedy="copy the file again")
