"""The Microsoft private key file: both ways, against OpenSSL, and against everything malformed."""

import struct
import time
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
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
    """Any key size survives, also those whose length is no multiple of sixteen bits."""
    original = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    try:
        data = write_pvk(original)
    except CertificateRefused:
        return
    assert read_pvk(data).private_numbers() == original.private_numbers()
    assert is_pvk(data)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_openssl_reads_what_we_write(tmp_path: Path, bits: int) -> None:
    """OpenSSL finds our key whole and of the same modulus."""
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


@settings(max_examples=examples(whole=4000, sample=200))
@given(st.data())
def test_damaged_files_are_refused_or_the_same_key(data: st.DataObject) -> None:
    """Damaging any bytes gives a refusal, or a file whose key is a consistent one; nothing else is ever raised."""
    whole = write_pvk(key(1024))
    place = data.draw(st.integers(0, len(whole)))
    damaged = whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + data.draw(st.integers(0, 8)) :]
    try:
        read = read_pvk(damaged, data.draw(st.sampled_from([None, "", "x", "\u20ac"])))
    except CertificateRefused:
        return
    numbers = read.private_numbers()
    assert numbers.p * numbers.q == numbers.public_numbers.n


@pytest.mark.parametrize("length", range(0, 620, 7))
def test_cut_files_are_refused(length: int) -> None:
    """A file cut at any length is refused with a sentence."""
    with pytest.raises(CertificateRefused):
        read_pvk(write_pvk(key(1024))[:length])


HEADER = {"reserved": 0, "type": 1, "encrypted": 0, "salt": 0, "length": 596}


def with_header(**other: int) -> bytes:
    """A good key under a header with some words changed."""
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
    """Lengths and flags that cannot be are refused before anything is allocated."""
    with pytest.raises(CertificateRefused):
        read_pvk(with_header(**other), "x")


@pytest.mark.parametrize("bits", [0, 8, 1100, 16385, 0xFFFFFFFF])
def test_impossible_sizes_are_refused(bits: int) -> None:
    """A key size the file does not hold is refused at once."""
    data = bytearray(write_pvk(key(1024)))
    data[36:40] = struct.pack("<I", bits)
    started = time.process_time()
    with pytest.raises(CertificateRefused):
        read_pvk(bytes(data))
    assert time.process_time() - started < 1


def test_a_signature_key_is_read_too() -> None:
    """Files of the signature kind hold the same numbers."""
    data = bytearray(with_header(type=2))
    data[28:32] = struct.pack("<I", 0x2400)
    assert read_pvk(bytes(data)).key_size == 1024


def test_trailing_bytes_do_no_harm() -> None:
    """What follows the key blob is ignored, as OpenSSL does."""
    assert read_pvk(write_pvk(key(1024)) + b"\0" * 9).key_size == 1024
