"""Certificates as bytes and text: DER, PEM, the base64 of the configuration files. Looks at no field of them."""

import base64
import binascii
import hashlib
import re

from tasks.ektron.refusals import CertificateRefused

__all__ = ["bounded", "der_of", "encode", "thumbprint"]

_MAX_FILE = 1 << 20
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")


def encode(der: bytes) -> str:
    """The `encodedValue` of a certificate: base64 of the DER, one line, without PEM lines (ektron-facts 3.2)."""
    return base64.b64encode(der).decode("ascii")


def thumbprint(encoded: str) -> str:
    """SHA-256 of the certificate in an `encodedValue`, hex; empty for an empty value.

    For a value in another form than the product writes (not base64, or with line breaks), the digest of its text is
    returned, which is equal to the digest of no certificate.
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
    """The DER in a `.cer` file, which is DER or PEM.

    Raises:
        CertificateRefused: the file is empty, too large, or another kind of PEM block.
    """
    bounded(data, "certificate")
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
        raise CertificateRefused("the base64 of the certificate is damaged", remedy="copy the file again") from None


def bounded(data: bytes, what: str, most: int = _MAX_FILE) -> None:
    """Passes if a file has a sensible size.

    Raises:
        CertificateRefused: it is empty or too large.
    """
    if not data:
        raise CertificateRefused(f"the {what} is empty", remedy="copy the file again")
    if len(data) > most:
        raise CertificateRefused(f"the {what} has {len(data)} bytes, the limit is {most}", remedy="copy the file again")
