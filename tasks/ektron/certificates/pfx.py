"""Limits the cost of opening a `.pfx` file (PKCS#12, RFC 7292), before anything is decrypted.

The file itself defines how often a password is hashed: for its MAC, for each encrypted part, for each key. The library
uses these numbers, in one call that cannot be interrupted. Therefore all numbers are added and limited first. They are
not visible inside an encrypted part. The library would decrypt a key there too, unless it has found another key before.
Therefore the part with the key is moved to the front, and the MAC is verified, then computed again for the new order.
Programs that write such files encrypt each key separately, in a part that is not encrypted itself.

Windows writes BER, so indefinite lengths and byte strings in several pieces are supported.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.ektron.refusals import CertificateRefused

__all__ = ["MOST_ROUNDS", "KeyFirst", "key_first"]

MOST_ROUNDS = 1_000_000  #: total rounds of key derivation; Windows and OpenSSL use 2,000 to 10,000 for each part
_FEWEST = 100  #: minimum of rounds that each encrypted item counts for: many small parts need time too
_LARGEST_KEY = 8_192  #: bytes of an encrypted private key; a key of 8,192 bits has 4,800
_LARGEST_SALT = 1_024  #: bytes
_DEEPEST = 16
_LONG = 0x80  #: bit that marks a length in the following bytes; alone it marks an indefinite length with an end mark
_LONG_TAG = 0x1F  #: number that marks a tag in the following bytes

_SEQUENCE, _OCTETS, _INTEGER, _OID, _CONSTRUCTED, _EXPLICIT = 0x30, 0x04, 0x02, 0x06, 0x20, 0xA0
_DATA = bytes.fromhex("2a864886f70d010701")
_ENCRYPTED = bytes.fromhex("2a864886f70d010706")
_BAG = bytes.fromhex("2a864886f70d010c0a01")
_KEY_BAG, _SHROUDED_BAG, _NESTED_BAG = _BAG + b"\x01", _BAG + b"\x02", _BAG + b"\x06"
_PBE = bytes.fromhex("2a864886f70d010c01")  #: of PKCS#12, six algorithms
_PBES1 = bytes.fromhex("2a864886f70d0105")
_PBES2, _PBKDF2 = _PBES1 + b"\x0d", _PBES1 + b"\x0c"
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_SHA1 = bytes.fromhex("2b0e03021a")
_HASHES = {
    _SHA1: hashlib.sha1,
    bytes.fromhex("608648016503040201"): hashlib.sha256,
    bytes.fromhex("608648016503040202"): hashlib.sha384,
    bytes.fromhex("608648016503040203"): hashlib.sha512,
    bytes.fromhex("608648016503040204"): hashlib.sha224,
}


class KeyFirst(NamedTuple):
    """A file that the library opens in limited time.

    Attributes:
        file: with its key in front.
        key: the key alone, as PKCS#8; empty if there are several, or it is in a bag within a bag.
        others: the file with a key of no meaning in place of this one.
    """

    file: bytes
    key: bytes
    others: bytes


class _Element(NamedTuple):
    """One value: its tag, its content, and all its bytes."""

    tag: int
    body: bytes
    whole: bytes


class _Bag(NamedTuple):
    """One thing in a part that is not encrypted, and the keys in it; bags within a bag count as one more, empty key."""

    whole: bytes
    keys: list[bytes]


@dataclass(frozen=True, slots=True)
class _Mac:
    """MacData: proves that a password is correct and the file is complete."""

    hash: Callable[..., "hashlib._Hash"]  #: half the time of `hashlib.new`
    code: bytes
    salt: bytes
    rounds: int


class _Costs:
    """Adds the cost of opening the file."""

    def __init__(self) -> None:
        self.rounds = 0

    def add(self, rounds: int) -> None:
        """Adds rounds of key derivation.

        Raises:
            CertificateRefused: the total is above the limit.
        """
        self.rounds += max(rounds, _FEWEST)
        if self.rounds > MOST_ROUNDS:
            raise CertificateRefused(
                f"the .pfx file needs {self.rounds:,} or more rounds of key derivation, the limit is {MOST_ROUNDS:,}",
                remedy="export the family again; a few thousand rounds are usual",
            )


def key_first(data: bytes, password: str) -> KeyFirst | None:
    """The file with its key in front, so that the library opens it in limited time. None: the password is wrong.

    Raises:
        CertificateRefused: it is not such a file, or opening it would cost too much.
    """
    try:
        return _key_first(data, password)
    except (IndexError, ValueError):
        raise CertificateRefused("this is not a .pfx file, or it is damaged", remedy="copy the file again") from None


def _key_first(data: bytes, password: str) -> KeyFirst | None:
    version, safe, *rest = _children(_first(data, _SEQUENCE))
    kind, content = _children(safe)
    if kind.body != _DATA:
        raise CertificateRefused(
            "the .pfx file is protected by a signature instead of a password",
            remedy="export it again, with a password or a blank one",
        )
    contents = _octets(_children(content)[0])
    costs = _Costs()
    parts = [(part.whole, _visible(part, costs)) for part in _children(_first(contents, _SEQUENCE))]
    keys = [key for _, bags in parts for bag in bags for key in bag.keys]
    if not keys:
        raise CertificateRefused(
            "the .pfx file has no private key or certificate, or has the key inside an encrypted part",
            remedy="export the family again, with its private keys",
        )
    mac = _mac(rest[0], costs) if rest else None
    matching = _matching_password(mac, contents, password) if mac else b""
    if matching is None:
        return None
    with_keys, without = ([one for one in parts if _has_keys(one[1]) is wanted] for wanted in (True, False))
    rest_of = [part for part, _ in without]
    orders = [*(part for part, _ in with_keys), *rest_of], [*(_replaced(bags) for _, bags in with_keys), *rest_of]
    file, others = (_file(version.whole, _encoded(_SEQUENCE, *order), matching) for order in orders)
    return KeyFirst(file, keys[0] if len(keys) == 1 else b"", others)


def _has_keys(bags: Sequence[_Bag]) -> bool:
    return any(bag.keys for bag in bags)


def _replaced(bags: Sequence[_Bag]) -> bytes:
    """A part with a key of no meaning in place of its keys."""
    return _plain(_encoded(_SEQUENCE, _STAND_IN, *(bag.whole for bag in bags if not bag.keys)))


def _file(version: bytes, contents: bytes, password: bytes) -> bytes:
    """A file with these contents, and with a MAC if there is a password."""
    new_mac = [_mac_for(contents, password)] if password else []
    return _encoded(_SEQUENCE, version, _plain(contents), *new_mac)


def _visible(part: _Element, costs: _Costs) -> list[_Bag]:
    """The bags of a part; none if it is encrypted. Adds the cost of the part."""
    kind, content, *_ = _children(part)
    if kind.body == _ENCRYPTED:
        _, encrypted, *_ = _children(_children(content)[0])
        costs.add(_rounds(_children(encrypted)[1]))
        return []
    return list(_bags(_octets(_children(content)[0]), costs, 0)) if kind.body == _DATA else []


def _bags(contents: bytes, costs: _Costs, depth: int) -> Iterator[_Bag]:
    if depth > _DEEPEST:
        raise ValueError("bags nested too deeply")
    for bag in _children(_first(contents, _SEQUENCE)):
        kind, content, *_ = _children(bag)
        (value,) = _children(content)
        keys = [value.whole] if kind.body in (_KEY_BAG, _SHROUDED_BAG) else []
        if kind.body == _NESTED_BAG:
            inner = [key for one in _bags(value.whole, costs, depth + 1) for key in one.keys]
            keys = [b"", *inner] if inner else []
        if kind.body in (_KEY_BAG, _SHROUDED_BAG) and len(value.body) > _LARGEST_KEY:
            raise CertificateRefused("the key in the .pfx file is too large", remedy="use keys of 2,048 or 4,096 bits")
        if kind.body == _SHROUDED_BAG:
            costs.add(_rounds(_children(value)[0]))
        yield _Bag(bag.whole, keys)


def _rounds(algorithm: _Element) -> int:
    """The cost of one password-based encryption.

    Raises:
        CertificateRefused: the algorithm, and therefore its cost, is unknown.
    """
    kind, parameters, *_ = _children(algorithm)
    if kind.body == _PBES2:
        return _rounds(_children(parameters)[0])
    salt, *numbers = _children(parameters)
    if len(salt.body) > _LARGEST_SALT:
        raise ValueError("salt too large")
    if kind.body == _PBKDF2:
        length = numbers[1] if len(numbers) > 1 and numbers[1].tag == _INTEGER else None
        return _number(numbers[0]) * (1 + (_number(length) // 20 if length else 0))
    if kind.body == _SCRYPT:
        cost, block, parallel = (_number(number) for number in numbers[:3])
        return 2 * cost * block * parallel
    if kind.body[:-1] in (_PBE, _PBES1):
        return _number(numbers[0])
    raise CertificateRefused("the .pfx file is encrypted with an unknown algorithm", remedy="export it again")


def _mac(element: _Element, costs: _Costs) -> _Mac:
    digest, salt, *rounds = _children(element)
    algorithm, code = _children(digest)
    known = _HASHES.get(_children(algorithm)[0].body)
    if known is None:
        raise CertificateRefused("the .pfx file has a MAC with an unknown algorithm", remedy="export it again")
    if len(salt.body) > _LARGEST_SALT:
        raise ValueError("salt too large")
    count = _number(rounds[0]) if rounds else 1
    costs.add(count)
    return _Mac(known, _octets(code), _octets(salt), count)


def _matching_password(mac: _Mac, contents: bytes, password: str) -> bytes | None:
    """The encoding of the password that matches the MAC. A blank password has two encodings; None: no match."""
    usual = password.encode("utf-16-be") + b"\0\0"
    for encoding in (usual, *([] if password else [b""])):
        code = hmac.new(_derived(mac, encoding), contents, mac.hash).digest()
        if hmac.compare_digest(code, mac.code):
            return encoding
    return None


def _mac_for(contents: bytes, password: bytes) -> bytes:
    """A MAC with one round. Only the library reads it, immediately."""
    mac = _Mac(hashlib.sha1, b"", b"esync", 1)
    code = hmac.new(_derived(mac, password), contents, mac.hash).digest()
    digest = _encoded(_SEQUENCE, _encoded(_SEQUENCE, _encoded(_OID, _SHA1), b"\x05\x00"), _encoded(_OCTETS, code))
    return _encoded(_SEQUENCE, digest, _encoded(_OCTETS, mac.salt))  # without a number of rounds: one


def _derived(mac: _Mac, password: bytes) -> bytes:
    """The key of a MAC (RFC 7292, appendix B.2, purpose 3). The key has the length of one hash."""
    block = mac.hash(usedforsecurity=False).block_size
    key = bytes([3]) * block + _repeated(mac.salt, block) + _repeated(password, block)
    for _ in range(max(1, mac.rounds)):
        key = mac.hash(key, usedforsecurity=False).digest()
    return key


def _repeated(part: bytes, block: int) -> bytes:
    """The part, repeated to fill whole blocks."""
    length = -(-len(part) // block) * block
    return (part * (length // len(part) + 1))[:length] if part else b""


# -- BER --------------------------------------------------------------------------------------------------------------


def _children(element: _Element) -> list[_Element]:
    if not element.tag & _CONSTRUCTED:
        raise ValueError("not a constructed value")
    return list(_elements(element.body))


def _elements(data: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        element, at = _read(data, at, 0)
        yield element


def _first(data: bytes, tag: int) -> _Element:
    """The first value. The library does not read the bytes after it either."""
    element, _ = _read(data, 0, 0)
    if element.tag != tag:
        raise ValueError("unexpected tag")
    return element


def _read(data: bytes, at: int, depth: int) -> tuple[_Element, int]:
    """The value at an offset, and the offset of the next one. A length beyond the end of the data is an error."""
    begin, tag, first = at, data[at], data[at + 1]
    if depth > _DEEPEST or tag & _LONG_TAG == _LONG_TAG:
        raise ValueError("nested too deeply, or a tag of several bytes")
    at += 2
    if first == _LONG:  # indefinite length, up to the end mark
        inner = at
        while data[at : at + 2] != b"\0\0":
            _, at = _read(data, at, depth + 1)
        return _Element(tag, data[inner:at], data[begin : at + 2]), at + 2
    length = first
    if first & _LONG:
        width = first & ~_LONG
        length, at = int.from_bytes(data[at : at + width]), at + width
    if at + length > len(data):
        raise ValueError("truncated")
    return _Element(tag, data[at : at + length], data[begin : at + length]), at + length


def _octets(element: _Element, depth: int = 0) -> bytes:
    """A byte string, in one or several pieces."""
    if depth > _DEEPEST or element.tag & _LONG_TAG not in (0, _OCTETS):
        raise ValueError("not a byte string")
    if not element.tag & _CONSTRUCTED:
        return element.body
    return b"".join(_octets(piece, depth + 1) for piece in _elements(element.body))


def _number(element: _Element) -> int:
    if element.tag != _INTEGER or not element.body:
        raise ValueError("not a number")
    number = int.from_bytes(element.body, signed=True)
    if number < 0:
        raise ValueError("negative count")
    return min(number, 2**64)


def _plain(contents: bytes) -> bytes:
    """Contents that are not encrypted."""
    return _encoded(_SEQUENCE, _encoded(_OID, _DATA), _encoded(_EXPLICIT, _encoded(_OCTETS, contents)))


def _encoded(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < _LONG:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, _LONG | len(length)]) + length + body


#: In place of a key, so that the library does not decrypt one elsewhere: of Ed25519, which is quick to read.
_STAND_IN = _encoded(
    _SEQUENCE,
    _encoded(_OID, _KEY_BAG),
    _encoded(_EXPLICIT, bytes.fromhex("302e020100300506032b657004220420") + bytes(32)),
)
