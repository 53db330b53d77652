"""Case files of single certificate files: how each is made, damaged and named, and the result. Each is read twice."""

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from tasks.ektron.certificates.inspect import inspect
from tasks.ektron.certificates.making import blank_pfx, self_signed
from tasks.ektron.certificates.pvk import write_pvk
from tasks.ektron.refusals import CertificateRefused
from tests.places import CASE_FOLDERS

CASES = sorted((CASE_FOLDERS / "certs").glob("*.json"))
NOW = datetime(2026, 11, 23, tzinfo=UTC)
START = NOW - timedelta(days=10)
SECRET = BestAvailableEncryption(b"secret")
OLD = (datetime(2008, 1, 1, 4, tzinfo=UTC), datetime(2019, 1, 1, 4, tzinfo=UTC))


@cache
def key() -> rsa.RSAPrivateKey:
    """One small key for all cases."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - the product's own size


@cache
def certificate(start: datetime = START, end: datetime = START + timedelta(days=900)) -> x509.Certificate:
    """Its certificate."""
    return self_signed(key(), start, end)


def elliptic() -> bytes:
    """A certificate with a key that is not RSA."""
    curve = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ektron")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(curve.public_key())
    dated = builder.serial_number(7).not_valid_before(START).not_valid_after(START + timedelta(days=9))
    return dated.sign(curve, hashes.SHA256()).public_bytes(Encoding.DER)


def made(how: str) -> bytes:
    """The file that the case describes."""
    pem = certificate().public_bytes(Encoding.PEM)
    makers: dict[str, Any] = {
        "cer": lambda: certificate().public_bytes(Encoding.DER),
        "cer-old": lambda: certificate(*OLD).public_bytes(Encoding.DER),
        "cer-pem": lambda: pem,
        "cer-pem-crlf": lambda: b"Bag Attributes\r\n" + pem.replace(b"\n", b"\r\n"),
        "cer-ec": elliptic,
        "pfx": lambda: blank_pfx(key(), certificate()),
        "pfx-password": lambda: pkcs12.serialize_key_and_certificates(b"x", key(), certificate(), None, SECRET),
        "pfx-aes": lambda: pkcs12.serialize_key_and_certificates(None, key(), certificate(), None, SECRET),
        "pvk": lambda: write_pvk(key()),
        "key-pem": lambda: key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "empty": lambda: b"",
        "zeros": lambda: bytes(500),
        "huge": lambda: b"\x30" * 3_000_000,
        "text": lambda: b"these are not the files you are looking for\r\n",
    }
    return bytes(makers[how]())


def damaged(data: bytes, damage: dict[str, Any]) -> bytes:
    """Truncated, one byte flipped, or some bytes replaced."""
    if "cut" in damage:
        return data[: damage["cut"]]
    if "replace" in damage:
        old, new = map(bytes.fromhex, damage["replace"])
        assert old in data
        return data.replace(old, new)
    changed = bytearray(data)
    if "flip" in damage:
        changed[damage["flip"]] ^= 1
    if "patch" in damage:
        place, text = damage["patch"]
        changed[place : place + len(text) // 2] = bytes.fromhex(text)
    return bytes(changed)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """The file is identified as in the case, or refused with a message and a remedy; twice with the same result."""
    case = json.loads(path.read_text(encoding="ascii"))
    data = damaged(made(case["make"]), case.get("damage", {}))
    passwords = tuple(case.get("passwords", ()))
    for _ in range(2):
        if "refused" in case:
            with pytest.raises(CertificateRefused) as caught:
                inspect(case["name"], data, NOW, passwords=passwords)
            assert case["refused"] in caught.value.message
            assert caught.value.remedy
            continue
        seen = inspect(case["name"], data, NOW, passwords=passwords).model_dump(mode="json")
        assert case["expected"] == {name: seen[name] for name in case["expected"]}


def test_there_are_cases() -> None:
    """The test finds the files, and each has a sentence that describes it."""
    assert len(CASES) >= 20
    assert all(json.loads(path.read_text(encoding="ascii"))["says"] for path in CASES)
