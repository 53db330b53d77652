"""Texts on a narrow terminal: lines are broken between words; in a file or a pipe they stay as they are."""

from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.cli.report import print_report
from pipelines.report.build import build
from pipelines.report.knowledge_text import explanation_lines
from pipelines.report.text import to_text
from tasks.ektron.rules.explain import explain
from tasks.ektron.rules.findings import Finding, Findings, InvariantState
from tests.unit.pipelines.report.sample_run import sample

NARROW = 60


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.cli.console.stdout_width", lambda: NARROW)


def assert_broken(narrow: str, wide: str) -> None:
    """Nothing but places of line breaks and indents differs, and all lines fit."""
    assert max(map(len, narrow.splitlines())) <= NARROW < max(map(len, wide.splitlines()))
    assert narrow.split() == wide.split()


@pytest.mark.usefixtures("_narrow")
def test_a_report_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """As text, which people read; a page or JSON is for programs."""
    report = build(sample(failed=["P1"], unreachable=["P2"]))
    print_report(report, "text")
    assert_broken(capsys.readouterr().out, to_text(report))
    print_report(report, "json")
    assert max(map(len, capsys.readouterr().out.splitlines())) > NARROW


@pytest.mark.usefixtures("_narrow")
def test_what_a_sync_reaches_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each server, and the advice."""
    assert run(["propagate", "--changed", "S1", "--from", "S1", "--direction", "upload"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= NARROW
    assert [line.split()[0] for line in lines if line[:1] != " "][:4] == ["S1", "S2", "P1", "P2"]


def test_an_explanation_fits_the_terminal() -> None:
    """With all of its parts."""
    refuted = Finding(
        invariant="keys.complete",
        verdict=InvariantState.REFUTED,
        statement="Every node has the key of every other node, and nothing else is among them",
        evidence="P2 lacks the key of S1, which is why S1 and P2 do not sync",
        nodes=("P2",),
        remedy="run it again: the key is added",
    )
    answer = explain("P2", Findings(findings=(refuted,)))
    wide = "\n".join(explanation_lines(answer, "verify r-1, just now"))
    narrow = "\n".join(explanation_lines(answer, "verify r-1, just now", width=NARROW))
    assert_broken(narrow, wide)


def test_a_cluster_without_mistakes_is_one_line_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And as many as it needs on a narrow terminal."""
    nodes = ", ".join(f"{{name: S{n}, host: 127.0.0.{n}, role: staging, pool: pool-{n}}}" for n in range(1, 9))
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "name: shop\nedition: '9.1'\norigin: S1\nsite: {path: 'C:\\site'}\n"
        f"connection: {{user: svc, secret: env:SHOP}}\nnodes: [{nodes}]\n"
    )
    monkeypatch.setenv("SHOP", "x")
    assert run(["check", str(file)]) == 0
    (wide,) = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("pipelines.cli.console.stdout_width", lambda: len(str(file)) + 20)
    assert run(["check", str(file)]) == 0
    narrow = capsys.readouterr().out
    assert narrow.count("\n") > 1
    assert narrow.split() == wide.split()
