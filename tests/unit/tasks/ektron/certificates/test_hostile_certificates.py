"""Hostile certificate files are refused with a message, quickly and with limited memory; good files still open."""

import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.certificates.files import _library, describe_certificate, key_of_cer, key_of_pfx, key_of_pvk
from tasks.ektron.certificates.inspect import inspect
from tasks.ektron.certificates.making import generate_family
from tasks.ektron.certificates.pfx import MOST_ROUNDS, key_first
from tasks.ektron.refusals import CertificateRefused
from tests.sampling import examples
from tests.unit.tasks.ektron.certificates.openssl import openssl

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PATIENCE = (
    10.0  #: seconds of CPU time, so that other load does not count; what the files below ask for would take hours
)
FAMILY = generate_family("S1")
KEY = key_of_pvk(FAMILY.blobs["SyncClient.pvk"])
PKCS8 = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
CER = FAMILY.blobs["SyncClient.cer"]

# -- DER, written apart from the product's own reader -----------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    """One value."""
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 128 + width]) + size.to_bytes(width, "big") + body


def seq(*parts: bytes) -> bytes:
    """A sequence."""
    return der(0x30, *parts)


def octets(data: bytes) -> bytes:
    """A byte string."""
    return der(4, data)


def number(value: int) -> bytes:
    """An integer."""
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, dotted.split("."))
    body = bytes([40 * first + second])
    for arc in rest:
        groups = [arc & 127]
        while arc := arc >> 7:
            groups.insert(0, arc & 127 | 128)
        body += bytes(groups)
    return der(6, body)


def indefinite(tag: int, *parts: bytes) -> bytes:
    """A value without a length (BER)."""
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


PKCS7, PKCS5, PKCS12 = "1.2.840.113549.1.7", "1.2.840.113549.1.5", "1.2.840.113549.1.12"


def pbkdf2(rounds: int, *more: bytes) -> bytes:
    """A key derivation with PBKDF2."""
    return seq(oid(f"{PKCS5}.12"), seq(octets(b"saltsalt"), number(rounds), *more))


def scrypt(cost: int, block: int, parallel: int) -> bytes:
    """A key derivation with scrypt."""
    return seq(oid("1.3.6.1.4.1.11591.4.11"), seq(octets(b"saltsalt"), number(cost), number(block), number(parallel)))


def pbes2(derivation: bytes) -> bytes:
    """AES-256."""
    return seq(oid(f"{PKCS5}.13"), seq(derivation, seq(oid("2.16.840.1.101.3.4.1.42"), octets(bytes(16)))))


def pbes1(rounds: int, kind: int = 3) -> bytes:
    """Of PKCS#12: 3 is triple DES, 6 is RC2 with 40 bits."""
    return seq(oid(f"{PKCS12}.1.{kind}"), seq(octets(b"saltsalt"), number(rounds)))


def aes(data: bytes, rounds: int = 1) -> bytes:
    """As `pbes2(pbkdf2(rounds))` with a blank password says."""
    key = PBKDF2HMAC(hashes.SHA1(), 32, b"saltsalt", rounds).derive(b"")  # noqa: S303 - the format's default
    padding = 16 - len(data) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(data + bytes([padding]) * padding)


def bag(kind: int, value: bytes) -> bytes:
    """1: key, 2: encrypted key, 3: certificate, 6: bags."""
    return seq(oid(f"{PKCS12}.10.1.{kind}"), der(0xA0, value))


def key_bag(algorithm: bytes, data: bytes = b"") -> bytes:
    """An encrypted key."""
    return bag(2, seq(algorithm, octets(data or aes(PKCS8))))


def cert_bag() -> bytes:
    """The certificate."""
    return bag(3, seq(oid("1.2.840.113549.1.9.22.1"), der(0xA0, octets(CER))))


def plain(*bags: bytes) -> bytes:
    """A part that is not encrypted."""
    return seq(oid(f"{PKCS7}.1"), der(0xA0, octets(seq(*bags))))


def encrypted(*bags: bytes, algorithm: bytes = b"") -> bytes:
    """An encrypted part."""
    content = der(0x80, aes(seq(*bags)))
    info = seq(oid(f"{PKCS7}.1"), algorithm or pbes2(pbkdf2(1)), content)
    return seq(oid(f"{PKCS7}.6"), der(0xA0, seq(number(0), info)))


def pfx(*parts: bytes, mac_rounds: int = 1, mac: bool = True, password: bytes = bytes(64)) -> bytes:
    """A file. Its MAC is correct for a blank password when it has one round."""
    safe = seq(*parts)
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - the format's
    digest.update(bytes([3]) * 64 + b"saltsalt" * 8 + password)
    code = hmac.HMAC(digest.finalize(), hashes.SHA1())  # noqa: S303 - the format's
    code.update(safe)
    info = seq(seq(oid("1.3.14.3.2.26"), b"\5\0"), octets(code.finalize()))
    seal = seq(info, octets(b"saltsalt"), number(mac_rounds))
    return seq(number(3), seq(oid(f"{PKCS7}.1"), der(0xA0, octets(safe))), *([seal] if mac else []))


@cache
def good() -> bytes:
    """A file with its certificate in an encrypted part before the key, as OpenSSL writes it."""
    return pfx(encrypted(cert_bag()), plain(key_bag(pbes2(pbkdf2(1)))))


def within(seconds: float, call: Callable[[], object]) -> float:
    """Makes the call; returns the CPU time that it took, in seconds."""
    begun = time.thread_time()
    with pytest.raises(CertificateRefused) as caught:
        call()
    assert str(caught.value).isprintable()
    took = time.thread_time() - begun
    assert took < seconds
    return took


# -- good ones still open ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        good(),
        pfx(plain(key_bag(pbes2(pbkdf2(1)))), encrypted(cert_bag())),
        pfx(plain(cert_bag()), plain(bag(1, PKCS8))),
        pfx(plain(bag(6, seq(bag(1, PKCS8), cert_bag())))),
        pfx(encrypted(cert_bag()), plain(bag(1, PKCS8)), mac=False),
        pfx(encrypted(cert_bag()), plain(key_bag(pbes2(pbkdf2(1, number(32)))))),
    ],
    ids=["as OpenSSL", "as Windows", "nothing encrypted", "bags in a bag", "no seal", "key length"],
)
def test_what_programs_write_opens(file: bytes) -> None:
    """The key and the certificate are found in any order of the parts."""
    key, certificate = key_of_pfx(file)
    assert (KEY.private_numbers(), CER) == (key.private_numbers(), certificate)


def test_indefinite_lengths_and_strings_in_pieces_open() -> None:
    """Windows writes such files."""
    safe = seq(encrypted(cert_bag()), plain(key_bag(pbes2(pbkdf2(1)))))
    whole = pfx(encrypted(cert_bag()), plain(key_bag(pbes2(pbkdf2(1)))))
    pieces = [octets(safe[at : at + 500]) for at in range(0, len(safe), 500)]
    seal = whole[whole.rindex(b"\x06\x05\x2b\x0e\x03\x02\x1a") - 6 :]
    file = indefinite(
        0x30, number(3), indefinite(0x30, oid(f"{PKCS7}.1"), indefinite(0xA0, indefinite(0x24, *pieces))), seal
    )
    assert CER == key_of_pfx(file)[1]


@pytest.mark.parametrize(
    ("options", "password"),
    [
        ([], ""),
        ([], "päss wörd"),
        (["-legacy"], ""),
        (["-legacy"], "x" * 60),
        (["-macalg", "sha512"], "secret"),
        (["-keypbe", "NONE"], "secret"),
        (["-nomac"], "secret"),
        (["-iter", "50000"], ""),
    ],
    ids=str,
)
def test_what_openssl_writes_opens(tmp_path: Path, options: list[str], password: str) -> None:
    """With triple DES and RC2, with AES, with any hash in the MAC, without a MAC, with a password or a blank one."""
    key, cer, file = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "out.pfx"
    key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    cer.write_bytes(openssl("x509", "-inform", "DER", stdin=CER))
    named = ("-inkey", str(key), "-in", str(cer), "-out", str(file))
    openssl("pkcs12", "-export", *named, "-passout", f"pass:{password}", *options)
    assert CER == key_of_pfx(file.read_bytes(), (password,))[1]
    if password and options != ["-nomac"]:
        with pytest.raises(CertificateRefused, match="no password opens"):
            key_of_pfx(file.read_bytes(), ("another",))


def test_a_broken_seal_is_noticed() -> None:
    """One changed bit in the contents or in the MAC: no password opens the file."""
    for at in (-5, -20, -40, len(good()) // 2):
        broken = bytearray(good())
        broken[at] ^= 1
        within(PATIENCE, lambda broken=bytes(broken): key_of_pfx(broken))  # type: ignore[misc]


# -- and those made to do harm -----------------------------------------------------------------------------------------

HUGE = (2**31 - 1, 2**31, 2**40, 2**63, 2**200, MOST_ROUNDS + 1)
VISIBLE = plain(key_bag(pbes2(pbkdf2(1))))


def _asking(rounds: int) -> dict[str, bytes]:
    """One file for each place of a number of rounds."""
    asks = pbes2(pbkdf2(rounds))
    return {
        "seal": pfx(VISIBLE, plain(cert_bag()), mac_rounds=rounds),
        "part, PBES1": pfx(VISIBLE, encrypted(cert_bag(), algorithm=pbes1(rounds))),
        "part, RC2": pfx(VISIBLE, encrypted(cert_bag(), algorithm=pbes1(rounds, 6))),
        "part, PBKDF2": pfx(VISIBLE, encrypted(cert_bag(), algorithm=asks)),
        "key, PBES1": pfx(plain(key_bag(pbes1(rounds))), plain(cert_bag())),
        "key, PBES1 of PKCS#5": pfx(
            plain(key_bag(seq(oid(f"{PKCS5}.10"), seq(octets(b"saltsalt"), number(rounds))))), plain(cert_bag())
        ),
        "key, PBKDF2": pfx(plain(key_bag(asks)), plain(cert_bag())),
        "key in bags in bags": pfx(plain(bag(6, seq(bag(6, seq(key_bag(asks)))))), plain(cert_bag())),
        "second key": pfx(VISIBLE, plain(key_bag(asks)), plain(cert_bag())),
        "scrypt": pfx(plain(key_bag(pbes2(scrypt(min(rounds, 2**60), 1, 1)))), plain(cert_bag())),
    }


@pytest.mark.parametrize("rounds", HUGE)
@pytest.mark.parametrize("place", list(_asking(1)))
def test_a_count_beyond_bounds_is_refused_before_anything_is_decrypted(place: str, rounds: int) -> None:
    """In every place: immediately, and the message contains the total."""
    file = _asking(rounds)[place]
    with pytest.raises(CertificateRefused, match="rounds of key derivation"):
        key_of_pfx(file)
    within(PATIENCE, lambda: inspect("S1_SyncClient.pfx", file, NOW))


@pytest.mark.parametrize("rounds", [1, 2**31 - 1, 2**31])
@pytest.mark.parametrize("visible", ["no key", "behind", "before"])
def test_a_key_hidden_in_an_encrypted_part_costs_nothing(rounds: int, visible: str) -> None:
    """Its number of rounds is not visible, so it is never opened: another key is used, or none."""
    hidden = encrypted(key_bag(pbes2(pbkdf2(rounds)), b"x" * 64), cert_bag())
    parts = {"no key": [hidden], "behind": [hidden, VISIBLE], "before": [VISIBLE, hidden]}[visible]
    if visible == "no key":
        within(PATIENCE, lambda: key_of_pfx(pfx(*parts)))
        return
    begun = time.thread_time()
    assert CER == key_of_pfx(pfx(*parts))[1]
    assert time.thread_time() - begun < PATIENCE


@pytest.mark.parametrize(
    "file",
    [
        pfx(*[encrypted(cert_bag(), algorithm=pbes2(pbkdf2(600_000)))] * 1000, VISIBLE),
        pfx(*[plain(key_bag(pbes2(pbkdf2(1)), b"x" * 16))] * 20_000),
        pfx(plain(key_bag(pbes2(scrypt(2, 1, 2**29)))), plain(cert_bag())),
        pfx(plain(key_bag(pbes2(scrypt(2**14, 2**14, 1)))), plain(cert_bag())),
        pfx(plain(key_bag(pbes2(pbkdf2(1000, number(2**40))))), plain(cert_bag())),
        pfx(plain(key_bag(pbes2(pbkdf2(-5)))), plain(cert_bag())),
        pfx(plain(key_bag(seq(oid("1.2.3.4"), seq(octets(b"s"), number(1))))), plain(cert_bag())),
        pfx(plain(bag(1, PKCS8 + b"x" * 20_000)), plain(cert_bag())),
        b"\x30\x80" * 100_000,
        b"\x30\x84\xff\xff\xff\xff" + b"\x30" * 100,
        b"\x30\xff" + b"\xff" * 200,
        seq(number(3), b"\x30\x80" * 40_000),
        b"\x24\x80" * 300_000,
        b"0" * 1_000_000,
        b"\x30",
        b"\x30\x00",
        seq(number(3)),
    ],
    ids=range(17),
)
def test_files_without_limits_are_refused(file: bytes) -> None:
    """Many small numbers, unlimited depth, lengths beyond the end of the file, unknown algorithms."""
    within(PATIENCE, lambda: key_of_pfx(file))
    within(PATIENCE, lambda: inspect("S1_SyncClient.pfx", file, NOW))


@pytest.mark.parametrize("kind", ["key", "part", "mac"])
def test_the_number_of_rounds_at_its_border(kind: str) -> None:
    """The largest total is not refused for its cost, one round more is; each encrypted item counts at least 100."""
    other = 100  # the visible key with one round
    for rounds, refused in ((MOST_ROUNDS - other, False), (MOST_ROUNDS - other + 1, True)):
        file = {
            "key": pfx(VISIBLE, plain(key_bag(pbes2(pbkdf2(rounds)))), plain(cert_bag()), mac=False),
            "part": pfx(VISIBLE, encrypted(cert_bag(), algorithm=pbes2(pbkdf2(rounds))), mac=False),
            "mac": pfx(VISIBLE, plain(cert_bag()), mac_rounds=rounds),
        }[kind]
        message = ""
        try:
            key_first(file, "")
        except CertificateRefused as refusal:
            message = refusal.message
        assert ("rounds of key derivation" in message) is refused


@pytest.mark.parametrize(
    ("derivation", "cost"),
    [
        (pbes2(pbkdf2(1000)), 1000),
        (pbes2(pbkdf2(1000, number(19))), 1000),
        (pbes2(pbkdf2(1000, number(20))), 2000),
        (pbes2(pbkdf2(1000, number(64))), 4000),
        (pbes2(scrypt(1024, 8, 2)), 2 * 1024 * 8 * 2),
        (pbes1(1000), 1000),
        (pbes1(99), 100),
    ],
)
def test_what_a_key_costs(derivation: bytes, cost: int) -> None:
    """The rounds of each kind of key derivation; many such keys exceed the limit by their sum."""
    allowed = MOST_ROUNDS // cost
    assert key_first(pfx(plain(*[key_bag(derivation, b"x")] * allowed), mac=False), "") is not None
    with pytest.raises(CertificateRefused, match="rounds of key derivation"):
        key_first(pfx(plain(*[key_bag(derivation, b"x")] * (allowed + 1)), mac=False), "")


def salted(size: int) -> bytes:
    """A key derivation with a salt of that size."""
    return pbes2(seq(oid(f"{PKCS5}.12"), seq(octets(b"s" * size), number(1))))


def test_sizes_at_their_borders() -> None:
    """Salts of 1,024 bytes and keys of 8,192 are accepted, one byte more is refused."""
    assert key_first(pfx(plain(key_bag(salted(1024))), mac=False), "") is not None
    with pytest.raises(CertificateRefused, match="damaged"):
        key_first(pfx(plain(key_bag(salted(1025))), mac=False), "")
    value = octets(b"x" * 8188)  # with four bytes of tag and length
    assert key_first(pfx(plain(bag(1, seq(value))), mac=False), "") is not None
    with pytest.raises(CertificateRefused, match="too large"):
        key_first(pfx(plain(bag(1, seq(octets(b"x" * 8189)))), mac=False), "")


def test_bags_are_nested_to_a_limit() -> None:
    """Sixteen levels are read, one more is refused."""
    inner = bag(1, PKCS8)
    for _ in range(16):
        inner = bag(6, seq(inner))
    assert key_first(pfx(plain(inner), mac=False), "") is not None
    with pytest.raises(CertificateRefused, match="damaged"):
        key_first(pfx(plain(bag(6, seq(inner))), mac=False), "")


def test_the_reason_of_each_refusal() -> None:
    """What the file lacks, or what is unknown in it."""
    unknown_mac = pfx(VISIBLE).replace(bytes.fromhex("06052b0e03021a"), bytes.fromhex("06052b0e03021b"))
    signed = pfx(VISIBLE, mac=False).replace(
        bytes.fromhex("2a864886f70d010701a0"), bytes.fromhex("2a864886f70d010702a0"), 1
    )
    unknown = plain(key_bag(seq(oid("1.2.3.4"), seq(octets(b"s"), number(1)))))
    for file, words in (
        (unknown_mac, "a MAC with an unknown algorithm"),
        (signed, "protected by a signature"),
        (pfx(unknown), "encrypted with an unknown algorithm"),
        (pfx(plain(cert_bag())), "has no private key"),
        (pfx(encrypted(key_bag(pbes2(pbkdf2(1))))), "has no private key"),
        (b"", "damaged"),
    ):
        with pytest.raises(CertificateRefused, match=words):
            key_first(file, "")
    assert key_first(pfx(VISIBLE), "another") is None


def test_a_blank_password_has_two_encodings() -> None:
    """Some programs encode it as two zero bytes, others as nothing; any other password has one encoding."""
    for encoding in (bytes(64), b""):
        file = pfx(plain(cert_bag()), plain(bag(1, PKCS8)), password=encoding)
        assert CER == key_of_pfx(file)[1]
        assert key_first(file, "x") is None


def test_indefinite_lengths_are_nested_to_a_limit() -> None:
    """Sixteen levels of values without a length are read, one more is refused."""

    def file(levels: int) -> bytes:
        value = number(1)
        for _ in range(levels):
            value = indefinite(0x30, value)
        return seq(pfx(VISIBLE)[4:] + value)  # behind the MAC, where nothing is expected

    deepest = next(levels for levels in range(40) if _refused(file(levels + 1)))
    assert deepest == 16


def _refused(file: bytes) -> bool:
    try:
        key_first(file, "")
    except CertificateRefused as refusal:
        return "damaged" in refusal.message
    return False


@pytest.mark.parametrize("error", ["PanicException", "Other"])
def test_only_panics_of_the_library_become_a_refusal(error: str) -> None:
    """Its Rust code raises an error that is no `Exception`; an interrupt by the operator is passed on."""
    raised = type(error, (BaseException,), {})
    with pytest.raises(BaseException) as caught, _library("refused", "try again"):  # noqa: PT011 - any is the point
        raise raised
    assert isinstance(caught.value, CertificateRefused) is (error == "PanicException")
    with pytest.raises(CertificateRefused, match="refused"), _library("refused"):
        raise OverflowError


# -- anything else -----------------------------------------------------------------------------------------------------


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The file with bytes changed, removed or inserted."""

    def applied(edits: Iterable[tuple[int, int, bytes]]) -> bytes:
        found = bytearray(data)
        for place, length, new in edits:
            at = place % max(1, len(found))
            found[at : at + length] = new
        return bytes(found)

    edit = st.tuples(st.integers(0, len(data)), st.integers(0, 4), st.binary(max_size=4))
    return st.lists(edit, min_size=1, max_size=6).map(applied)


FILES = [*(FAMILY.blobs[kind] for kind in KINDS), good()]
INVALID_VERSION = CER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x63")


@settings(max_examples=examples(whole=5000, sample=40))
@given(st.sampled_from(FILES).flatmap(mutated) | st.binary(max_size=400))
@example(INVALID_VERSION)
@example(b"")
@example(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----")
@example(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
def test_no_bytes_cause_another_error(data: bytes) -> None:
    """Each reader returns a result or refuses with a message; no other error is raised."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: describe_certificate(data),
        lambda: key_of_cer(data),
        lambda: key_of_pfx(data),
        lambda: key_of_pvk(data),
        lambda: inspect("S1_SyncClient.pfx", data, NOW, passwords=("x",)),
        lambda: inspect("any", data, NOW),
    )
    begun = time.thread_time()
    for call in calls:
        try:
            call()
        except CertificateRefused as refused:
            assert str(refused)  # noqa: PT017 - either way is fine
    assert time.thread_time() - begun < PATIENCE


def test_a_certificate_of_a_version_that_is_none_is_refused() -> None:
    """The library has its own exception for it, which has no common parent class."""
    assert INVALID_VERSION != CER
    within(PATIENCE, lambda: describe_certificate(INVALID_VERSION))


@pytest.mark.parametrize("bits", [16_400, 100_000, 4_000_000])
def test_a_key_of_very_many_bits_is_refused(bits: int) -> None:
    """Also when Python refuses to print such a number."""
    modulus = int.from_bytes(os.urandom(bits // 8), "big") | 1 | 1 << (bits - 1)
    key = seq(seq(oid("1.2.840.113549.1.1.1"), b"\5\0"), der(3, b"\0", seq(number(modulus), number(65537))))
    start = CER.index(bytes.fromhex("300d06092a864886f70d0101010500")) - 4
    before, after = CER[:start], CER[start + 4 + int.from_bytes(CER[start + 2 : start + 4], "big") :]
    inner = before[before.index(b"\xa0\x03\x02\x01") :] + key
    made = seq(seq(inner + after[: after.index(bytes.fromhex("300d06092a864886f70d01010b"))]), after[-277:])
    within(PATIENCE, lambda: key_of_cer(made))
