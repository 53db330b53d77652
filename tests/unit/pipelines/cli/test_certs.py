"""`esync certs`: inspects real files, also from OpenSSL; generates a family, and never replaces one."""

import json
import re
import stat
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from tasks.ektron.certificates.family import Family
from tasks.ektron.certificates.making import generate_family
from tests.unit.tasks.ektron.certificates.openssl import LEGACY, modulus, openssl, self_signed

PLANTED = "pl4nted-Pfx-Passw0rd"


@pytest.fixture(scope="module")
def family() -> Family:
    """One family for all tests."""
    return generate_family("S1")


def write(folder: Path, family: Family, node: str = "S1") -> Path:
    """The six files under a node's names."""
    for kind, data in family.blobs.items():
        (folder / f"{node}_{kind}").write_bytes(data)
    return folder


def test_a_whole_family_is_shown_on_one_screen(
    tmp_path: Path, family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    """Format, key, dates and thumbprint of each file, two key pairs, and that the six are a family; nothing private."""
    assert run(["certs", "inspect", str(write(tmp_path, family))]) == 0
    shown = capsys.readouterr().out
    assert "S1_SyncClient.cer: certificate (.cer), for node S1" in shown
    assert "S1_SyncClient.pvk: private key (.pvk), for node S1" in shown
    assert "S1_SyncServer.pfx: key and certificate (.pfx), for node S1" in shown
    assert family.thumbprint in shown
    assert 2 == len(re.findall("^key pair ", shown, re.MULTILINE))
    assert "family of S1: whole" in shown
    assert len(shown.splitlines()) <= 48


def test_mixed_families_are_reported(tmp_path: Path, family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    """Six files of two families are six valid files but not a family; the wrong file is named."""
    write(tmp_path, family)
    (tmp_path / "S1_SyncClient.pvk").write_bytes(generate_family("S1").blobs["SyncClient.pvk"])
    assert run(["certs", "inspect", "--json", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["families"]["S1"]["whole"]
    assert "S1_SyncClient.pvk has another key than S1_SyncClient.cer" in found["families"]["S1"]["why"]


def test_files_of_openssl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate, a PFX with a password and a PVK made by OpenSSL are the same key pair to us and to it."""
    key, cer = self_signed(tmp_path, digest="sha256")
    pem, pfx, pvk = tmp_path / "a.crt", tmp_path / "a.pfx", tmp_path / "a.pvk"
    openssl("x509", "-inform", "DER", "-in", str(cer), "-out", str(pem))
    openssl("pkcs12", "-export", "-inkey", str(key), "-in", str(pem), "-out", str(pfx), "-passout", f"pass:{PLANTED}")
    openssl("rsa", "-in", str(key), "-outform", "PVK", "-out", str(pvk), "-pvk-none", *LEGACY)
    (tmp_path / "password").write_text(PLANTED)
    (tmp_path / "password").chmod(0o600)
    reference = f"file:{tmp_path / 'password'}"
    files = [str(cer), str(pem), str(pfx), str(pvk), str(key)]
    assert run(["certs", "inspect", "--json", "--password", reference, *files]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)["files"]
    assert {"certificate (.cer)", "certificate (PEM text)", "key and certificate (.pfx)"} < {
        file["what"] for file in found.values()
    }
    assert 1 == len({file["key"] for file in found.values()})
    assert modulus("x509", "-inform", "DER", "-in", str(cer)).bit_length() == found[str(cer)]["key_bits"]
    printed = openssl("x509", "-inform", "DER", "-in", str(cer), "-noout", "-fingerprint", "-sha256").decode()
    thumbprint = printed.partition("=")[2].strip().replace(":", "").lower()
    assert {thumbprint} == {file["certificate"]["thumbprint"] for file in found.values() if file["certificate"]}
    assert PLANTED not in out


def test_a_protected_pvk_of_openssl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A PVK with a password opens with the right one from the environment; without it the error is a sentence."""
    key, _ = self_signed(tmp_path)
    strong = ("-pvk-strong", "-passout", f"pass:{PLANTED}", *LEGACY)
    openssl("rsa", "-in", str(key), "-outform", "PVK", "-out", str(tmp_path / "a.pvk"), *strong)
    assert run(["certs", "inspect", str(tmp_path / "a.pvk")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("PVK_PASSWORD", PLANTED)
    assert run(["certs", "inspect", "--password", "env:PVK_PASSWORD", str(tmp_path / "a.pvk")]) == 0
    shown = capsys.readouterr()
    assert "private key (.pvk)" in shown.out
    assert PLANTED not in shown.out + shown.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("S1_SyncClient.cer", b"", "empty"),
        ("S1_SyncClient.cer", b"not a certificate", "error"),
        ("S1_SyncClient.pfx", b"0\x82\x01", "error"),
        ("S1_SyncClient.pvk", b"\x1e\xf1\xb5\xb0" + b"\xff" * 40, "error"),
    ],
)
def test_damaged_files_are_a_sentence(
    tmp_path: Path, name: str, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable file is reported with exit 1; the other files are shown all the same."""
    (tmp_path / name).write_bytes(content)
    _, good = self_signed(tmp_path, name="good")
    assert run(["certs", "inspect", str(tmp_path / name), str(good)]) == 1
    shown = capsys.readouterr()
    assert words in shown.err
    assert name in shown.err
    assert "Traceback" not in shown.err
    assert "good.cer: certificate" in shown.out


@pytest.mark.parametrize(
    "arguments", [["no-such.cer"], ["--password", "plain", "x"], ["--password", "env:UNSET_1", "x"]]
)
def test_unreadable_inputs_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and an invalid reference end the command with an error."""
    assert run(["certs", "inspect", *arguments]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_family_is_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six files that only their owner can read, listed on stdout; OpenSSL reads them, and they are a family."""
    folder = tmp_path / "new" / "family"
    assert run(["certs", "generate", "WEB-1", "--out", str(folder)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert sorted(map(str, folder.iterdir())) == sorted(listed)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    Family.collect("WEB-1", {path.name: path.read_bytes() for path in folder.iterdir()})
    cer, pvk = str(folder / "WEB-1_SyncClient.cer"), str(folder / "WEB-1_SyncClient.pvk")
    assert modulus("x509", "-inform", "DER", "-in", cer) == modulus("rsa", "-inform", "PVK", "-in", pvk)


def test_an_existing_family_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One existing file is enough: nothing is written, the file stays, and no part of a family is left."""
    (tmp_path / "S1_SyncServer.cer").write_bytes(b"mine")
    assert run(["certs", "generate", "S1", "--out", str(tmp_path)]) == 1
    assert ["S1_SyncServer.cer"] == [path.name for path in tmp_path.iterdir()]
    assert b"mine" == (tmp_path / "S1_SyncServer.cer").read_bytes()
    assert "the file exists already" in capsys.readouterr().err


@pytest.mark.parametrize("node", ["", "a/b", "..", "A23456789012345678", "S1;x"])
def test_odd_names_are_refused(node: str, tmp_path: Path) -> None:
    """A name that is not a NetBIOS name never becomes part of a path."""
    assert run(["certs", "generate", "--out", str(tmp_path), "--", node]) == 64
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("partner", "said"),
    [
        ("X1", "no run kept here"),
        ("web7.corp.example", "no run kept here"),
        ("../x", "cannot be the name of a partner"),
        ("a b", "cannot be the name of a partner"),
    ],
)
def test_a_partner_is_named_as_the_cluster_file_names_it(
    partner: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with its full name; without a run that has handed out certificates there is nothing to write yet."""
    (tmp_path / "shop.yaml").write_text(
        """{name: shop, edition: "8.0", origin: S1, site: {path: 'C:\\site'}, connection: {user: u, secret: "env:SHOP"},
        nodes: [{name: S1, host: s1, role: staging, pool: staging}]}"""
    )
    command = ["certs", "export", str(tmp_path / "shop.yaml")]
    assert run([*command, "--for", partner, "--out", str(tmp_path / "out")]) in {1, 64}
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
