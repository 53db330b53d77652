"""The list of runs: a header, whole ids, dates, and columns that line up."""

from datetime import timedelta

from pipelines.report.runs_text import run_lines
from tests.unit.pipelines.report.sample_run import T0, sample
from workers.records import RunState, Verdict


def test_runs_are_a_table_with_a_header() -> None:
    """The id first and whole, so that it can be copied; the date in UTC; the parent of a retry last."""
    first = sample().record
    second = first.model_copy(
        update={"id": "20261123-200000-a-very-long-name-of-a-cluster-1234567-abcdef", "parent": first.id}
    )
    header, one, two = run_lines([first, second], T0)
    assert header.split() == ["RUN", "KIND", "STARTED", "(UTC)", "TOOK", "RESULT", "REQUESTED", "BY"]
    assert one.startswith(f"{first.id} ")
    assert two.startswith(f"{second.id}  rollout  2026-11-23 19:15  ")
    assert two.endswith(f"[retries {first.id}]")
    assert {header.index("STARTED")} == {line.index("2026-11-23 19:15") for line in (one, two)}


def test_results_are_words() -> None:
    """A verdict without underscores; the state and the time so far of a run that has not ended."""
    pending = sample(verdict=Verdict.CHANGES_PENDING).record
    running = pending.model_copy(update={"verdict": None, "ended": None, "state": RunState.RUNNING})
    _, one, two = run_lines([pending, running], T0 + timedelta(seconds=75))
    assert "  changes pending  " in one
    assert "  1 min 15 s  running" in two
    _, held = run_lines([running], T0, {running.id: "held before wave-2"})
    assert "  held before wave-2  " in held
    _, created = run_lines([running.model_copy(update={"state": RunState.CREATED})], T0)
    assert "  -     created  " in created


def test_no_runs_no_header() -> None:
    """An empty list prints nothing."""
    assert list(run_lines([], T0)) == []


def test_on_a_narrow_terminal_a_run_has_its_id_alone_on_a_line() -> None:
    """Whole, to be copied; no line is broken by the terminal. What a wide terminal has room for is one line."""
    first = sample().record.model_copy(update={"reason": ""})
    named = first.model_copy(update={"id": "20261123-200000-west-coast-production-d6d6bd64_2_0002"})
    lines = list(run_lines([first, named], T0, width=80))
    assert lines[:2] == ["RUN", "    KIND     STARTED (UTC)     TOOK    RESULT  REQUESTED BY"]
    assert (lines[2], lines[4]) == (first.id, named.id)
    assert lines[3].startswith("    rollout  2026-11-23 19:15  ")
    assert all(len(line) <= 80 for line in lines)
    assert list(run_lines([first, named], T0, width=200)) == list(run_lines([first, named], T0))
