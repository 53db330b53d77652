"""The behaviour of the command: exit codes, data on stdout, messages on stderr, no tracebacks."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import typer

from pipelines.cli import check, follow, verbs
from pipelines.cli.entry import run
from pipelines.report.build import build
from pipelines.report.rows import Report
from tests.places import CASE_FOLDERS
from tests.unit.pipelines.report.sample_run import sample
from workers.errors import EsyncError
from workers.records import Verdict

CASES = CASE_FOLDERS / "cluster"
PLANTED = "pl4nted-Passw0rd"
VERBS = {
    "approve",
    "serve",
    "token",
    "certs",
    "init",
    "export",
    "trust",
    "check",
    "rollout",
    "verify",
    "status",
    "watch",
    "runs",
    "report",
    "cancel",
    "up",
    "lab",
    "demo",
    "plan",
    "retry",
    "rollback",
    "cleanup",
    "retire",
    "pause",
    "promote",
    "resume",
    "doctor",
    "explain",
    "propagate",
    "attest",
    "sync",
}
UNSET = "secret env:ESYNC_SHOP_PASSWORD: the variable is not set"
CLUSTER = """\
name: shop
edition: 8.5
origin: S1
site: {path: 'C:\\inetpub\\wwwroot\\shop'}
connection: {user: svc, secret: "env:ESYNC_SHOP_PASSWORD"}
nodes:
  - {name: S1, host: 127.0.0.9, role: staging, pool: staging}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """A valid cluster file."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return str(tmp_path / "cluster.yaml")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_is_its_function_with_the_same_sentence(verb: str) -> None:
    """The table that `--help` shows has the first paragraph of each function's docstring."""
    place = verbs.VERBS[verb]
    found = getattr(import_module(f"pipelines.cli.{place.module}"), verb)
    paragraph = (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ")
    assert place.help == (found.info.help if isinstance(found, typer.Typer) else paragraph)


def test_the_verbs_are_the_documented_ones() -> None:
    """No verb appears or disappears by accident."""
    assert VERBS == verbs.VERBS.keys()


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["rollout", "-h"], ["--version"]])
def test_help_is_not_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version are data on stdout, exit 0."""
    assert run(arguments) == 0
    assert "esync" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], ["esync: no such command 'chek'", "did you mean 'check'?"]),
        (["nosuch"], ["no such command 'nosuch'", "commands are init, export, trust, check, ", "esync --help"]),
        (["check"], ["esync check: missing argument 'FILE...'", "write esync check [OPTIONS] {FILE...}..."]),
        (["attest", "a", "b", "c"], ["esync attest: there is no argument for: c", "esync attest [OPTIONS] FILE"]),
        (["runs", "-n", "x"], ["'--limit' / '-n': must be a number; allowed: 1 to 1000", "esync runs --help"]),
        (["runs", "-n", "0"], ["'--limit' / '-n'", "allowed: 1 to 1000"]),
        (["plan", "a", "--ouput", "b"], ["esync plan: no such option: --ouput (did you mean --output?)"]),
        (["plan", "a", "-o"], ["esync plan: option '-o' requires a value after it", "esync plan --help"]),
        (["report", "--format", "pdf"], ["'--format': 'pdf' is not one of 'text', 'json', 'html'"]),
        (["certs", "insp"], ["esync certs: no such command 'insp'", "did you mean 'inspect'?"]),
        (["propagate", "--changed", "S1", "--direction", "aside"], ["'aside' is not one of 'upload', 'download'"]),
        (["--no"], ["esync: no such option: --no"]),
    ],
)
def test_usage_errors_exit_with_64(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error is EX_USAGE of sysexits.h: it says what is wrong, in which command, and what is allowed there."""
    assert run(arguments) == 64
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(word in printed.err for word in words)
    assert "  Fix: " in printed.err


def test_a_usage_error_is_also_data_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a usage error is also an object on stdout, like every other error."""
    assert run(["check", "--json"]) == 64
    assert {"error", "message", "file", "remedy"} == set(json.loads(capsys.readouterr().out))


def test_a_command_without_arguments_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`esync` alone is a usage error that prints the list of commands, and no second error."""
    assert run([]) == 64
    printed = capsys.readouterr()
    assert "rollout" in printed.out + printed.err
    assert "error:" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retire", "{cluster}", "S1", "-y"], ["S1 is the origin", "another `origin:`"]),
        (["retire", "{cluster}", "S7", "-y"], ["S7"]),
        (["retire", "{cluster}", "S7", "--host", "a b", "-y"], ["cannot be a node"]),
    ],
)
def test_a_node_that_cannot_be_retired_is_refused_without_contact(
    cluster: str, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The origin, an unknown node, an impossible host: exit 1, and what to do."""
    assert run([argument.format(cluster=cluster) for argument in arguments]) == 1
    printed = capsys.readouterr().err
    assert all(word in printed for word in [*words, "Fix: "])


def test_check_accepts_a_valid_file(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without mistakes gives exit 0 and one line."""
    monkeypatch.setenv("ESYNC_SHOP_PASSWORD", PLANTED)
    assert run(["check", cluster]) == 0
    assert capsys.readouterr().out.endswith("shop (edition 8.5, origin S1), 1 node: 1 in staging: no mistakes\n")


def test_check_refuses_a_variable_that_is_not_set(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its line: a worker of this machine would read it."""
    monkeypatch.delenv("ESYNC_SHOP_PASSWORD", raising=False)
    assert run(["check", cluster]) == 1
    assert f"{cluster}:5: connection.secret: {UNSET}; set ESYNC_SHOP_PASSWORD" in capsys.readouterr().err
    assert run(["check", cluster, "--json"]) == 1
    assert ["connection.secret"] == [one["path"] for one in json.loads(capsys.readouterr().out)["problems"]]


def test_check_warns_of_a_variable_that_other_machines_may_have(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a broker of their own, workers elsewhere log on: the file is accepted."""
    monkeypatch.delenv("ESYNC_SHOP_PASSWORD", raising=False)
    monkeypatch.setenv("ESYNC_BROKER_URL", "redis://:x@127.0.0.1:1/0")
    assert run(["check", cluster]) == 0
    printed = capsys.readouterr()
    assert f"warning: {cluster}:5: connection.secret: {UNSET}" in printed.err
    assert "no mistakes" in printed.out


@pytest.mark.parametrize("case", sorted((CASE_FOLDERS / "cluster-warned").glob("*.yaml")), ids=lambda path: path.stem)
def test_check_warns_of_a_policy_without_effect(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is accepted: many clusters, large and small, may share a policy."""
    monkeypatch.setenv("ESYNC_SHOP_PASSWORD", PLANTED)
    monkeypatch.chdir(case.parent)
    assert run(["check", case.name]) == 0
    assert [f"warning: {line}" for line in case.with_suffix(".txt").read_text().splitlines()] == (
        capsys.readouterr().err.splitlines()
    )
    assert run(["check", "--json", case.name]) == 0
    assert "policy.max_failed_per_wave" in [one["path"] for one in json.loads(capsys.readouterr().out)["warnings"]]


def test_check_lists_mistakes_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the mistakes are on stdout, with their positions, and nothing is on stderr."""
    assert run(["check", "--json", str(CASES / "many-at-once.yaml")]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert not found["ok"]
    assert {"file", "line", "column", "path", "value", "message", "allowed", "hint"} == set(found["problems"][0])
    assert printed.err == ""
    assert PLANTED not in printed.out


def test_check_reads_a_folder_and_lists_the_mistakes_of_all_its_files(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without mistakes is named, too; hidden files, which editors leave, are none of the cluster's."""
    monkeypatch.setenv("ESYNC_SHOP_PASSWORD", PLANTED)
    folder = Path(cluster).parent
    for name in ("role-misspelt.yaml", "nodes-empty.yaml"):
        shutil.copy(CASES / name, folder / name)
    (folder / ".#shop.yaml").symlink_to("ann@desk")
    assert run(["check", str(folder)]) == 1
    printed = capsys.readouterr()
    assert [f"{cluster}: cluster shop"] == [line.partition(" (")[0] for line in printed.out.splitlines()]
    assert "2 files of 3 cannot be used" in printed.err
    assert f"{folder}/role-misspelt.yaml:12: nodes[1].role" in printed.err
    assert run(["check", "--json", str(folder)]) == 1
    found = {Path(one["file"]).name: one["ok"] for one in json.loads(capsys.readouterr().out)}
    assert found == {"nodes-empty.yaml": False, "role-misspelt.yaml": False, Path(cluster).name: True}


def test_check_lists_a_file_that_cannot_be_read_among_the_others(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dead link in a folder is a mistake of that file; the document has the other files, too."""
    monkeypatch.setenv("ESYNC_SHOP_PASSWORD", PLANTED)
    dead = Path(cluster).parent / "a-dead-link.yaml"
    dead.symlink_to("nowhere")
    assert run(["check", "--json", str(dead.parent)]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["file"], first["ok"], second["ok"]) == (str(dead), False, True)
    assert first["problems"][0]["message"]


@pytest.mark.parametrize("verb", ["check", "rollout", "verify"])
def test_mistakes_stop_every_verb_before_anything_starts(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with mistakes is refused in one block: what, where, how to fix it. No service is started."""
    assert run([verb, str(CASES / "role-misspelt.yaml")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert ':12: nodes[1].role: "stagng" is not allowed; allowed: staging, production' in printed.err
    assert printed.err.splitlines()[-1] == "  Fix: correct the file, then check it again: esync check FILE"
    assert not (tmp_path / "state").exists()


def test_errors_are_also_data_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is also an object on stdout."""
    assert run(["rollout", "--json", "no-such.yaml"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"] == "input_refused"
    assert "no-such.yaml cannot be read: No such file" in printed.err


def test_internal_errors_are_a_sentence(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An internal error shows neither traceback nor message, unless ESYNC_DEBUG is set."""

    def broken(_: object) -> None:
        raise ZeroDivisionError(PLANTED)

    monkeypatch.setattr(check, "load_with_document", broken)
    assert run(["check", cluster]) == 1
    printed = capsys.readouterr().err
    assert "internal error: ZeroDivisionError" in printed
    assert "Traceback" not in printed
    assert PLANTED not in printed
    monkeypatch.setenv("ESYNC_DEBUG", "1")
    assert run(["check", cluster]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid variable is named by every command, also by one that does not use it; a secret value is not shown."""
    monkeypatch.setenv("ESYNC_CONCURRENCY", "abc")
    monkeypatch.setenv("ESYNC_LOG_LEVEL", "LOUD")
    assert run(["certs", "inspect", "none.cer"]) == 1
    printed = capsys.readouterr().err
    assert "ESYNC_CONCURRENCY='abc', ESYNC_LOG_LEVEL='LOUD'" in printed
    assert "ESYNC_CONCURRENCY must be a whole number from 1 to 512" in printed
    assert "ESYNC_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL" in printed
    monkeypatch.setenv("ESYNC_SEAL_KEY", PLANTED)
    assert run(["runs"]) == 1
    assert PLANTED not in capsys.readouterr().err


def test_every_error_of_the_tree_has_its_exit_code(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each error class of the tree ends a command with its own exit code."""

    def leaves(error: type[EsyncError]) -> list[type[EsyncError]]:
        return [error, *(leaf for child in error.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(EsyncError):
        if kind.__init__ is not EsyncError.__init__:
            continue

        def fail(_: object, kind: type[EsyncError] = kind) -> None:
            raise kind("it happened", remedy="do this", file="C:\\x")

        monkeypatch.setattr(check, "load_with_document", fail)
        assert kind.exit_code == run(["check", cluster])
        assert capsys.readouterr().err == "error: it happened (C:\\x)\n  Fix: do this\n"


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("verb", ["rollout", "verify"])
def test_every_verdict_has_its_exit_code_in_every_mode(
    verb: str,
    options: list[str],
    verdict: Verdict,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rollout and verify exit by the verdict, with and without --json; --json prints only the report."""
    monkeypatch.setenv("ESYNC_BROKER_URL", "redis://:x@127.0.0.1:1/0")
    monkeypatch.setattr(follow, "start_and_follow", lambda *_, **__: build(sample(verdict=verdict)))
    assert verdict.exit_code == run([verb, cluster, *options, *(["-y"] if verb == "rollout" else [])])
    printed = capsys.readouterr()
    assert "cluster shop (edition 8.5, origin S1), 1 node" in printed.err
    if options:
        assert verdict == Report.model_validate_json(printed.out).verdict
    else:
        assert printed.out == ""


def test_reports_are_written_to_the_given_folder(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--report creates the folder and writes page and data; an impossible folder is refused."""
    monkeypatch.setenv("ESYNC_BROKER_URL", "redis://:x@127.0.0.1:1/0")
    monkeypatch.setattr(follow, "start_and_follow", lambda *_, **__: build(sample()))
    assert run(["rollout", "-y", cluster, "--report", str(tmp_path / "a" / "b")]) == 0
    assert sorted(f.suffix for f in (tmp_path / "a" / "b").iterdir()) == [".html", ".json"]
    (tmp_path / "file").write_text("")
    assert run(["rollout", "-y", cluster, "--report", str(tmp_path / "file")]) == 1
    assert f"{tmp_path / 'file'} cannot be created: Not a directory" in capsys.readouterr().err


def test_store_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreachable broker is a sentence with a fix, without the password."""
    monkeypatch.setenv("ESYNC_BROKER_URL", f"redis://:{PLANTED}@127.0.0.1:1/0")
    monkeypatch.setattr("workers.store.redis_store.RedisStore.__init__.__defaults__", ("esync:", 0.1, time.monotonic))
    assert run(["runs"]) == 1
    printed = capsys.readouterr().err
    assert "the run store at 127.0.0.1:1 (ESYNC_BROKER_URL) cannot be reached" in printed
    assert PLANTED not in printed


def test_a_reader_that_leaves_is_not_an_error(tmp_path: Path) -> None:
    """`esync --help | true` ends quietly."""
    command = [
        sys.executable,
        "-c",
        "import sys; from pipelines.cli.entry import main; sys.argv = ['esync', '-h']; main()",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    assert not re.search("Traceback|Exception", errors)
    assert list(tmp_path.iterdir()) == []
