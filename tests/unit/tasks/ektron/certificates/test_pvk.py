"""The private key file of Microsoft: read and written, checked with OpenSSL, and tried with malformed files."""

import struct
import time
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.pvk import is_pvk, read_pvk, write_pvk
from tasks.ektron.refusals import CertificateRefused
from tests.sampling import examples
from tests.unit.tasks.ektron.certificates.openssl import LEGACY, modulus, openssl


@cache
def key(bits: int) -> rsa.RSAPrivateKey:
    """One key of each size for all tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@settings(max_examples=examples(whole=100, sample=12))
@given(st.integers(1024, 1400))
def test_written_keys_are_read_again(bits: int) -> None:
    """Keys of any size are read again, also when the size is not a multiple of sixteen bits."""
    original = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    try:
        data = write_pvk(original)
    except CertificateRefused:
        return
    assert read_pvk(data).private_numbers() == original.private_numbers()
    assert is_pvk(data)


def test_a_key_that_is_known_is_not_checked_again() -> None:
    """It is returned if the file has the same numbers; a file with other numbers is read as always."""
    known, data = key(1024), write_pvk(key(1024))
    assert read_pvk(data, known=known) is known
    assert read_pvk(data, known=key(2048)).private_numbers() == known.private_numbers()
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(CertificateRefused, match="not an RSA key"):
        read_pvk(damaged, known=known)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_openssl_reads_what_we_write(tmp_path: Path, bits: int) -> None:
    """OpenSSL accepts the key and reads the same modulus."""
    path = tmp_path / "k.pvk"
    path.write_bytes(write_pvk(key(bits)))
    numbers = key(bits).private_numbers()
    assert modulus("rsa", "-inform", "PVK", "-in", str(path)) == numbers.public_numbers.n
    assert b"RSA key ok" in openssl("rsa", "-inform", "PVK", "-in", str(path), "-noout", "-check")


@pytest.mark.parametrize(("strength", "password"), [("none", None), ("weak", "secret"), ("strong", "secret")])
def test_we_read_what_openssl_writes(tmp_path: Path, strength: str, password: str | None) -> None:
    """Unprotected files and both strengths of RC4 are read."""
    pem, pvk = tmp_path / "k.pem", tmp_path / "k.pvk"
    openssl("genrsa", "-out", str(pem), "1024")
    secret = ("-passout", "env:PVK_PASSWORD") if password else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVK_PASSWORD", password or "")
        openssl("rsa", "-in", str(pem), "-outform", "PVK", f"-pvk-{strength}", "-out", str(pvk), *secret, *LEGACY)
    read = read_pvk(pvk.read_bytes(), password)
    assert read.private_numbers().public_numbers.n == modulus("rsa", "-in", str(pem))
    if password:
        with pytest.raises(CertificateRefused, match="does not open"):
            read_pvk(pvk.read_bytes(), "wrong")
        with pytest.raises(CertificateRefused, match="protected by a password"):
            read_pvk(pvk.read_bytes())


@settings(max_examples=examples(whole=4000, sample=60))
@given(st.integers(0, 620), st.integers(0, 8), st.binary(max_size=8), st.sampled_from([None, "", "x", "\u20ac"]))
@example(0, 0, b"", None)
@example(12, 4, b"\x01\x00\x00\x00", "\u20ac")  # encrypted, with a password outside Latin-1
@example(40, 4, b"\x00\x00\x00\x00", None)  # a public exponent of zero
@example(36, 4, b"\xff\xff\xff\xff", None)  # more bits than any file has
@example(44, 8, bytes(8), None)  # another modulus
def test_damaged_files_are_refused_or_the_same_key(
    place: int, removed: int, inserted: bytes, password: str | None
) -> None:
    """For any damaged bytes the file is refused or contains a consistent key; no other error is raised."""
    whole = write_pvk(key(1024))
    try:
        read = read_pvk(whole[:place] + inserted + whole[place + removed :], password)
    except CertificateRefused:
        return
    numbers = read.private_numbers()
    assert numbers.p * numbers.q == numbers.public_numbers.n


@pytest.mark.parametrize("length", range(0, 620, 7))
def test_cut_files_are_refused(length: int) -> None:
    """A file truncated at any length is refused with a message."""
    with pytest.raises(CertificateRefused):
        read_pvk(write_pvk(key(1024))[:length])


HEADER = {"reserved": 0, "type": 1, "encrypted": 0, "salt": 0, "length": 596}


def with_header(**other: int) -> bytes:
    """A good key after a header with some changed words."""
    words = {**HEADER, **other}
    return struct.pack("<6I", 0xB0B5F11E, *words.values()) + write_pvk(key(1024))[24:]


@pytest.mark.parametrize(
    "other",
    [
        {"type": 9},
        {"encrypted": 2},
        {"encrypted": 1},
        {"salt": 16},
        {"salt": 0xFFFFFFFF, "encrypted": 1},
        {"length": 0xFFFFFFFF},
        {"length": 0},
        {"length": 19},
        {"length": 300},
    ],
)
def test_impossible_headers_are_refused(other: dict[str, int]) -> None:
    """Impossible lengths and flags are refused before memory is allocated."""
    with pytest.raises(CertificateRefused):
        read_pvk(with_header(**other), "x")


@pytest.mark.parametrize("bits", [0, 8, 1100, 16385, 0xFFFFFFFF])
def test_impossible_sizes_are_refused(bits: int) -> None:
    """A key size larger than the file is refused immediately."""
    data = bytearray(write_pvk(key(1024)))
    data[36:40] = struct.pack("<I", bits)
    started = time.thread_time()
    with pytest.raises(CertificateRefused):
        read_pvk(bytes(data))
    assert time.thread_time() - started < 1


def test_a_signature_key_is_read_too() -> None:
    """Files of the signature type contain the same numbers."""
    data = bytearray(with_header(type=2))
    data[28:32] = struct.pack("<I", 0x2400)
    assert read_pvk(bytes(data)).key_size == 1024


def test_trailing_bytes_do_no_harm() -> None:
    """Bytes after the key blob are ignored, as in OpenSSL."""
    assert read_pvk(write_pvk(key(1024)) + b"\0" * 9).key_size == 1024


def test_another_mark_of_encryption_is_refused() -> None:
    """Only 0 and 1 are known, also when there is a salt."""
    blob = write_pvk(key(1024))[24:]
    header = struct.pack("<6I", 0xB0B5F11E, 0, 1, 2, 16, len(blob))
    with pytest.raises(CertificateRefused, match=r"header of the \.pvk file is invalid"):
        read_pvk(header + bytes(16) + blob, "x")


def test_each_limit_of_the_header_at_its_border() -> None:
    """A salt of 1,024 bytes is read before the password is tried, one byte more is refused as an invalid header."""
    blob = write_pvk(key(1024))[24:]
    for salt, words in ((1024, "does not open"), (1025, "header of the .pvk file is invalid")):
        header = struct.pack("<6I", 0xB0B5F11E, 0, 1, 1, salt, len(blob))
        with pytest.raises(CertificateRefused, match=words):
            read_pvk(header + b"s" * salt + blob, "x")


@pytest.mark.parametrize(("bits", "words"), [(8192, "truncated"), (8193, "claims a key of 8193 bits"), (0, "claims")])
def test_the_size_of_a_key_at_its_border(bits: int, words: str) -> None:
    """The largest size is looked for in the file, a larger one is refused at once."""
    data = bytearray(write_pvk(key(1024)))
    data[36:40] = struct.pack("<I", bits)
    with pytest.raises(CertificateRefused, match=words):
        read_pvk(bytes(data))


def test_the_shortest_blob_is_read_to_its_end() -> None:
    """Headers without numbers are truncated; other kinds and versions of a blob are no private key."""
    whole = write_pvk(key(1024))
    assert is_pvk(whole[:4])
    assert not is_pvk(whole[:3])
    with pytest.raises(CertificateRefused, match="truncated"):
        read_pvk(struct.pack("<6I", 0xB0B5F11E, 0, 1, 0, 0, 20) + whole[24:44])
    for place, value in ((24, 6), (25, 1), (29, 0xA5)):
        other = bytearray(whole)
        other[place] = value
        with pytest.raises(CertificateRefused, match="no RSA private key"):
            read_pvk(bytes(other))


def test_what_is_written_is_the_format_of_makecert() -> None:
    """Header and blob header, byte by byte, and the numbers little-endian."""
    data = write_pvk(key(1024))
    assert data[:24] == struct.pack("<6I", 0xB0B5F11E, 0, 1, 0, 0, len(data) - 24)
    assert data[24:44] == struct.pack("<BBHI", 7, 2, 0, 0xA400) + struct.pack("<4sII", b"RSA2", 1024, 65537)
    numbers = key(1024).private_numbers()
    assert data[44:172] == numbers.public_numbers.n.to_bytes(128, "little")
    assert data[172:236] == numbers.p.to_bytes(64, "little")
    assert data[-128:] == numbers.d.to_bytes(128, "little")


@pytest.mark.parametrize("password", ["p\u00e4ss", "\u20ac"])
def test_passwords_outside_ascii_are_tried_in_both_encodings(tmp_path: Path, password: str) -> None:
    """UTF-8 first, then Latin-1 where the password fits into it."""
    pem, pvk = tmp_path / "k.pem", tmp_path / "k.pvk"
    openssl("genrsa", "-out", str(pem), "1024")
    secret = ("-passout", f"pass:{password}")
    openssl("rsa", "-in", str(pem), "-outform", "PVK", "-pvk-strong", "-out", str(pvk), *secret, *LEGACY)
    assert read_pvk(pvk.read_bytes(), password).key_size == 1024
