"""`esync propagate` and the texts of `explain`: data on stdout, the answers of the procedure, clear refusals."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.report.knowledge_text import explanation_lines
from pipelines.run.explained import NodeAnswer
from pipelines.usecases.naming import is_file
from tasks.ektron.cluster_facts import NOT_SEEN
from tasks.ektron.rules.explain import Answer, explain
from tasks.ektron.rules.findings import Finding, Findings, InvariantState
from tasks.ektron.rules.invariants import judge
from tests.unit.tasks.ektron.joined import broken, joined_cluster
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES, field
from workers.records import now

CLUSTER = """\
name: shop
edition: 8.5
origin: A1
site: {path: 'C:\\inetpub\\wwwroot\\shop'}
connection: {user: svc, secret: "env:ESYNC_SHOP_PASSWORD"}
nodes:
  - {name: A1, host: 127.0.0.9, role: staging, pool: staging}
  - {name: B1, host: 127.0.0.8, role: production, pool: production}
"""


def reach(out: str) -> dict[str, str]:
    """Server -> answer, out of the JSON."""
    return {server["server"]: server["reach"] for server in json.loads(out)["servers"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "S1", "--direction", "upload"], "yes yes yes yes"),
        (["--from", "S1", "--direction", "bidirectional"], "yes yes yes yes"),
        (["--from", "S2", "--direction", "download"], "yes yes no no"),
        (["--from", "S2", "--direction", "download", "--then", "S2:upload"], "yes yes yes yes"),
        (["--from", "S1", "--direction", "download"], "yes unknown unknown unknown"),
        (["--from", "S2", "--direction", "upload"], "yes unknown unknown unknown"),
        ([], "yes no no no"),
        (["--from", "S1", "--down", "P2"], "yes yes yes no"),
        (["--from", "S1", "--path", "web.config"], "yes no no no"),
    ],
)
def test_the_procedures_four_servers(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a cluster file the example of the procedure is used, with the answers of the procedure."""
    assert run(["propagate", "--changed", "S1", *arguments, "--json"]) == 0
    assert dict(zip(("S1", "S2", "P1", "P2"), expected.split(), strict=True)) == reach(capsys.readouterr().out)


def test_the_servers_of_a_cluster_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a cluster file its nodes are used; the text has one row per server and the best server to start on."""
    (tmp_path / "shop.yaml").write_text(CLUSTER)
    assert run(["propagate", str(tmp_path / "shop.yaml"), "--changed", "a1", "--from", "A1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["A1", "yes"] == lines[0].split()[:2]
    assert ["B1", "yes"] == lines[1].split()[:2]
    assert any(line.startswith("best: upload on A1") for line in lines)


def test_a_sync_reaches_the_pool_at_its_other_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--to` and the third part of `--then` name the pool; without them the answer for several pools is open."""
    nodes = [("A1", "staging", "a"), ("B1", "production", "b"), ("C1", "production", "c")]
    lines = [f"  - {{name: {name}, host: {name}, role: {role}, pool: {pool}}}" for name, role, pool in nodes]
    file = tmp_path / "shop.yaml"
    file.write_text(CLUSTER.partition("nodes:")[0] + "nodes:\n" + "\n".join(lines) + "\n")
    question = ["propagate", str(file), "--changed", "A1", "--from", "A1", "--json"]
    for more, expected in (
        ([], {"A1": "yes", "B1": "unknown", "C1": "unknown"}),
        (["--to", "b"], {"A1": "yes", "B1": "yes", "C1": "no"}),
        (["--to", "b", "--then", "A1:upload:c"], {"A1": "yes", "B1": "yes", "C1": "yes"}),
    ):
        assert run([*question, *more]) == 0
        assert expected == reach(capsys.readouterr().out)


def test_a_file_that_no_sync_copies_gets_no_sync(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line says that no sync helps, and what does."""
    assert run(["propagate", "--changed", "S1", "--path", "web.config"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "best: no sync; change the file on each server itself: S2, P1, P2"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--changed", "X9"], "no server 'X9'"),
        (["--changed", "S1", "--from", "P1"], "production server"),
        (["--changed", "S1", "--then", "S2"], "is not a sync"),
        (["--changed", "S1", "--then", "S2:sideways"], "is not a sync"),
    ],
)
def test_invalid_questions_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown servers, syncs from production and misspelt syncs are refused with a fix."""
    assert run(["propagate", *arguments]) == (64 if "--then" in arguments else 1)
    printed = capsys.readouterr()
    assert words in printed.err
    assert "  Fix: " in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("name", BREAKAGES)
def test_every_cause_is_explained_with_its_fix(name: str) -> None:
    """For every single breakage the text has the rule, what was found, and a fix, on one screen."""
    node, breakage, _ = BREAKAGES[name]
    answer = explain(node, judge(broken(node, breakage)))
    lines = list(explanation_lines(answer, "verify r-1, just now"))
    assert lines[0].startswith(f"{node} ")
    assert len(lines) <= 24
    if answer.answer is Answer.CAUSE:
        assert answer.cause is not None
        text = " ".join(" ".join(lines).split())
        assert lines[0] == f"{node} is not joined: {answer.cause.invariant}"
        assert " ".join(answer.cause.remedy.split()) in text


@pytest.mark.parametrize(("status", "words"), [("unreachable", "did not answer"), ("failed", "could not be checked")])
def test_an_unseen_node_is_explained_by_what_kept_it_unseen(status: str, words: str) -> None:
    """Not by the first statement about it, whose remedy would send a person to the wrong place."""
    why = f"{NOT_SEEN}P2 (p2:5986) refused the connection"
    unseen = Finding(
        invariant="node.is-itself",
        verdict=InvariantState.UNKNOWN,
        nodes=("P2",),
        reasons={"P2": why},
        remedy="correct `host`",
    )
    outcome = f"result of that run on this node: {status} in install_check: no; Fix: start WinRM"
    first, *lines = explanation_lines(explain("P2", Findings(findings=(unseen,))), "verify r-1", outcome)
    assert first == f"P2 {words}: (p2:5986) refused the connection"
    text = "\n".join(lines)
    assert "Fix: start WinRM" in text
    assert "correct `host`" not in text


@pytest.mark.parametrize(("node", "broken_node", "code"), [("P1", "P1", 5), ("S2", "P1", 5), ("P1", "", 0)])
def test_exit_codes_of_explain(node: str, broken_node: str, code: int) -> None:
    """5 where the node or another keeps the cluster from being joined, 0 where nothing does."""
    cluster = broken(broken_node, field(asset__load_balanced="0")) if broken_node else joined_cluster()
    ended = now() - timedelta(minutes=3)
    answer = NodeAnswer(**dict(explain(node, judge(cluster))), run="r-1", kind="verify", ended=ended)
    assert code == answer.exit_code
    assert answer.source.endswith("3 min ago")


def test_a_file_is_distinguished_from_a_run(tmp_path: Path) -> None:
    """A YAML name or an existing file is a cluster file; anything else is a run or the name of a cluster."""
    (tmp_path / "odd").write_text("")
    assert is_file("cluster.yaml")
    assert is_file(str(tmp_path / "odd"))
    assert not is_file("20261123-191500-four-servers-7f3a")
    assert not is_file("last")
