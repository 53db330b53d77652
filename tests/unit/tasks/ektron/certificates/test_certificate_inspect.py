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


@pytest.mark.parametrize("name", ["S1_SyncClient.cer", "unknown.bin"])
def test_anything_else_is_refused(name: str) -> None:
    """A file of another kind is refused with a message."""
    with pytest.raises(CertificateRefused):
        inspect(name, b"hello", NOW)
