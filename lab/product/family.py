"""A certificate family as the Security Configurator creates it: six files as described in ektron-facts 3.2.

RSA 1024, always `CN=ektron`, self-signed with MD5, valid 2008 to 2019, one legacy extension. Current libraries refuse
to create such a certificate, so the DER is built here; the key and the signature come from `cryptography`.
"""

import base64
import hashlib
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

__all__ = ["KINDS", "Family", "Identity", "make_family"]

KINDS = ("SyncClient.pfx", "SyncClient.pvk", "SyncClient.cer", "SyncServer.pfx", "SyncServer.pvk", "SyncServer.cer")

_RSA_BITS = 1024
_NAME = "ektron"
_MD5_WITH_RSA = bytes.fromhex("2a864886f70d010104")
_COMMON_NAME = bytes.fromhex("550403")
_LEGACY_KEY_IDENTIFIER = bytes.fromhex("551d01")
_NOT_BEFORE, _NOT_AFTER = b"080101040000Z", b"190101040000Z"

_SHORT_FORM = 0x80  #: DER: a shorter length is one byte
_SEQUENCE, _SET, _INTEGER, _BITS, _OCTETS, _NULL, _OID, _PRINTABLE, _UTC = 0x30, 0x31, 2, 3, 4, 5, 6, 0x13, 0x17


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate with its key: the bytes of the `.pfx` (no password), `.pvk` (not encrypted) and `.cer` (DER)."""

    pfx: bytes
    pvk: bytes
    cer: bytes

    @property
    def encoded(self) -> str:
        """The text of `encodedValue`: base64 of the DER, one line (ektron-facts 3.2)."""
        return base64.b64encode(self.cer).decode()


@dataclass(frozen=True, slots=True)
class Family:
    """The certificates of one machine: a client and a server identity."""

    client: Identity
    server: Identity

    def files(self, node: str) -> Iterator[tuple[str, bytes]]:
        """The six files with a machine's name."""
        for role, identity in (("SyncClient", self.client), ("SyncServer", self.server)):
            for kind in ("pfx", "pvk", "cer"):
                yield f"{node}_{role}.{kind}", getattr(identity, kind)


def make_family() -> Family:
    """A family with two new key pairs."""
    return Family(_identity(), _identity())


def _identity() -> Identity:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    der = _certificate(key)
    certificate = x509.load_der_x509_certificate(der)
    pfx = serialize_key_and_certificates(None, key, certificate, None, NoEncryption())
    return Identity(pfx=pfx, pvk=private_key_file(key), cer=der)


def private_key_file(key: rsa.RSAPrivateKey) -> bytes:
    """A Microsoft PVK file without a password: a header and a PRIVATEKEYBLOB, all little-endian."""
    numbers = key.private_numbers()
    size = key.key_size // 8
    blob = struct.pack("<BBHI4sII", 7, 2, 0, 0x2400, b"RSA2", key.key_size, numbers.public_numbers.e)
    blob += numbers.public_numbers.n.to_bytes(size, "little")
    for half in (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp):
        blob += half.to_bytes(size // 2, "little")
    blob += numbers.d.to_bytes(size, "little")
    return struct.pack("<6I", 0xB0B5F11E, 0, 2, 0, 0, len(blob)) + blob


# -- DER: only what one certificate needs ----------------------------------------------------------------------


def _tlv(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    if len(body) < _SHORT_FORM:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    # A serial number of 16 bytes with the top bit clear, as makecert generates it.
    serial = (secrets.randbits(122) | 1 << 122).to_bytes(16, "big")
    name = _tlv(_SEQUENCE, _tlv(_SET, _tlv(_SEQUENCE, _tlv(_OID, _COMMON_NAME), _tlv(_PRINTABLE, _NAME.encode()))))
    algorithm = _tlv(_SEQUENCE, _tlv(_OID, _MD5_WITH_RSA), _tlv(_NULL))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    to_sign = _tlv(
        _SEQUENCE,
        _tlv(0xA0, _tlv(_INTEGER, b"\2")),
        _tlv(_INTEGER, serial),
        algorithm,
        name,
        _tlv(_SEQUENCE, _tlv(_UTC, _NOT_BEFORE), _tlv(_UTC, _NOT_AFTER)),
        name,
        public,
        _tlv(0xA3, _tlv(_SEQUENCE, _legacy_extension(public, name, serial))),
    )
    signature = key.sign(to_sign, padding.PKCS1v15(), hashes.MD5())  # noqa: S303 - the product's files have this signature
    return _tlv(_SEQUENCE, to_sign, algorithm, _tlv(_BITS, b"\0", signature))


def _legacy_extension(public: bytes, name: bytes, serial: bytes) -> bytes:
    identifier = hashlib.md5(public, usedforsecurity=False).digest()
    value = _tlv(_SEQUENCE, _tlv(0x80, identifier), _tlv(0xA1, name), _tlv(0x82, serial))
    return _tlv(_SEQUENCE, _tlv(_OID, _LEGACY_KEY_IDENTIFIER), _tlv(_OCTETS, value))
