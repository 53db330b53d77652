"""The six files of the Security Configurator, checked with OpenSSL and cryptography."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs12

from lab.product.family import KINDS, Family, make_family


@pytest.fixture(scope="module")
def family() -> Family:
    """One family."""
    return make_family()


def openssl(*arguments: str) -> str:
    """The output of OpenSSL."""
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def test_the_certificate_has_the_profile_of_the_product(family: Family) -> None:
    """ektron-facts 3.2: 497 bytes, the known prefix, CN=ektron, 2008 to 2019, MD5, 1024 bits."""
    certificate = x509.load_der_x509_certificate(family.client.cer)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert (497, "MIIB7TCCAVag") == (len(family.client.cer), family.client.encoded[:12])
    assert ("CN=ektron", "CN=ektron") == (certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string())
    assert (2008, 2019, 1024) == (
        certificate.not_valid_before_utc.year,
        certificate.not_valid_after_utc.year,
        key.key_size,
    )
    assert "1.2.840.113549.1.1.4" == certificate.signature_algorithm_oid.dotted_string
    assert ["2.5.29.1"] == [extension.oid.dotted_string for extension in certificate.extensions]


def test_the_certificate_is_self_signed(family: Family, tmp_path: Path) -> None:
    """OpenSSL verifies it with itself as the CA."""
    pem = tmp_path / "c.pem"
    pem.write_text(x509.load_der_x509_certificate(family.server.cer).public_bytes(Encoding.PEM).decode())
    arguments = ("verify", "-check_ss_sig", "-no_check_time", "-auth_level", "0", "-CAfile", str(pem), str(pem))
    assert "OK" in openssl(*arguments)


def test_the_three_files_have_one_key(family: Family, tmp_path: Path) -> None:
    """The public key of .pvk, .pfx and .cer is the same."""
    pvk = tmp_path / "k.pvk"
    pvk.write_bytes(family.client.pvk)
    key, certificate, _ = pkcs12.load_key_and_certificates(family.client.pfx, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert certificate
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert public == openssl("rsa", "-inform", "PVK", "-in", str(pvk), "-pubout")
    assert family.client.cer == certificate.public_bytes(Encoding.DER)


def test_a_family_is_six_files_with_a_machines_name(family: Family) -> None:
    """Two identities of three files."""
    files = dict(family.files("mach-1"))
    assert [f"mach-1_{kind}" for kind in KINDS] == list(files)
    assert files["mach-1_SyncClient.cer"] == base64.b64decode(family.client.encoded)


def test_two_families_share_nothing(family: Family) -> None:
    """Keys and serial numbers differ, names do not."""
    other = make_family()
    assert 4 == len({family.client.cer, family.server.cer, other.client.cer, other.server.cer})
