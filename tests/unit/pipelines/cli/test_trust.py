"""`esync trust` against real TLS listeners: shown, pinned after a yes, refused when changed."""

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.cluster_file.pins import PINS_FILE, pinned_in_pem
from pipelines.usecases.trust import fingerprints_of
from tests.unit.workers.winrm.https_server import HttpsServer, answering

FILE = """\
# my servers
name: shop
edition: "8.5"
origin: S1
site: {{path: 'C:\\inetpub\\shop'}}
connection: {{user: svc, secret: "env:SHOP"}}
nodes:
  - {{name: S1, host: 127.0.0.1, role: staging, pool: web, connection: {{port: {0}}}}}   # the first
  - name: P1
    host: 127.0.0.1   # the second
    role: production
    pool: live
    connection:
      port: {1}   # ours
"""


def shown(port: int) -> str:
    """SHA-256 of the certificate of a listener, by the ssl module of Python alone: `AA:BB:...`."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    (value,) = fingerprints_of({"x": pem}).values()
    return ":".join(value[at : at + 2] for at in range(0, 64, 2)).upper()


@pytest.fixture
def servers() -> Iterator[tuple[HttpsServer, HttpsServer]]:
    """Two listeners, each with a certificate of its own."""
    with ExitStack() as stack:
        yield stack.enter_context(answering()), stack.enter_context(answering())


@pytest.fixture
def file(tmp_path: Path, servers: tuple[HttpsServer, HttpsServer]) -> Path:
    """A cluster file with both."""
    path = tmp_path / "shop.yaml"
    path.write_text(FILE.format(servers[0].port, servers[1].port))
    return path


def test_new_certificates_are_shown_and_pinned(
    file: Path, servers: tuple[HttpsServer, HttpsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Subject, dates, key, signature and fingerprint of each; the pins are in the file, and its comments stay."""
    assert 0 == run(["trust", str(file), "-y"])
    said = capsys.readouterr().err
    text = file.read_text()
    for server in servers:
        assert f"SHA-256      {shown(server.port)}" in said
        assert f'fingerprint: "{shown(server.port)}"' in text
        assert [] == server.bodies
    assert all(word in said for word in ("subject ", "valid ", "signature sha256", "not pinned"))
    assert all(comment in text for comment in ("# my servers", "# the first", "# the second", "# ours"))
    assert 0 == run(["trust", str(file)])
    assert "no certificate is new" in capsys.readouterr().err
    assert text == file.read_text()


def test_nothing_is_pinned_without_a_yes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal and without -y the certificates are shown, and the file stays."""
    before = file.read_text()
    assert 1 == run(["trust", str(file)])
    assert "pins certificates" in capsys.readouterr().err
    assert before == file.read_text()


def test_a_changed_certificate_is_refused_with_both_fingerprints(
    file: Path, servers: tuple[HttpsServer, HttpsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The pinned and the shown one are named, nothing is written; --replace accepts it."""
    run(["trust", str(file), "-y"])
    old, new = shown(servers[0].port), shown(servers[1].port)
    file.write_text(file.read_text().replace(str(servers[0].port), "PORT").replace(str(servers[1].port), "GONE"))
    file.write_text(file.read_text().replace("PORT", str(servers[1].port)).replace("GONE", "1"))
    before = file.read_text()
    capsys.readouterr()
    assert 1 == run(["trust", str(file), "-y"])
    said = capsys.readouterr().err
    assert f"S1: pinned is SHA-256 {old}, it shows {new}" in said
    assert "esync trust FILE --replace S1" in said
    assert before == file.read_text()
    assert 4 == run(["trust", str(file), "-y", "--replace", "S1"])  # P1 does not answer any more
    assert 2 == file.read_text().count(new)


def test_a_listener_that_does_not_answer_is_named(
    file: Path, servers: tuple[HttpsServer, HttpsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are pinned, and the exit status is that of unreachable nodes."""
    file.write_text(file.read_text().replace(str(servers[1].port), "1"))
    assert 4 == run(["trust", str(file), "-y", "--json"])
    printed = capsys.readouterr()
    assert "P1  127.0.0.1:1 cannot be reached: Connection refused" in printed.err
    assert ["new", "none"] == [one["pin"] for one in json.loads(printed.out)]
    assert 1 == file.read_text().count("fingerprint:")


def test_pins_beside_the_file(
    file: Path, servers: tuple[HttpsServer, HttpsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --pem the certificates are in pins.pem, by node; the cluster file stays; a changed one is refused, too."""
    before = file.read_text()
    assert 0 == run(["trust", str(file), "-y", "--pem"])
    pins = file.parent / PINS_FILE
    expected = {"S1": shown(servers[0].port), "P1": shown(servers[1].port)}
    found = fingerprints_of(pinned_in_pem(pins.read_text()))
    assert {name: value.replace(":", "").lower() for name, value in expected.items()} == found
    assert before == file.read_text()
    file.write_text(
        before.replace(str(servers[0].port), str(servers[1].port), 1).replace("127.0.0.1   #", "localhost   #")
    )
    assert 1 == run(["trust", str(file), "-y", "--pem"])
    assert f"S1: pinned is SHA-256 {expected['S1']}, it shows {expected['P1']}" in capsys.readouterr().err
    assert 2 == ssl.create_default_context(cafile=str(pins)).cert_store_stats()["x509"]


def test_ansible_gets_the_certificates_of_the_pins(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no variable for a fingerprint: it gets the file with the certificates; without one that is said."""
    assert 0 == run(["trust", str(file), "-y"])
    capsys.readouterr()
    assert 0 == run(["export", "--ansible", str(file)])
    without = capsys.readouterr()
    assert "it does not trust S1, P1: `esync trust" in without.err
    assert "ca_trust_path" not in without.out
    assert 0 == run(["trust", str(file), "-y", "--pem"])
    capsys.readouterr()
    assert 0 == run(["export", "--ansible", str(file)])
    exported = capsys.readouterr()
    assert exported.err == ""
    assert 2 == exported.out.count(f"ansible_winrm_ca_trust_path: {file.parent / PINS_FILE}\n")
    assert 2 == exported.out.count("ansible_winrm_server_cert_validation: validate\n")
