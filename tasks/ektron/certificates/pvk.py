"""The private key file of Microsoft (`.pvk`), which makecert writes beside a certificate (ektron-facts 3.2).

Layout, all numbers little-endian: a header of six words (magic, reserved, key type, encrypted, salt length, key
length), the salt, then a PRIVATEKEYBLOB: eight bytes of blob header, `RSA2`, bit length, public exponent, and the
numbers of the key: n, p, q, d mod (p-1), d mod (q-1), 1/q mod p, d. With a password, everything after the blob header
is encrypted with RC4. The RC4 key is SHA-1 of salt and password: 16 bytes of it, or 5 bytes and zeros (40 bit variant).
"""

import hashlib
import struct
from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers, RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers import Cipher

from tasks.ektron.refusals import CertificateRefused

__all__ = ["is_pvk", "read_pvk", "write_pvk"]

_MAGIC = 0xB0B5F11E
_HEADER = struct.Struct("<6I")
_BLOB_HEADER = struct.Struct("<BBHI")
_PUBLIC = struct.Struct("<4sII")
_PRIVATE_BLOB, _BLOB_VERSION = 7, 2
_EXCHANGE, _SIGNATURE = (1, 0x0000A400), (2, 0x00002400)  # key type in the file, algorithm in the blob
_MAX_BITS = 8192  #: the primality check of a longer key takes very long
_MAX_SALT = 1024


def is_pvk(data: bytes) -> bool:
    """Whether the bytes start with the magic number of a PVK file."""
    return data[:4] == _MAGIC.to_bytes(4, "little")


def read_pvk(data: bytes, password: str | None = None, known: RSAPrivateKey | None = None) -> RSAPrivateKey:
    """The key in a PVK file.

    Args:
        data: the complete file.
        password: for a protected file; otherwise ignored.
        known: returned if the file has the same numbers: they are checked already.

    Raises:
        CertificateRefused: it is not a PVK file, is truncated, contains no valid RSA key, or the password is wrong.
    """
    encrypted, salt, blob = _open(data)
    if encrypted and password is None:
        raise CertificateRefused("the .pvk file is protected by a password", remedy="enter its password")
    for body in _bodies(blob[8:], salt, password or "") if encrypted else iter((blob[8:],)):
        if body[:4] == b"RSA2":
            return _key(body, known)
    raise CertificateRefused(
        "the password does not open the .pvk file" if encrypted else "the .pvk file contains no RSA private key",
        remedy="enter the password of the file" if encrypted else "export the family again",
    )


def write_pvk(key: RSAPrivateKey) -> bytes:
    """An unprotected PVK file with that key, of the exchange type, as makecert writes it for eSync.

    Raises:
        CertificateRefused: the numbers of the key do not fit into the fields of the format.
    """
    numbers = key.private_numbers()
    public = numbers.public_numbers
    full, half = _widths(key.key_size)
    parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    try:
        body = public.n.to_bytes(full, "little")
        body += b"".join(part.to_bytes(half, "little") for part in parts)
        body += numbers.d.to_bytes(full, "little")
        body = _PUBLIC.pack(b"RSA2", key.key_size, public.e) + body
    except (OverflowError, struct.error):
        raise CertificateRefused(
            "this RSA key does not fit into a .pvk file", remedy="use a key with two primes of equal length"
        ) from None
    key_type, algorithm = _EXCHANGE
    blob = _BLOB_HEADER.pack(_PRIVATE_BLOB, _BLOB_VERSION, 0, algorithm) + body
    return _HEADER.pack(_MAGIC, 0, key_type, 0, 0, len(blob)) + blob


def _widths(bits: int) -> tuple[int, int]:
    return (bits + 7) // 8, (bits + 15) // 16


def _open(data: bytes) -> tuple[bool, bytes, bytes]:
    """Whether the file is encrypted, the salt, and the blob. Every length is compared with the size of the file."""
    if not is_pvk(data):
        raise CertificateRefused("this is not a .pvk file", remedy="export the family again")
    if len(data) < _HEADER.size:
        raise _truncated()
    _, _, key_type, encrypted, salt_length, key_length = _HEADER.unpack_from(data)
    if key_type not in (_EXCHANGE[0], _SIGNATURE[0]) or encrypted > 1 or salt_length > _MAX_SALT:
        raise CertificateRefused("the header of the .pvk file is invalid", remedy="export the family again")
    if bool(encrypted) != bool(salt_length):
        raise CertificateRefused("the header of the .pvk file contradicts itself", remedy="export the family again")
    start = _HEADER.size + salt_length
    if len(data) < start + key_length or key_length < _BLOB_HEADER.size + _PUBLIC.size:
        raise _truncated()
    blob = data[start : start + key_length]
    kind, version, _, algorithm = _BLOB_HEADER.unpack_from(blob)
    if (kind, version) != (_PRIVATE_BLOB, _BLOB_VERSION) or algorithm not in (_EXCHANGE[1], _SIGNATURE[1]):
        raise CertificateRefused("the .pvk file contains no RSA private key", remedy="export the family again")
    return bool(encrypted), data[_HEADER.size : start], blob


def _bodies(body: bytes, salt: bytes, password: str) -> Iterator[bytes]:
    """The body, decrypted with each strength. Only one result starts with `RSA2`."""
    for encoding in ("utf-8", "latin-1"):
        try:
            digest = hashlib.sha1(salt + password.encode(encoding), usedforsecurity=False).digest()
        except UnicodeEncodeError:
            continue
        for secret in (digest[:16], digest[:5] + bytes(11)):
            # The format requires RC4. This program only reads it.
            yield Cipher(ARC4(secret), mode=None).decryptor().update(body)


def _key(body: bytes, known: RSAPrivateKey | None) -> RSAPrivateKey:
    _, bits, exponent = _PUBLIC.unpack_from(body)
    if not 0 < bits <= _MAX_BITS:
        raise CertificateRefused(f"the .pvk file claims a key of {bits} bits", remedy="export the family again")
    full, half = _widths(bits)
    if len(body) < _PUBLIC.size + 2 * full + 5 * half:
        raise _truncated()
    numbers = list(_numbers(body, _PUBLIC.size, (full, half, half, half, half, half, full)))
    n, p, q, dmp1, dmq1, iqmp, d = numbers
    try:
        found = RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, RSAPublicNumbers(exponent, n))
        return known if known is not None and known.private_numbers() == found else found.private_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateRefused(
            "the numbers in the .pvk file are not an RSA key", remedy="export the family again"
        ) from None


def _numbers(body: bytes, start: int, widths: tuple[int, ...]) -> Iterator[int]:
    for width in widths:
        yield int.from_bytes(body[start : start + width], "little")
        start += width


def _truncated() -> CertificateRefused:
    return CertificateRefused("the .pvk file is truncated", remedy="copy the file again")
