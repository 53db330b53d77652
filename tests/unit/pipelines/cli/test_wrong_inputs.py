"""Wrong inputs of operators: each answer says what is wrong, where, what is allowed, and what to do."""

import errno
import os
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from workers.settings import load_settings

CLUSTER = """\
name: shop
edition: 8.5
origin: S1
site: {path: 'C:\\inetpub\\wwwroot\\shop'}
connection: {user: svc, secret: "env:ESYNC_SHOP_PASSWORD"}
nodes:
  - {name: S1, host: 127.0.0.9, role: staging, pool: staging}
  - {name: WEB-10, host: 127.0.0.8, role: production, pool: live}
"""
FILE = "shop.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cluster file, files of other kinds, and an empty folder."""
    (tmp_path / FILE).write_text(CLUSTER)
    (tmp_path / "plan.json").write_text('{"esync_plan":3,"run":"r"}')
    (tmp_path / "cut.json").write_text('{"esync_plan": 3, "run')
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("check plan.json", 1, ["this is a saved plan", "plan.json", "esync rollout plan.json"]),
        ("check empty", 1, ["folder empty has no cluster file", "a folder that has some"]),
        ("check none.yaml", 1, ["none.yaml cannot be read: No such file", "`esync lab` writes one"]),
        ("rollout cut.json -y", 1, ["not a plan in JSON", "cut.json", "esync plan CLUSTER -o FILE"]),
        ("rollout shop.yaml", 1, ["no terminal to ask", "nothing was changed", "-y (--yes)"]),
        ("rollout shop.yaml -y --node X9", 1, ["shop has no node 'X9'", "Its nodes are S1, WEB-10"]),
        ("plan shop.yaml --node WEB-1", 1, ["no node 'WEB-1'", "did you mean WEB-10?"]),
        ("plan shop.yaml --node S1,WEB-10", 1, ["'S1,WEB-10'", "repeat the option for each node"]),
        ("verify shop.yaml --node Q*", 1, ["'Q*'", "no server was contacted", "S1, WEB-10"]),
        ("doctor shop.yaml --node=", 1, ["no node ''", "S1, WEB-10"]),
        ("plan shop.yaml -o empty", 1, ["empty cannot be written: Is a directory", "name a file, not a folder"]),
        ("explain shop.yaml S1", 64, ["shop.yaml is a file", "name of a node", "esync explain NODE shop.yaml"]),
        ("explain P9 shop.yaml", 1, ["no node 'P9'", "no server was contacted", "S1, WEB-10"]),
        ("cleanup shop.yaml --fence Q1 -y", 1, ["no node 'Q1'", "S1, WEB-10"]),
        ("propagate --changed X9", 1, ["no server 'X9'", "S1, S2, P1, P2"]),
        ("propagate --changed S1 --then S2:aside", 64, ["'S2:aside' is not a sync", "NODE:DIRECTION", "upload"]),
        ("certs inspect empty", 1, ["no .pfx, .pvk or .cer file is in empty", "name certificate files"]),
        ("certs inspect text.txt --password hunter2", 1, ["neither env:NAME nor file:PATH", "write env:NAME"]),
        ("certs generate S_1.x --out out", 64, ["'S_1.x' is not a NetBIOS name", "1 to 15 letters, digits"]),
        ("certs generate S1 --out out --bits 12", 64, ["'--bits'", "allowed: 2048 to 8192"]),
        ("lab --dir empty --fault S1:away", 1, ["no lab runs in that folder", "esync lab --dir empty"]),
        ("lab --nodes 0", 64, ["'--nodes'", "allowed: 1 to 5000"]),
        ("report --check text.txt", 5, ["text.txt", "not a valid zip file"]),
        ("rollout shop.yaml --reason -y", 64, ["option --reason requires a value", "-y is an option"]),
        ("report -o --format json", 64, ["esync report: option -o requires a value", "--format is an option"]),
        ("certs generate S1 --out --years 3", 64, ["esync certs generate", "option --out requires a value"]),
        ("report -o report.pdf", 64, ["report.pdf has the ending .pdf", ".html, .json, .txt or .xml", "--format"]),
        ("report -o report.docx", 64, ["the ending .docx", ".html, .json, .txt or .xml"]),
        ("report --form html", 64, ["no such option: --form", "did you mean --format?", "--output, --bundle"]),
        ("report --format pdf", 64, ["'pdf' is not one of", "'text', 'json', 'html'"]),
        ("plan shop.yaml -o nosuch/p.json", 1, ["folder nosuch does not exist", "create it first"]),
        ("report -o nosuch/x.html", 1, ["folder nosuch does not exist", "create it first"]),
        ("report --bundle nosuch/x.zip", 1, ["folder nosuch does not exist", "create it first"]),
        ("report --check nosuch.zip", 1, ["bundle nosuch.zip cannot be read", "give the path of a bundle"]),
        ("rollout shop.yaml -y --report text.txt", 1, ["text.txt cannot be", "is a file: name another place"]),
        ("lab --edition 7.0", 64, ["'7.0' is not one of", "'8.0', '8.5', '9.1'"]),
        (
            "lab --dir lab --nodes 2 --address 10.0.0.0/8",
            1,
            ["cannot start", "loopback address", "127.0.77.11"],
        ),
        ("lab --dir lab --nodes 2 --address here", 1, ["--address", "use a range such as 127.0.77.0/24"]),
        ("lab --dir lab --config none.yaml", 1, ["none.yaml cannot be read: No such file", "docs/lab.md"]),
        ("lab --dir lab --config shop.yaml", 1, ["shop.yaml", "nodes.0.address: is missing", "docs/lab.md"]),
        (
            "certs generate S1 --out text.txt",
            1,
            ["text.txt is not a folder", "nothing was written", "a folder for the files"],
        ),
        ("certs inspect nosuch.pfx", 1, ["nosuch.pfx cannot be read", "give the path of a certificate file"]),
        ("certs inspect text.txt", 1, ["text.txt", "not a certificate", "name .pfx, .pvk or .cer files"]),
        (r"propagate --changed S1 --path C:\x.dll", 64, ["is not a path below the site root", "leave out the drive"]),
        ("propagate --changed S1 --path /bin/a.dll", 64, ["is not a path below the site root", r"bin\a.dll"]),
        ("propagate --changed S1 --from S9", 1, ["no server 'S9'", "S1, S2, P1, P2"]),
        ("token create --role viewer --expires 90", 64, ["'90' is not a time", "90d"]),
        ("token create --role viewer --expires 99999d", 64, ["two years at most", "90d"]),
        ("token create --role viewer --name=", 64, ["1 to 80 characters"]),
        ("token create --role viewer --cluster sh*", 64, ["'sh*' is not the name of a cluster", "letters, digits"]),
        ("attest shop.yaml nosuch --until tomorrow", 64, ["--until is not a date", "YYYY-MM-DD"]),
        ("export shop.yaml", 64, ["no form is named", "--ansible"]),
        ("report --bundle a.zip -o a.html", 64, ["--output and --bundle cannot be combined", "nothing was written"]),
        ("report --bundle a.zip --format html", 64, ["--bundle and --format cannot be combined"]),
        ("report --check a.zip -o a.html", 64, ["--output and --check cannot be combined"]),
        ("propagate --changed S1 --to live", 64, ["--from is missing"]),
        ("rollout shop.yaml -y --reason " + "x" * 501, 64, ["'--reason'", "501 characters", "at most 500"]),
        ("rollout shop.yaml -y --key \u00fc", 64, ["'--key'", "at most 200 letters"]),
        ("check loop.yaml", 1, ["loop.yaml", "give the path of a cluster file"]),
        ("up --port 1", 64, ["esync up: no such option: --port", "esync up --help"]),
        ("pause last extra", 64, ["esync pause: there is no argument for: extra", "esync pause --help"]),
    ],
)
def test_a_wrong_input_is_answered(
    arguments: str, status: int, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is on stderr with a fix, contacts no server, and never repeats a password."""
    assert status == run(arguments.split())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [word for word in words if word not in printed.err] == [], printed.err
    assert "  Fix: " in printed.err
    assert "hunter2" not in printed.err
    assert "internal error" not in printed.err


def test_a_misspelt_variable_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no effect, so the command continues; the setting that was meant is named."""
    monkeypatch.setenv("ESYNC_CONCURENCY", "4")
    monkeypatch.setenv("ESYNC_SOMETHING_ELSE", "4")
    run(["propagate", "--changed", "S1"])
    printed = capsys.readouterr().err
    assert "warning: ESYNC_CONCURENCY is not a setting and has no effect (did you mean ESYNC_CONCURRENCY?)" in printed
    assert "ELSE" not in printed


def test_a_file_that_may_not_be_read_is_no_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads it says so, as of every other file."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("workers.host.reading.contents", refused)
    for command in (["check", FILE], ["plan", FILE], ["trust", FILE], ["certs", "inspect", "text.txt"]):
        assert 1 == run(command)
        assert "cannot be read: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["none", FILE])
@pytest.mark.parametrize("verb", ["serve", "up"])
def test_services_are_not_started_for_a_folder_that_is_not_there(
    verb: str, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page would show no cluster, and not say why."""
    monkeypatch.setenv("ESYNC_CLUSTERS", folder)
    load_settings.cache_clear()
    assert 1 == run([verb])
    printed = capsys.readouterr().err
    assert "ESYNC_CLUSTERS is no folder that can be read" in printed
    assert folder in printed
