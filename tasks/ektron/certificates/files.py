"""Reads certificate files with the library that knows them (`.cer`, `.pfx`, `.pvk`); proves that six are a family."""

import hashlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicKey,
    RSAPublicNumbers,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from tasks.ektron.certificates.encoded import bounded, der_of
from tasks.ektron.certificates.pfx import KeyFirst, key_first
from tasks.ektron.certificates.pvk import is_pvk, read_pvk
from tasks.ektron.facts.values import CertificateFacts
from tasks.ektron.kept import Kept
from tasks.ektron.refusals import CertificateRefused

__all__ = ["describe_certificate", "key_of_cer", "key_of_pfx", "key_of_pvk", "prove"]

_MAX_KEY_FILE = 8_192  #: bytes; a key of 8,192 bits has 6,400 as text, and the check of a larger key takes very long
_MAX_BITS = 16_384  #: of a public key
_SIGNATURES = {  # names, because the library no longer has objects for the old hash algorithms
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.2": "md2",
    "1.3.14.3.2.29": "sha1",
}
_PEM_START = b"-----BEGIN "
_NO_CERTIFICATE, _COPY = "this is not a certificate, or it is truncated", "copy the file again from the origin"
_USE_RSA = "eSync uses RSA; export the family again"
_quiet: Final = threading.Lock()


def describe_certificate(data: bytes) -> CertificateFacts:
    """The public part of a certificate, DER or PEM. The latest ones are kept: most nodes have the same.

    Raises:
        CertificateRefused: it is not a certificate.
    """
    return _DESCRIBED.of(hashlib.sha256(data).digest(), lambda: _described(data))


_DESCRIBED = Kept[bytes, CertificateFacts](entries=64, size=0)


def _described(data: bytes) -> CertificateFacts:
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


def key_of_cer(data: bytes) -> RSAPublicKey:
    """The public key of a certificate.

    Raises:
        CertificateRefused: it is not a certificate, or its key is not an RSA key.
    """
    key = _certificate(data).public_key()
    if not isinstance(key, RSAPublicKey):
        raise CertificateRefused("the key of the certificate is not an RSA key", remedy=_USE_RSA)
    return key


def key_of_pvk(data: bytes, password: str | None = None, known: RSAPrivateKey | None = None) -> RSAPrivateKey:
    """The key of a `.pvk` file. A PEM or PKCS#8 key with that name is supported too.

    Args:
        data: the file.
        password: for a protected file.
        known: a key that is probably the same; see `read_pvk`.

    Raises:
        CertificateRefused: it contains no such key, or the password is wrong.
    """
    bounded(data, ".pvk file", _MAX_KEY_FILE)
    load = load_pem_private_key if _PEM_START in data else load_der_private_key
    with _library("this is not a .pvk file", "export the family again"):
        key = read_pvk(data, password, known) if is_pvk(data) else load(data, None)
    if not isinstance(key, RSAPrivateKey):
        raise CertificateRefused("the private key is not an RSA key", remedy=_USE_RSA)
    return key


def key_of_pfx(data: bytes, passwords: tuple[str, ...] = ()) -> tuple[RSAPrivateKey, bytes]:
    """The private key of a `.pfx` file, and the DER of its certificate. A blank password is tried first.

    Raises:
        CertificateRefused: no password opens it, or its key or certificate is missing.
    """
    bounded(data, ".pfx file")
    for key, certificate in _attempts(data, passwords):
        if not isinstance(key, RSAPrivateKey) or certificate is None:
            raise CertificateRefused(
                "the .pfx file has no private key or certificate", remedy="export the family again"
            )
        return key, certificate
    raise CertificateRefused(
        "no password opens the .pfx file, or it is damaged", remedy="copy the file again, or enter its password"
    )


def _attempts(data: bytes, passwords: tuple[str, ...]) -> Iterator[tuple[object, bytes | None]]:
    for password in ("", *passwords):
        if "\0" in password:
            continue  # the library panics on a zero byte
        opened = key_first(data, password)
        if opened is None:
            continue
        found: list[tuple[object, bytes | None]] = []
        with suppress(CertificateRefused), _library("no password opens it"):
            found = [_apart(opened, password) or _together(opened, password)]
        yield from found


def _together(opened: KeyFirst, password: str) -> tuple[object, bytes | None]:
    """Key and certificate of a `.pfx` file, as the library pairs them."""
    key, certificate, _ = pkcs12.load_key_and_certificates(opened.file, password.encode())
    return key, certificate.public_bytes(Encoding.DER) if certificate else None


def _apart(opened: KeyFirst, password: str) -> tuple[RSAPrivateKey, bytes] | None:
    """The same, with a quick check of the key; None if the file is not as Windows and OpenSSL write it.

    The library proves that the factors of a key are primes, 70 ms for 2,048 bits, because it might sign with it. Here
    its numbers are only compared, with each other and with those of the other files.
    """
    try:
        key = _unproven(opened.key, password)
        certificates = pkcs12.load_key_and_certificates(opened.others, password.encode())[2]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, RSAPrivateKey) or not _fits_together(key.private_numbers()):
        return None
    public = key.public_key()
    found = [one.public_bytes(Encoding.DER) for one in certificates if one.public_key() == public]
    return (key, found[0]) if len(found) == 1 else None


def _unproven(key: bytes, password: str) -> object:
    for given in (password.encode() or b"\0", None):  # the library refuses an empty one; PKCS#12 fills both with zeros
        with suppress(TypeError):  # it is not encrypted
            return load_der_private_key(key, given, unsafe_skip_rsa_key_validation=True)
    return None


def _fits_together(key: RSAPrivateNumbers) -> bool:
    """Whether the numbers are those of one key."""
    factors, public = (key.p, key.q), key.public_numbers
    return key.p * key.q == public.n and all(key.d * public.e % (factor - 1) == 1 for factor in factors)


def _certificate(data: bytes) -> x509.Certificate:
    """Reads all parts: the library parses some of them only on access, and damage must be found here."""
    der = der_of(data)
    with _library(_NO_CERTIFICATE, _COPY):
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        _ = certificate.subject.rfc4514_string(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if isinstance(key, RSAPublicKey) and key.key_size > _MAX_BITS:
        raise CertificateRefused(
            f"the certificate has a key of {key.key_size:,} bits, the limit is {_MAX_BITS:,}", remedy=_COPY
        )
    return certificate


@contextmanager
def _library(refusal: str, remedy: str = "") -> Iterator[None]:
    """The only place where the parsing library is called: any error in foreign bytes becomes one sentence.

    Raises:
        CertificateRefused: the library raised an error. Its errors have no common parent class: its own errors, wrong
            dates and versions, and panics of its Rust code, which are not subclasses of `Exception`.
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
    """Hides warnings: old makecert wrote negative serial numbers, and Windows writes BER; the library accepts both.

    The warning filters of Python belong to the whole process, so a lock is needed.
    """
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


_PROVEN = Kept[tuple[str, ...], bool](entries=64, size=0)  #: only that it is proven, never a key


def prove(node: str, blobs: Mapping[str, bytes], hashes: Mapping[str, str], passwords: tuple[str, ...]) -> None:
    """Proves that the files of each side have one key, and the two sides different keys.

    Args:
        node: the node in their names.
        blobs: kind -> file.
        hashes: kind -> SHA-256 of the file.
        passwords: tried on `.pfx` and `.pvk` after the blank one.

    Raises:
        CertificateRefused: a file is damaged, or does not match the others; the message names it.
    """
    _PROVEN.of((*hashes.values(), *map(_digest_of, passwords)), lambda: _proven(node, blobs, passwords))


def _proven(node: str, blobs: Mapping[str, bytes], passwords: tuple[str, ...]) -> bool:
    client = _one_pair(node, "SyncClient", blobs, passwords)
    server = _one_pair(node, "SyncServer", blobs, passwords)
    if client == server:
        raise CertificateRefused(
            f"the client files and the server files of {node} have the same key",
            remedy="one set has overwritten the other; generate the family again on the origin",
        )
    return True


def _one_pair(node: str, side: str, blobs: Mapping[str, bytes], passwords: tuple[str, ...]) -> RSAPublicNumbers:
    """The public numbers of the key that the three files of one side share."""
    mixed = "files of two families are mixed; generate the family again on the origin"
    cer, pfx, pvk = (f"{side}.cer", f"{side}.pfx", f"{side}.pvk")
    with _naming(f"{node}_{cer}"):
        public = key_of_cer(blobs[cer]).public_numbers()
    with _naming(f"{node}_{pfx}"):
        pfx_key, inside = key_of_pfx(blobs[pfx], passwords)
    with _naming(f"{node}_{pvk}"):
        pvk_key = _pvk_key(blobs[pvk], passwords, pfx_key)
    for name, found in ((pfx, pfx_key), (pvk, pvk_key)):
        if found.public_key().public_numbers() != public:
            raise CertificateRefused(f"{node}_{name} has another key than {node}_{cer}", remedy=mixed)
    if inside != der_of(blobs[cer]):
        raise CertificateRefused(f"{node}_{pfx} contains another certificate than {node}_{cer}", remedy=mixed)
    return public


def _pvk_key(data: bytes, passwords: tuple[str, ...], known: RSAPrivateKey) -> RSAPrivateKey:
    """The key of a `.pvk`. When it is protected, each password is tried; the last refusal is raised."""
    for password in (None, *passwords[:-1]):
        with suppress(CertificateRefused):
            return key_of_pvk(data, password, known)
    return key_of_pvk(data, passwords[-1] if passwords else None, known)


@contextmanager
def _naming(file_name: str) -> Iterator[None]:
    """Adds the file name to a refusal."""
    try:
        yield
    except CertificateRefused as refusal:
        raise CertificateRefused(f"{file_name}: {refusal.message}", remedy=refusal.remedy) from None


def _digest_of(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
