"""What a `.pfx` file (PKCS#12, RFC 7292) would cost to open, read from its structure before anything is decrypted.

A file says itself how often a password is to be hashed: for its seal (MAC), for each part that is encrypted, for each
key. The library obeys, in one call that nothing can end. So all counts are added up and bounded first. One place they
cannot be seen in is an encrypted part; a key in there would be opened too, unless the library has found one before.
Hence the part with the key is put first, and the seal, once checked, is made anew for that order. Programs that write
such files encrypt keys one by one, in a part that is not encrypted itself.

Windows writes BER, so indefinite lengths and byte strings in pieces are read.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tasks.ektron.refusals import CertificateRefused

__all__ = ["MOST_ROUNDS", "arranged"]

MOST_ROUNDS = 1_000_000  #: of key derivation, all together; Windows and OpenSSL take 2,000 to 10,000 for each part
_FEWEST = 100  #: rounds that anything encrypted counts for: many small parts cost time too
_LARGEST_KEY = 8_192  #: bytes of an encrypted private key; one of 8,192 bits has 4,800
_LARGEST_SALT = 1_024
_DEEPEST = 16
_LONG = 0x80  #: the bit of a length that takes bytes of its own; alone it is a length that only an end mark tells
_LONG_TAG = 0x1F  #: the number of a tag that takes bytes of its own

_SEQUENCE, _OCTETS, _INTEGER, _OID, _CONSTRUCTED, _EXPLICIT = 0x30, 0x04, 0x02, 0x06, 0x20, 0xA0
_DATA = bytes.fromhex("2a864886f70d010701")
_ENCRYPTED = bytes.fromhex("2a864886f70d010706")
_BAG = bytes.fromhex("2a864886f70d010c0a01")
_KEY_BAG, _SHROUDED_BAG, _NESTED_BAG = _BAG + b"\x01", _BAG + b"\x02", _BAG + b"\x06"
_PBE = bytes.fromhex("2a864886f70d010c01")  #: of PKCS#12, six of them
_PBES1 = bytes.fromhex("2a864886f70d0105")
_PBES2, _PBKDF2 = _PBES1 + b"\x0d", _PBES1 + b"\x0c"
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_SHA1 = bytes.fromhex("2b0e03021a")
_HASHES = {
    _SHA1: "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
    bytes.fromhex("608648016503040204"): "sha224",
}


class _Element(NamedTuple):
    """One value: what it is, its content, and all of it as it stands."""

    tag: int
    body: bytes
    whole: bytes


@dataclass(frozen=True, slots=True)
class _Seal:
    """MacData: what shows that a password is right and the file whole."""

    hash: str
    code: bytes
    salt: bytes
    rounds: int


class _Costs:
    """Adds up what opening costs."""

    def __init__(self) -> None:
        self.rounds = 0

    def add(self, rounds: int) -> None:
        """Counts rounds of key derivation.

        Raises:
            CertificateRefused: they are too many by now.
        """
        self.rounds += max(rounds, _FEWEST)
        if self.rounds > MOST_ROUNDS:
            raise CertificateRefused(
                f"the .pfx file asks for {self.rounds:,} rounds of key derivation or more, {MOST_ROUNDS:,} are allowed",
                remedy="export the family again; a few thousand rounds are usual",
            )


def arranged(data: bytes, password: str) -> bytes | None:
    """The file so that the library can open it with that password in bounded time; None where its seal does not fit.

    Raises:
        CertificateRefused: it is no such file, or to open it would cost too much.
    """
    try:
        return _arranged(data, password)
    except (IndexError, ValueError):
        raise CertificateRefused("this is no .pfx file, or it is damaged", remedy="copy the file again") from None


def _arranged(data: bytes, password: str) -> bytes | None:
    version, safe, *rest = _inside(_only(data, _SEQUENCE))
    kind, content = _inside(safe)
    if kind.body != _DATA:
        raise CertificateRefused("the .pfx file is sealed by a signature", remedy="export it with a password, or none")
    sealed = _octets(_inside(content)[0])
    costs = _Costs()
    parts = [(part.whole, _has_key(part, costs)) for part in _inside(_only(sealed, _SEQUENCE))]
    if not any(key for _, key in parts):
        raise CertificateRefused(
            "the .pfx file lacks its private key or certificate, or has the key inside an encrypted part",
            remedy="export the family again, with its private keys",
        )
    seal = _seal(rest[0], costs) if rest else None
    ordered = _made(_SEQUENCE, *(part for part, key in sorted(parts, key=lambda part: not part[1])))
    opened = _opening(seal, sealed, password) if seal else b""
    if opened is None:
        return None
    fresh = [_seal_for(ordered, opened)] if opened else []
    wrapped = _made(_SEQUENCE, _made(_OID, _DATA), _made(_EXPLICIT, _made(_OCTETS, ordered)))
    return _made(_SEQUENCE, version.whole, wrapped, *fresh)


def _has_key(part: _Element, costs: _Costs) -> bool:
    """Whether a part shows a key; what it would cost is counted."""
    kind, content, *_ = _inside(part)
    if kind.body == _ENCRYPTED:
        _, encrypted, *_ = _inside(_inside(content)[0])
        costs.add(_rounds(_inside(encrypted)[1]))
        return False
    return kind.body == _DATA and _bags(_octets(_inside(content)[0]), costs, 0)


def _bags(contents: bytes, costs: _Costs, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("bags in bags in bags")
    found = False
    for bag in _inside(_only(contents, _SEQUENCE)):
        kind, content, *_ = _inside(bag)
        (value,) = _inside(content)
        if kind.body == _NESTED_BAG:
            found |= _bags(value.whole, costs, depth + 1)
        if kind.body in (_KEY_BAG, _SHROUDED_BAG):
            found = True
            if len(value.body) > _LARGEST_KEY:
                raise CertificateRefused("the .pfx file's key is too large", remedy="use keys of 2,048 or 4,096 bits")
        if kind.body == _SHROUDED_BAG:
            costs.add(_rounds(_inside(value)[0]))
    return found


def _rounds(algorithm: _Element) -> int:
    """What one password-based encryption costs.

    Raises:
        CertificateRefused: it is of a kind whose cost is not known.
    """
    kind, parameters, *_ = _inside(algorithm)
    if kind.body == _PBES2:
        return _rounds(_inside(parameters)[0])
    salt, *numbers = _inside(parameters)
    if len(salt.body) > _LARGEST_SALT:
        raise ValueError("a salt of that size")
    if kind.body == _PBKDF2:
        length = numbers[1] if len(numbers) > 1 and numbers[1].tag == _INTEGER else None
        return _number(numbers[0]) * (1 + (_number(length) // 20 if length else 0))
    if kind.body == _SCRYPT:
        cost, block, parallel = (_number(number) for number in numbers[:3])
        return 2 * cost * block * parallel
    if kind.body[:-1] in (_PBE, _PBES1):
        return _number(numbers[0])
    raise CertificateRefused("the .pfx file is encrypted in a way that is not known here", remedy="export it again")


def _seal(element: _Element, costs: _Costs) -> _Seal:
    digest, salt, *rounds = _inside(element)
    algorithm, code = _inside(digest)
    name = _HASHES.get(_inside(algorithm)[0].body)
    if name is None:
        raise CertificateRefused("the .pfx file is sealed in a way that is not known here", remedy="export it again")
    if len(salt.body) > _LARGEST_SALT:
        raise ValueError("a salt of that size")
    count = _number(rounds[0]) if rounds else 1
    costs.add(count)
    return _Seal(name, _octets(code), _octets(salt), count)


def _opening(seal: _Seal, sealed: bytes, password: str) -> bytes | None:
    """The spelling of the password that fits the seal: a blank one is spelt in two ways."""
    spelt = password.encode("utf-16-be") + b"\0\0"
    for spelling in (spelt, *([] if password else [b""])):
        key = _derived(seal, spelling)
        if hmac.compare_digest(hmac.new(key, sealed, seal.hash).digest(), seal.code):
            return spelling or b""
    return None


def _seal_for(contents: bytes, spelling: bytes) -> bytes:
    """A seal of one round: it is for the library only, and is checked at once."""
    seal = _Seal("sha1", b"", b"esync", 1)
    code = hmac.new(_derived(seal, spelling), contents, seal.hash).digest()
    digest = _made(_SEQUENCE, _made(_SEQUENCE, _made(_OID, _SHA1), b"\x05\x00"), _made(_OCTETS, code))
    return _made(_SEQUENCE, digest, _made(_OCTETS, seal.salt), b"\x02\x01\x01")


def _derived(seal: _Seal, spelling: bytes) -> bytes:
    """The key of a seal (RFC 7292, appendix B.2, purpose 3). One block of the hash is as long as the key."""
    block = hashlib.new(seal.hash, usedforsecurity=False).block_size
    filled = b"".join(_filled(part, block) for part in (seal.salt, spelling))
    key = bytes([3]) * block + filled
    for _ in range(max(1, seal.rounds)):
        key = hashlib.new(seal.hash, key, usedforsecurity=False).digest()
    return key


def _filled(part: bytes, block: int) -> bytes:
    """Repeated to whole blocks."""
    length = -(-len(part) // block) * block
    return (part * (length // len(part) + 1))[:length] if part else b""


# -- BER --------------------------------------------------------------------------------------------------------------


def _inside(element: _Element) -> list[_Element]:
    if not element.tag & _CONSTRUCTED:
        raise ValueError("nothing is inside")
    return list(_elements(element.body))


def _elements(data: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        element, at = _next(data, at, 0)
        yield element


def _only(data: bytes, tag: int) -> _Element:
    """The first value of those bytes; what follows it, the library does not read either."""
    element, _ = _next(data, 0, 0)
    if element.tag != tag:
        raise ValueError("another kind of value")
    return element


def _next(data: bytes, at: int, depth: int) -> tuple[_Element, int]:
    """The value at a place, and where the next one begins. A length that reaches beyond the data is an error."""
    begin, tag, first = at, data[at], data[at + 1]
    if depth > _DEEPEST or tag & _LONG_TAG == _LONG_TAG:
        raise ValueError("nested too deep, or a tag of many bytes")
    at += 2
    if first == _LONG:  # indefinite: to the end mark
        inner = at
        while data[at : at + 2] != b"\0\0":
            _, at = _next(data, at, depth + 1)
        return _Element(tag, data[inner:at], data[begin : at + 2]), at + 2
    length = first
    if first & _LONG:
        width = first & ~_LONG
        length, at = int.from_bytes(data[at : at + width]), at + width
    if at + length > len(data):
        raise ValueError("cut short")
    return _Element(tag, data[at : at + length], data[begin : at + length]), at + length


def _octets(element: _Element, depth: int = 0) -> bytes:
    """A byte string, in one piece or in several."""
    if depth > _DEEPEST or element.tag & _LONG_TAG not in (0, _OCTETS):
        raise ValueError("no byte string")
    if not element.tag & _CONSTRUCTED:
        return element.body
    return b"".join(_octets(piece, depth + 1) for piece in _elements(element.body))


def _number(element: _Element) -> int:
    if element.tag != _INTEGER or not element.body:
        raise ValueError("no number")
    number = int.from_bytes(element.body, signed=True)
    if number < 0:
        raise ValueError("a negative count")
    return min(number, 2**64)


def _made(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < _LONG:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, _LONG | len(length)]) + length + body
