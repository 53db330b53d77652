"""A malicious node attacks every output: escapes, links, NUL, bidirectional text, forged lines, markup, emoji."""

import dataclasses
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from pipelines.audit.check import Checked
from pipelines.cli.console import print_json, print_text
from pipelines.cli.entry import run
from pipelines.cli.picture import draw
from pipelines.cli.results import pretty, print_result, write_report
from pipelines.report.build import build
from pipelines.report.event_words import line
from pipelines.report.html import to_html
from pipelines.report.knowledge_text import explanation_lines
from pipelines.report.plan_text import plan_lines
from pipelines.report.text import to_text
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.progress import Progress
from pipelines.usecases.listing import row_of
from pipelines.usecases.runs import RunRequest
from tasks.ektron.rules.explain import Answer, Explanation
from tests.unit.pipelines.report.sample_run import Sample, cluster_of, sample
from workers import logs
from workers.logger import logger
from workers.records import Change, Status

FORGED = "JOINED: all 4 nodes are joined"
ATTACK = (
    f"\x1b[2J\x1b[31mred\x1b]8;;https://evil.test\x1b\\link\x1b]8;;\x1b\\ \x00\x07\x08\x7f\x9b5n\r{FORGED}\n"
    f"{FORGED}\x85"
    f"{FORGED}\u2028{FORGED}\u2029 \u202egnp.exe\u2066\u200b\ufeff\u061c \ud800 "
    "[red]x[/red] [link=https://evil.test]y[/link] "
    ":smile: <script>alert(1)</script>"
)
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
TEXTS = (
    "message",
    "file",
    "remedy",
    "about",
    "reason",
    "description",
    "evidence",
    "statement",
    "what",
    "before",
    "after",
    "summary",
)


def attacked(value: Any) -> Any:  # noqa: ANN401 - records in records
    """The same, with the attack in each text that can come from a node or a file."""
    if isinstance(value, BaseModel):
        changed = {
            name: f"{held}{ATTACK}" if name in TEXTS and isinstance(held, str) else attacked(held)
            for name, held in dict(value).items()
        }
        return value.model_copy(update={name: held for name, held in changed.items() if name != "spec"})
    return tuple(map(attacked, value)) if isinstance(value, tuple) else value


def hostile() -> Sample:
    """A run with a failed and an unreachable node, and an attack in every text."""
    made = sample(failed=["S2"], unreachable=["P2"], reason=ATTACK)
    return dataclasses.replace(
        made,
        record=attacked(made.record),
        outcomes=attacked(made.outcomes),
        findings=attacked(made.findings),
        nodes=attacked(made.nodes),
        events=attacked(made.events),
    )


def assert_clean(text: str, *, lines: bool = True) -> None:
    """No invisible characters but line ends, and no line made by a node; continued lines of ours are indented."""
    found = {letter for letter in text if unicodedata.category(letter) in UNSEEN} - {"\n"}
    assert set() == found
    assert not lines or [] == [one for one in text.splitlines() if one.startswith("JOINED")]


def on_console(show: Callable[[Console], object], *, terminal: bool = False) -> str:
    """What is printed."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, height=60, color_system=None, highlight=False)
    show(console)
    return stream.getvalue()


@pytest.mark.parametrize("form", [to_text, to_html, pretty])
def test_no_format_of_a_report_shows_an_attack(form: Callable[[Any], str]) -> None:
    """Text, page and JSON."""
    assert_clean(form(build(hostile())), lines=form is not to_html)


def test_reports_that_are_written_are_clean(tmp_path: Path) -> None:
    """The page and its data, as files."""
    page = write_report(build(hostile()), tmp_path)
    assert_clean(page.read_text("utf-8"), lines=False)
    assert_clean(page.with_suffix(".json").read_text("utf-8"))
    assert "<script>" not in page.read_text("utf-8")


def test_the_result_of_a_run_is_printed_clean() -> None:
    """The output of `rollout`, `status` and `verify`; markup and emoji codes are printed literally."""
    assert_clean(on_console(lambda console: print_result(build(hostile()), console)))
    shown = on_console(lambda console: print_result(build(hostile()), console, verbose=True))
    assert_clean(shown)
    assert "[red]x[/red]" in shown
    assert ":smile:" in shown


def test_the_live_view_is_clean() -> None:
    """The lines of a log and the picture on a terminal."""
    made = hostile()
    for event in made.events:
        assert_clean(line(made.record, event))
    progress = Progress(made.record, made.kind)
    progress.take(made.record, made.events)
    shown = on_console(lambda console: console.print(draw(progress, console, ATTACK.replace("\n", " "))))
    assert_clean(shown)


def test_plans_are_printed_clean() -> None:
    """The texts of a plan about the files of a node."""
    change = Change(what=ATTACK, file=ATTACK, before=ATTACK, after=ATTACK)
    part = NodePlan(node="S1", changes=(change,), restart=ATTACK, fingerprint="0" * 64)
    plan = Plan(cluster="shop", nodes=(part,), waves=(("S1",),), family={})
    lines = plan_lines(cluster_of(1, 0), plan)
    assert_clean(on_console(lambda console: print_text(console, "\n".join(lines))))


def test_json_for_programs_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Status, lists, errors, bundles: whatever they contain."""
    made = hostile()
    checked = Checked(run="r", cluster="c", verdict=ATTACK, chain_head="0", checked=(ATTACK,))
    print_json({"a": ATTACK, ATTACK: [checked.verdict], "row": row_of(made.record).model_dump(mode="json")})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert_clean(printed)
    assert json.loads(printed)["a"] == ATTACK


def test_explanations_are_printed_clean() -> None:
    """The output of `explain`."""
    answer = Explanation(node="S1", answer=Answer.UNKNOWN, notes=(ATTACK,), consequences=(ATTACK,))
    assert_clean("\n".join(explanation_lines(answer, ATTACK, ATTACK)))


@pytest.mark.parametrize("as_json", [True, False])
def test_logs_are_clean(*, as_json: bool) -> None:
    """In both forms, in the event and in its data."""
    stream = io.StringIO()
    logs.configure("INFO", as_json=as_json, stream=stream)
    logger("esync.test").info(ATTACK, said=ATTACK)
    assert_clean(stream.getvalue())
    assert stream.getvalue().count("\n") == 1


def test_reasons_are_cleaned_at_the_border() -> None:
    """Another program may start a run with any text as its reason."""
    asked = RunRequest(reason=ATTACK, who=ATTACK, origin_host=ATTACK * 100)
    for text in (asked.reason, asked.who, asked.origin_host):
        assert_clean(text)
        assert len(text) <= 2000
    assert "\n" not in asked.reason


def test_names_of_certificate_files_are_printed_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file may have nearly any name."""
    name = f"a\x1b[31m\n{FORGED}\u202e.cer"
    (tmp_path / name).write_bytes(b"nothing")
    assert run(["certs", "inspect", str(tmp_path / name)]) == 1
    printed = capsys.readouterr()
    assert_clean(printed.out + printed.err)


def test_long_texts_are_cut() -> None:
    """A very long message of a node does not fill the page."""
    made = sample(failed=["S2"])
    outcomes = tuple(
        o.model_copy(update={"message": "x" * 10**6}) if o.status is Status.FAILED else o for o in made.outcomes
    )
    assert len(pretty(build(dataclasses.replace(made, outcomes=outcomes)))) < 200_000
