"""Files are identified by their content, not by their names."""

from datetime import UTC, datetime

import pytest

from tasks.ektron.certificates.inspect import inspect
from tasks.ektron.certificates.making import generate_family
from tasks.ektron.refusals import CertificateRefused
from tests.unit.tasks.ektron.certificates.openssl import openssl

NOW = datetime(2026, 11, 23, tzinfo=UTC)
FAMILY = generate_family("S1", bits=1024, not_before=datetime(2020, 1, 1, tzinfo=UTC))


def test_the_three_files_of_a_side_show_one_key() -> None:
    """PFX, PVK and CER of a pair have the same key digest, the other side another one."""
    seen = {kind: inspect(f"S1_{kind}", data, NOW) for kind, data in FAMILY.blobs.items()}
    assert len({seen[f"SyncClient.{ext}"].key for ext in ("pfx", "pvk", "cer")}) == 1
    assert seen["SyncClient.cer"].key != seen["SyncServer.cer"].key
    assert [seen[f"SyncClient.{ext}"].private for ext in ("pfx", "pvk", "cer")] == [True, True, False]
    assert seen["SyncClient.cer"].encoded_value == FAMILY.encoded_value
    assert seen["SyncClient.pfx"].certificate == FAMILY.client
    assert {one.node for one in seen.values()} == {"S1"}
    assert seen["SyncClient.cer"].notes == ("has a key of 1024 bits, 2048 are recommended",)


def test_a_misnamed_file_has_a_note() -> None:
    """A PVK with the name of a PFX is identified as PVK, with a note."""
    found = inspect("S1_SyncClient.pfx", FAMILY.blobs["SyncClient.pvk"], NOW)
    assert found.what == "private key (.pvk)"
    assert found.notes == ("the file name is for a .pfx file",)


def test_text_forms_are_recognised() -> None:
    """PEM text is recognised."""
    pem = openssl("x509", "-inform", "DER", stdin=FAMILY.blobs["SyncClient.cer"])
    assert inspect("a.pem", pem, NOW).what == "certificate (PEM text)"
    key = openssl("genrsa", "1024")
    assert inspect("k.pem", key, NOW).what == "private key (PEM text)"


def test_several_in_one_file_of_text_are_said() -> None:
    """The first one is described, and the others are not passed over without a word."""
    pem = openssl("x509", "-inform", "DER", stdin=FAMILY.blobs["SyncClient.cer"])
    assert "the first of 2 certificates and keys in this file" in inspect("chain.pem", pem * 2, NOW).notes
    key = openssl("genrsa", "1024")
    assert inspect("both.pem", key + pem, NOW).notes == ("the first of 2 certificates and keys in this file",)


def test_what_the_product_cannot_use_is_called_what_it_is() -> None:
    """Not that it is no certificate: a certificate with another kind of key, a request, a key with a password."""
    key = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    own = ("req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=ca", "-days", "30", "-outform")
    for form in ("PEM", "DER"):
        with pytest.raises(CertificateRefused, match="the key of the certificate is not an RSA key"):
            inspect("ca.pem", openssl(*own, form, stdin=key), NOW)
    request = openssl("req", "-new", "-key", "/dev/stdin", "-subj", "/CN=x", stdin=key)
    with pytest.raises(CertificateRefused, match="'CERTIFICATE REQUEST', not a certificate"):
        inspect("a.csr", request, NOW)
    locked = openssl("rsa", "-aes256", "-passout", "pass:planted", stdin=openssl("genrsa", "1024"))
    with pytest.raises(CertificateRefused, match="in PEM text, and it has a password"):
        inspect("a.key", locked, NOW)
    pem = openssl("x509", "-inform", "DER", stdin=FAMILY.blobs["SyncClient.cer"])
    with pytest.raises(CertificateRefused, match="UTF-16"):
        inspect("a.pem", pem.decode().encode("utf-16"), NOW)


@pytest.mark.parametrize("name", ["S1_SyncClient.cer", "unknown.bin"])
def test_anything_else_is_refused(name: str) -> None:
    """A file of another kind is refused with a message."""
    with pytest.raises(CertificateRefused):
        inspect(name, b"hello", NOW)
