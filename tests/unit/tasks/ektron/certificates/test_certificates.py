"""The family: made, collected, named, and checked with OpenSSL."""

import base64
import hashlib
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.encoded import der_of
from tasks.ektron.certificates.family import (
    CLIENT_KINDS,
    KINDS,
    Family,
    family_names,
    node_of,
    strays,
    thumbprint,
    weaknesses,
)
from tasks.ektron.certificates.files import describe_certificate, key_of_pfx, key_of_pvk
from tasks.ektron.certificates.making import generate_family
from tasks.ektron.facts.values import CertificateFacts
from tasks.ektron.refusals import CertificateRefused
from tests.sampling import examples
from tests.unit.tasks.ektron.certificates.openssl import LEGACY, modulus, openssl, self_signed


@cache
def family() -> Family:
    """One family for all tests."""
    return generate_family("S1")


def files(node: str = "S1", **other: bytes) -> dict[str, bytes]:
    """The files of the family with the names of a node, some replaced (dots written as underscores)."""
    blobs = {**family().blobs, **{kind.replace("_", "."): data for kind, data in other.items()}}
    return {f"{node}_{kind}": data for kind, data in blobs.items()}


def server(made: Family) -> CertificateFacts:
    """The public part of the server certificate."""
    return describe_certificate(made.blobs["SyncServer.cer"])


def client_weaknesses(made: Family) -> list[str]:
    """What is weak in the client certificate today."""
    return [text for text, _ in weaknesses(made.client, datetime.now(UTC))]


def write(folder: Path, made: Family) -> None:
    """The six files in a folder."""
    for kind, data in made.blobs.items():
        (folder / kind).write_bytes(data)


def test_names_are_the_procedures() -> None:
    """Six names in the order of the procedure."""
    assert family_names("mach1") == (
        "mach1_SyncClient.pfx",
        "mach1_SyncClient.pvk",
        "mach1_SyncClient.cer",
        "mach1_SyncServer.pfx",
        "mach1_SyncServer.pvk",
        "mach1_SyncServer.cer",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S1_SyncClient.cer", ("S1", "SyncClient.cer")),
        ("s1_syncclient.CER", ("s1", "SyncClient.cer")),
        ("0A-B_C_SyncServer.pvk", ("0A-B_C", "SyncServer.pvk")),
        ("EktronSyncClient.pfx", None),
        ("S1_SyncClient.txt", None),
        ("web.config", None),
    ],
)
def test_the_node_is_read_from_a_name(name: str, expected: tuple[str, str] | None) -> None:
    """The kind is read from the end of the name, so names of nodes may contain underscores."""
    assert node_of(name) == expected


def test_openssl_agrees_on_every_file(tmp_path: Path) -> None:
    """OpenSSL reads the same modulus of PFX, PVK and CER, the same dates and the same thumbprint."""
    made = family()
    write(tmp_path, made)
    for side, facts in (("SyncClient", made.client), ("SyncServer", server(made))):
        cer, pvk, pfx = (str(tmp_path / f"{side}.{kind}") for kind in ("cer", "pvk", "pfx"))
        inside = openssl("pkcs12", "-in", pfx, "-passin", "pass:", "-nodes", "-nocerts", *LEGACY)
        (tmp_path / "inside.pem").write_bytes(inside)
        expected = modulus("x509", "-inform", "DER", "-in", cer)
        assert modulus("rsa", "-inform", "PVK", "-in", pvk) == expected
        assert modulus("rsa", "-in", str(tmp_path / "inside.pem")) == expected
        printed = openssl("x509", "-inform", "DER", "-in", cer, "-noout", "-fingerprint", "-sha256", "-enddate")
        lines = dict(line.split("=", 1) for line in printed.decode().splitlines())
        assert lines["sha256 Fingerprint"].replace(":", "").lower() == facts.thumbprint
        ends = datetime.strptime(lines["notAfter"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        assert ends == facts.not_after


def test_a_new_family_has_no_weakness() -> None:
    """2048 bits, SHA-256, the subject of the product, valid for ten years from yesterday."""
    made = family()
    assert client_weaknesses(made) == []
    assert not list(weaknesses(server(made), datetime.now(UTC)))
    assert made.client.subject == "CN=ektron"
    assert (made.client.key_bits, made.client.signature) == (2048, "sha256")
    assert made.client.not_after - made.client.not_before == timedelta(days=3650)


def test_the_encoded_value_is_one_line_of_base64() -> None:
    """The value is the DER in base64 on one line, and its thumbprint is that of the file."""
    made = family()
    assert base64.b64decode(made.encoded_value, validate=True) == made.blobs["SyncClient.cer"]
    assert made.thumbprint == made.hashes["SyncClient.cer"] == made.client.thumbprint
    assert thumbprint(made.encoded_value) == made.thumbprint


@pytest.mark.parametrize("text", ["AAA", "Tk\nVX", " TkVX", "TkVX ", "\u20ac", "TkVY=", "TkV="])
def test_a_value_in_another_form_equals_no_certificate(text: str) -> None:
    """A value that is not exact base64 has another thumbprint than any certificate, and causes no error."""
    assert thumbprint(text) != thumbprint("TkVX")
    assert thumbprint("TkV=") != thumbprint("TkU=")  # both decode to the same bytes, only one is exact
    assert len(thumbprint(text)) == 64
    assert thumbprint("") == ""


def test_copies_are_named_for_every_node() -> None:
    """The same kinds with the name of each node."""
    assert family().files_for("P1") == {f"P1_{kind}": kind for kind in KINDS}
    assert family().hashes["SyncClient.pfx"] == hashlib.sha256(family().blobs["SyncClient.pfx"]).hexdigest()


def test_a_family_is_collected_in_any_case() -> None:
    """Windows compares names without case; other files in the folder are ignored."""
    found = {name.upper(): data for name, data in files().items()} | {"readme.txt": b"", "S2_SyncClient.cer": b"x"}
    assert Family.collect("s1", found).hashes == family().hashes


def test_the_text_form_of_a_family_has_no_keys() -> None:
    """The text form of a family contains no byte of a file."""
    assert repr(family()) == "Family()"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(kind: str) -> None:
    """The refusal names the missing file and the screen to open."""
    found = files()
    del found[f"S1_{kind}"]
    with pytest.raises(CertificateRefused, match=f"S1_{kind}") as caught:
        Family.collect("S1", found)
    assert "Security Configurator on S1" in caught.value.remedy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "zeros", "huge"])
def test_a_damaged_file_is_named(kind: str, damage: str) -> None:
    """For every kind of damage the refusal names the file."""
    whole = family().blobs[kind]
    bad = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"hello",
        "zeros": bytes(len(whole)),
        "huge": bytes(2 << 20),
    }
    with pytest.raises(CertificateRefused, match=f"S1_{kind}: "):
        Family.collect("S1", {**files(), f"S1_{kind}": bad[damage]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_family_is_found(kind: str) -> None:
    """One file of another family among the six is found."""
    other = generate_family("S1", bits=1024)
    with pytest.raises(CertificateRefused, match=r"another (key|certificate) than"):
        Family.collect("S1", {**files(), f"S1_{kind}": other.blobs[kind]})


def test_swapped_sides_are_found() -> None:
    """Client files in place of the server files are refused: both sides would have one key pair."""
    found = {f"S1_SyncServer.{ext}": family().blobs[f"SyncClient.{ext}"] for ext in ("pfx", "pvk", "cer")}
    with pytest.raises(CertificateRefused, match="same key"):
        Family.collect("S1", {**files(), **found})


def test_a_renewed_certificate_does_not_fit_its_pfx(tmp_path: Path) -> None:
    """The same key with another certificate in the .cer is refused: other servers would trust the wrong one."""
    (tmp_path / "k.pvk").write_bytes(family().blobs["SyncClient.pvk"])
    openssl("rsa", "-inform", "PVK", "-in", str(tmp_path / "k.pvk"), "-out", str(tmp_path / "k.pem"))
    new = openssl("req", "-x509", "-key", str(tmp_path / "k.pem"), "-subj", "/CN=ektron", "-outform", "DER")
    with pytest.raises(CertificateRefused, match=r"S1_SyncClient.pfx contains another certificate"):
        Family.collect("S1", files(SyncClient_cer=new))


def product_family(folder: Path, password: str = "") -> dict[str, bytes]:
    """Six files with the profile of the product's tools, made by OpenSSL: RSA-1024, MD5, old PKCS #12 algorithms."""
    made: dict[str, bytes] = {}
    for side in ("SyncClient", "SyncServer"):
        key, cer = self_signed(folder, name=side)
        pem, pfx, pvk = (str(folder / f"{side}.{kind}") for kind in ("pemcer", "pfx", "pvk"))
        openssl("x509", "-inform", "DER", "-in", str(cer), "-out", pem)
        secret = ("-passout", f"pass:{password}")
        openssl("pkcs12", "-export", "-legacy", "-inkey", str(key), "-in", pem, "-out", pfx, *secret)
        openssl("rsa", "-in", str(key), "-outform", "PVK", "-pvk-none", "-out", pvk)
        made |= {f"S1_{side}.{kind}": (folder / f"{side}.{kind}").read_bytes() for kind in ("pfx", "pvk", "cer")}
    return made


def test_the_products_own_profile_is_accepted_with_warnings(tmp_path: Path) -> None:
    """A family with CN=ektron, RSA-1024 and MD5 is accepted with warnings about its weaknesses."""
    collected = Family.collect("S1", product_family(tmp_path))
    assert collected.client.signature == "md5"
    assert any("1024 bits" in weakness for weakness in client_weaknesses(collected))
    assert any("md5" in weakness for weakness in client_weaknesses(collected))


def test_a_password_is_tried_after_the_blank_one(tmp_path: Path) -> None:
    """A protected PFX opens with its password, and is refused without it."""
    found = product_family(tmp_path, password="opensesame")
    assert Family.collect("S1", found, passwords=("wrong", "opensesame")).client.key_bits == 1024
    with pytest.raises(CertificateRefused, match=r"S1_SyncClient.pfx: no password opens"):
        Family.collect("S1", found, passwords=("wrong", "with\0zero"))


def test_an_expired_certificate_has_a_warning() -> None:
    """An expired family is collected, with a warning that contains the date."""
    old = generate_family("S1", bits=1024, years=11, not_before=datetime(2008, 1, 1, 4, tzinfo=UTC))
    assert any("expired on 2018-12-29" in weakness for weakness in client_weaknesses(old))


def test_pem_is_recognised(tmp_path: Path) -> None:
    """A certificate and a key in PEM text are read; another PEM block is refused by its name."""
    key, cer = self_signed(tmp_path, bits=2048, digest="sha256")
    pem = openssl("x509", "-inform", "DER", "-in", str(cer))
    assert der_of(b"Bag Attributes\n" + pem) == cer.read_bytes()
    assert describe_certificate(pem) == describe_certificate(cer.read_bytes())
    assert key_of_pvk(key.read_bytes()).key_size == 2048
    with pytest.raises(CertificateRefused, match="PRIVATE KEY"):
        der_of(key.read_bytes())


def test_other_key_types_are_refused(tmp_path: Path) -> None:
    """A key on an elliptic curve is refused, because eSync uses RSA."""
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(tmp_path / "e.pem"))
    pem = (tmp_path / "e.pem").read_bytes()
    with pytest.raises(CertificateRefused, match="not an RSA key"):
        key_of_pvk(openssl("pkcs8", "-topk8", "-nocrypt", stdin=pem))


def test_a_pfx_without_key_is_refused(tmp_path: Path) -> None:
    """A PFX with only the certificate is refused."""
    _, cer = self_signed(tmp_path)
    pem = openssl("x509", "-inform", "DER", "-in", str(cer))
    pfx = openssl("pkcs12", "-export", "-nokeys", "-passout", "pass:", stdin=pem)
    with pytest.raises(CertificateRefused, match="has no private key"):
        key_of_pfx(pfx)


def test_negative_serial_numbers_are_read_without_a_warning(tmp_path: Path) -> None:
    """They are read in several threads at once, and the warning filters do not change. Old makecert wrote them."""
    key = tmp_path / "k.pem"
    openssl("genrsa", "-out", str(key), "1024")
    cer = openssl("req", "-x509", "-key", str(key), "-subj", "/CN=ektron", "-set_serial", "-5", "-outform", "DER")
    before = list(warnings.filters)
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(describe_certificate(cer).subject)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["CN=ektron"] * 8
    assert warnings.filters == before


def test_strays_are_security_files_of_others() -> None:
    """Only the six files of this node may be in the staging folder; files of other types do not matter."""
    names = [*family_names("p1"), "S1_SyncClient.PFX", "EktronSyncClient.pfx", "old.cer", "readme.txt", "web.config"]
    assert strays("P1", names) == ("S1_SyncClient.PFX", "EktronSyncClient.pfx", "old.cer")


@cache
def small_family() -> Family:
    """A family with the key size that the product uses, which is several times faster to check."""
    return generate_family("S1", bits=1024)


def whole(kind: str) -> bytes:
    """One file of the small family."""
    return small_family().blobs[f"SyncClient.{kind}"]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, int, int, bytes]:
    """A kind of file, a place in it, the number of bytes removed there, and the bytes inserted."""
    kind = draw(st.sampled_from(["cer", "pfx", "pvk"]))
    return kind, draw(st.integers(0, len(whole(kind)))), draw(st.integers(0, 4)), draw(st.binary(max_size=4))


@settings(max_examples=examples(whole=3000, sample=40))
@given(damaged())
@example(("cer", 0, 0, b""))
@example(("cer", 1, 1, b"\xff"))  # a length beyond the end of the file
@example(("cer", 12, 1, b"\x63"))  # an unknown version, for which the library has its own exception
@example(("pfx", 0, 2, b"\x30\x80"))  # an indefinite length without an end mark
@example(("pfx", 30, 1, b"\x00"))
@example(("pvk", 4, 4, b"\xff\xff\xff\xff"))
@example(("pvk", 40, 4, b"\x00\x00\x00\x00"))  # a public exponent of zero
def test_any_damage_is_a_refusal_or_no_damage(damage: tuple[str, int, int, bytes]) -> None:
    """For any changed bytes in a file, collecting returns a family or a refusal, never another error."""
    found = {f"S1_{name}": blob for name, blob in small_family().blobs.items()}
    kind, place, removed, inserted = damage
    changed = whole(kind)[:place] + inserted + whole(kind)[place + removed :]
    try:
        Family.collect("S1", found | {f"S1_SyncClient.{kind}": changed})
    except CertificateRefused as refusal:
        message = refusal.message
    else:
        message = "S1_SyncClient"
    assert "S1" in message


def test_a_new_family_has_the_wanted_profile() -> None:
    """Size, years and start are those that were asked for; the start has whole seconds."""
    start = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    made = generate_family("S1", bits=1024, years=2, not_before=start)
    for facts in (made.client, server(made)):
        assert (facts.key_bits, facts.subject, facts.signature) == (1024, "CN=ektron", "sha256")
        assert facts.not_before == start.replace(microsecond=0)
        assert facts.not_after - facts.not_before == timedelta(days=730)
    assert made.client.thumbprint != server(made).thumbprint
    ago = datetime.now(UTC) - family().client.not_before
    assert timedelta(days=1) <= ago < timedelta(days=1, hours=1)


def test_the_kinds_are_those_of_the_procedure() -> None:
    """Three files of the client, three of the server."""
    assert CLIENT_KINDS == KINDS[:3] == ("SyncClient.pfx", "SyncClient.pvk", "SyncClient.cer")
    assert KINDS[3:] == ("SyncServer.pfx", "SyncServer.pvk", "SyncServer.cer")


def test_a_protected_pvk_is_opened_by_any_of_the_passwords(tmp_path: Path) -> None:
    """The last refusal is reported when none opens it."""
    found = product_family(tmp_path)
    pem, pvk = str(tmp_path / "SyncClient.pem"), tmp_path / "protected.pvk"
    secret = ("-passout", "pass:opensesame")
    openssl("rsa", "-in", pem, "-outform", "PVK", "-pvk-strong", "-out", str(pvk), *secret, *LEGACY)
    found["S1_SyncClient.pvk"] = pvk.read_bytes()
    for passwords in (("opensesame",), ("wrong", "opensesame"), ("opensesame", "wrong")):
        assert Family.collect("S1", found, passwords=passwords).client.key_bits == 1024
    with pytest.raises(CertificateRefused, match=r"S1_SyncClient.pvk: the password does not open"):
        Family.collect("S1", found, passwords=("wrong", "worse"))
    with pytest.raises(CertificateRefused, match=r"S1_SyncClient.pvk: .* protected by a password"):
        Family.collect("S1", found)


@pytest.mark.parametrize(
    ("read", "size", "words"),
    [
        (der_of, 1 << 20, "the certificate has 1048577 bytes, the limit is 1048576"),
        (key_of_pfx, 1 << 20, "the .pfx file has 1048577 bytes"),
        (key_of_pvk, 8192, "the .pvk file has 8193 bytes, the limit is 8192"),
    ],
)
def test_each_file_size_at_its_border(read: Callable[[bytes], object], size: int, words: str) -> None:
    """The largest size is read, or refused for its content; one byte more is refused for its size."""
    try:
        read(b"\0" * size)
    except CertificateRefused as refusal:
        assert "limit" not in refusal.message  # noqa: PT017 - either way is fine
    with pytest.raises(CertificateRefused) as caught:
        read(b"\0" * (size + 1))
    assert words in caught.value.message


@pytest.mark.parametrize("label", ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
def test_each_label_of_a_pem_certificate_is_read(label: str) -> None:
    """With text around the block; damaged base64 in it is refused."""
    cer = family().blobs["SyncClient.cer"]
    text = base64.encodebytes(cer).decode()
    assert der_of(f"words\n-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()) == cer
    with pytest.raises(CertificateRefused, match="base64 of the certificate is damaged"):
        der_of(f"-----BEGIN {label}-----\nAAAAA\n-----END {label}-----".encode())
