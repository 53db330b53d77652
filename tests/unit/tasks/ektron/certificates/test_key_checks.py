"""What is checked of the key in a `.pfx` file: that its numbers fit together, not that its factors are primes."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers, generate_private_key
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from tasks.ektron.certificates import files
from tasks.ektron.certificates.files import key_of_pfx
from tasks.ektron.certificates.making import generate_family, self_signed
from tasks.ektron.certificates.pfx import key_first
from tasks.ektron.refusals import CertificateRefused
from tests.unit.tasks.ektron.certificates.openssl import LEGACY, openssl


@cache
def key() -> RSAPrivateKey:
    """One key for all tests."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def pfx_of(numbers: RSAPrivateNumbers) -> bytes:
    """A file with a key of these numbers, right or wrong, beside the certificate of the right one."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = self_signed(key(), start, start + timedelta(days=9))
    given = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return pkcs12.serialize_key_and_certificates(b"x", given, certificate, None, NoEncryption())


@pytest.mark.parametrize("written_by", ["our own code", "OpenSSL", "OpenSSL, as in 2012", "a lab, without encryption"])
def test_the_key_of_a_usual_file_is_read_by_itself(
    written_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its primes are not proven, and key and certificate are those that the library reads."""
    made = generate_family("S1", bits=1024).blobs["SyncClient.pfx"]
    if written_by.startswith("a lab"):
        made = pfx_of(key().private_numbers())
    if written_by.startswith("OpenSSL"):
        own, pem, out = (tmp_path / name for name in ("own.pfx", "own.pem", "out.pfx"))
        own.write_bytes(made)
        openssl("pkcs12", *LEGACY, "-in", str(own), "-passin", "pass:", "-nodes", "-out", str(pem))
        old = LEGACY if written_by.endswith("2012") else ()
        openssl("pkcs12", *old, "-export", "-in", str(pem), "-passout", "pass:secret", "-out", str(out))
        made = out.read_bytes()
    passwords = ("secret",)
    opened = next(opened for password in ("", *passwords) if (opened := key_first(made, password)))
    expected = files._together(opened, "secret" if written_by.startswith("OpenSSL") else "")
    monkeypatch.setattr(files, "_together", None)
    found, certificate = key_of_pfx(made, passwords)
    assert isinstance(expected[0], RSAPrivateKey)
    assert (found.private_numbers(), certificate) == (expected[0].private_numbers(), expected[1])


@pytest.mark.parametrize("name", ["p", "q", "d"])
def test_a_wrong_factor_or_exponent_is_found(name: str) -> None:
    """Such a key would decrypt nothing."""
    right = key().private_numbers()
    given = {one: getattr(right, one) for one in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    assert files._fits_together(right)
    wrong = RSAPrivateNumbers(**(given | {name: given[name] + 2}), public_numbers=right.public_numbers)
    assert not files._fits_together(wrong)


def test_a_key_whose_numbers_do_not_fit_together_is_refused() -> None:
    """The library, which then checks it completely, refuses it too."""
    right = key().private_numbers()
    assert key_of_pfx(pfx_of(right))[0].private_numbers() == right
    exponent = right.d + 2
    wrong = RSAPrivateNumbers(
        right.p, right.q, exponent, right.dmp1, right.dmq1, right.iqmp, public_numbers=right.public_numbers
    )
    with pytest.raises(CertificateRefused):
        key_of_pfx(pfx_of(wrong))
