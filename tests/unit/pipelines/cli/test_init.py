"""`esync init`, `esync export` and the completion of commands, as a person and as a script use them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipelines.cli.entry import run
from pipelines.cluster_file.loader import load_cluster
from pipelines.cluster_file.positions import parse

ESYNC = str(Path(sys.executable).parent / "esync")
ANSWERS = [
    "--name", "shop", "--edition", "8.5", "--origin", "S1", "--site", r"C:\inetpub\shop", "--user", r"CORP\svc",
    "--node", "S1,::1,staging,stage", "--node", "P1,p1.example.net,production,live", "--partner", "X1",
]  # fmt: skip


def test_all_answers_as_options_give_a_complete_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is asked; the file is valid, and the schema beside it says so, too."""
    file = tmp_path / "shop.yaml"
    assert 0 == run(["init", str(file), *ANSWERS, "--port", "5987"])
    cluster = load_cluster(file)
    assert [("S1", "::1", "stage"), ("P1", "p1.example.net", "live")] == [
        (n.name, n.host, n.pool) for n in cluster.nodes
    ]
    assert (r"CORP\svc", 5987, "env:ESYNC_PASSWORD") == (
        cluster.connection.user, cluster.connection.port, cluster.connection.secret,
    )  # fmt: skip
    assert ("X1",) == cluster.partners
    first = file.read_text().splitlines()[0]
    assert "# yaml-language-server: $schema=cluster-schema.json" == first
    schema = json.loads((tmp_path / first.partition("=")[2]).read_text())
    assert [] == list(Draft202012Validator(schema).iter_errors(parse(file.read_text()).data))
    assert "next: esync check" in capsys.readouterr().err


def test_what_is_not_answered_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each open line at once, and again by the check, which refuses the file."""
    file = tmp_path / "shop.yaml"
    assert 0 == run(["init", str(file), "--name", "shop", "--node", "S1"])
    said = capsys.readouterr().err
    assert "7 lines to complete" in said
    assert "nodes[0].role: is not filled in yet; allowed: staging, production" in said
    assert 1 == run(["check", str(file)])
    assert 7 == capsys.readouterr().err.count("is not filled in yet")


def test_no_file_is_replaced_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing file stays as it is, until --force is given."""
    file = tmp_path / "shop.yaml"
    file.write_text("mine\n")
    assert 1 == run(["init", str(file), *ANSWERS])
    assert "mine\n" == file.read_text()
    assert "exists already" in capsys.readouterr().err
    assert 0 == run(["init", str(file), *ANSWERS, "--force"])
    assert "shop" == load_cluster(file).name


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--node", ",h"], "is not NAME,HOST,ROLE,POOL"),
        (["--node", "a,b,c,d,e"], "is not NAME,HOST,ROLE,POOL"),
        (["--from", "s1"], "no account is named for the logon"),
        (["--from", "s1", "--inventory", "hosts"], "exclude each other"),
        (["--inventory", "missing"], "inventory missing cannot be read"),
    ],
)
def test_a_wrong_answer_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    """Refused with the reason, and no file is left."""
    assert (1 if "cannot be read" in why else 64) == run(["init", str(tmp_path / "shop.yaml"), *options])
    assert why in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_an_inventory_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of the answers, exported for Ansible, and read again: the same servers."""
    file, again = tmp_path / "shop.yaml", tmp_path / "again.yaml"
    run(["init", str(file), *ANSWERS])
    capsys.readouterr()
    assert 0 == run(["export", "--ansible", str(file)])
    (tmp_path / "hosts.yml").write_text(capsys.readouterr().out)
    assert 0 == run(["init", str(again), "--inventory", str(tmp_path / "hosts.yml")])
    one, other = load_cluster(file), load_cluster(again)
    assert sorted(one.nodes, key=lambda node: node.name) == sorted(other.nodes, key=lambda node: node.name)
    assert one.model_copy(update={"nodes": ()}) == other.model_copy(update={"nodes": ()})


def test_a_person_is_asked_on_a_terminal(tmp_path: Path) -> None:
    """Each missing answer is a question; what was given as an option is not asked; an empty answer stays open."""
    keyboard, terminal = pty.openpty()
    answers = ["9.1", r"C:\inetpub\shop", "S1", "svc", "S1", "s1.net", "staging", "stage", ""]
    file = tmp_path / "shop.yaml"
    with subprocess.Popen([ESYNC, "init", str(file), "--name", "shop"], stdin=terminal, stderr=terminal) as asked:
        os.close(terminal)
        os.write(keyboard, ("\n".join(answers) + "\n").encode())
        said = b""
        while asked.poll() is None or not said.endswith(b"\n"):
            try:
                said += os.read(keyboard, 4096)
            except OSError:
                break
    os.close(keyboard)
    assert 0 == asked.returncode, said
    assert b"Name of the cluster" not in said
    cluster = load_cluster(file)
    assert ("9.1", "S1", ("S1",)) == (cluster.edition, cluster.origin, cluster.node_names)


def test_a_command_that_needs_no_server_loads_no_winrm() -> None:
    """It would double the time until any command starts."""
    script = "import sys, pipelines.cli.entry; print('winrm' in sys.modules)"
    assert b"False\n" == subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout


def test_bash_completes_commands(tmp_path: Path) -> None:
    """`esync --install-completion`, from a bash, writes what it needs; then it completes `esync ini`."""
    home = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(ESYNC).parent}:{os.environ['PATH']}"}
    # Not the last command of that shell, which would be replaced by it: esync looks for the shell that called it.
    install = ["bash", "-c", "esync --install-completion; exit $?"]
    written = subprocess.run(install, env=home, check=False, capture_output=True, text=True)
    assert 0 == written.returncode, written
    script = 'source ~/.bashrc; COMP_WORDS=(esync ini); COMP_CWORD=1; _esync_completion esync; echo "${COMPREPLY[@]}"'
    found = subprocess.run(["bash", "-c", script], env=home, check=True, capture_output=True, text=True)
    assert ["init"] == found.stdout.split()
