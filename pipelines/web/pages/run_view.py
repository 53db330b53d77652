"""What the page of a run shows: from its progress, its report and its steering. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pipelines.report.answers import safety, work_done
from pipelines.report.layout import by_itself, name_ranges, without_verdict
from pipelines.report.node_words import NodeWord, node_words
from pipelines.report.problems import Shown, problems
from pipelines.report.rows import NodeRow, Report, StepRow
from pipelines.report.standings import standings
from pipelines.report.styles import STATUS_STYLES
from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from pipelines.run.waves import left_of_hold
from pipelines.web.pages.grid import MARKS, PER_PAGE, TROUBLE, Mark, Show, counts_of, grid_of
from pipelines.web.pages.rendering import style_of
from tasks.steering import Steering
from workers.records import now
from workers.store.chain import digest_of

__all__ = [
    "head_values",
    "in_words",
    "mark_of",
    "mark_of_step",
    "node_of",
    "panel_values",
    "revisions",
    "rows_values",
    "to_do",
]

_MOST = 8  #: problems that a page shows; the report has all
_NAMES = 160  #: characters for the names of nodes at most; more are counted
_BY_WORD: Mapping[NodeWord, Mark] = {
    NodeWord.FAILED: MARKS["f"],
    NodeWord.REFUTED: MARKS["x"],
    NodeWord.UNREACHABLE: MARKS["u"],
    NodeWord.STOPPED: Mark("cancelled", MARKS["c"].symbol, "stopped"),
    NodeWord.NOT_TRIED: Mark("skipped", MARKS["s"].symbol, "not tried"),
    NodeWord.RUNNING: MARKS["r"],
    NodeWord.WAITING: MARKS["."],
    NodeWord.NOT_SELECTED: MARKS["-"],
    NodeWord.TO_CHANGE: MARKS["w"],
    NodeWord.CHANGED: MARKS["d"],
    NodeWord.CORRECT: MARKS["e"],
}


class _Turn(NamedTuple):
    name: str
    done: int
    total: int


class _Problem(NamedTuple):
    """A problem as a page shows it."""

    word: NodeWord | None
    nodes: Sequence[str]
    ranges: str
    text: str
    fix: str


class _Standing(NamedTuple):
    nodes: Sequence[str]
    ranges: str
    text: str


def mark_of(word: NodeWord) -> Mark:
    """How a node looks, by its part in a run."""
    return _BY_WORD[word]


def mark_of_step(step: StepRow) -> Mark:
    """How the outcome of a step looks."""
    style = STATUS_STYLES[step.status]
    return Mark(step.status.value, style.symbol, style.word)


def in_words(nodes: Sequence[str]) -> str:
    """The nodes as ranges; the first ones and a number where that would fill the page."""
    ranges = name_ranges(nodes)
    if len(ranges) <= _NAMES:
        return ranges
    short = ranges[:_NAMES].rpartition(", ")[0]
    return f"{short} … ({len(nodes):,} servers)"


def head_values(progress: Progress, codes: Mapping[str, str], steering: Steering, report: Report) -> dict[str, Any]:
    """The first lines of the page: what happens now, or what the run has found."""
    record = progress.record
    style = style_of(record.verdict)
    turn = record.turn if record.verdict is None else None
    return {
        "record": record,
        "kind": progress.kind,
        "style": style,
        "title": _title(style.title, steering),
        "counts": counts_of(codes),
        "summary": without_verdict(record.summary, record.verdict) or _now(progress, steering) or style.meaning,
        "turn": _Turn(turn.name, *progress.steps(turn)) if turn else None,
        "seconds": progress.seconds(now()),
        "budget": report.budget.left if report.budget and record.verdict is None else "",
    }


def _title(title: str, steering: Steering) -> str:
    if steering.cancelled:
        return "Stopping"
    if steering.paused:
        return "Paused"
    if steering.unapproved:
        return "Waiting for approval"
    return "Waiting for a person" if steering.held else title


def _now(progress: Progress, steering: Steering) -> str:
    """What happens now, in a sentence; empty when the run has ended."""
    if progress.record.verdict is not None:
        return ""
    if steering.cancelled:
        return f"It stops at the next safe point ({steering.cancelled})."
    if steering.paused:
        return f"Running steps finish, no further step starts ({steering.paused})."
    if steering.unapproved:
        return "Its plan waits for the approval of another person; nothing is changed before."
    if steering.held:
        alone = by_itself(left_of_hold(progress.record, steering))
        or_not = f", or {alone}" if alone else ""
        before = f"It waits before {steering.held} until a person lets it begin{or_not}."
        return f"It waits for a person: {progress.said}" if progress.at_gate else before
    running, turn = progress.running(), progress.record.turn
    begun = f"Between two steps of {turn.name}." if turn else "It has been requested."
    return f"Working on {in_words(running)}." if running else begun


def panel_values(report: Report, answer: str = "", running: Collection[str] = ()) -> dict[str, Any]:
    """How the servers stand, what is not right and what to do; and what a run about a sync has been answered.

    Args:
        report: of the run.
        answer: what the servers have answered.
        running: the nodes with a running step.
    """
    kind = kind_of(report.kind, report.run)
    shown = to_do(report)
    return {
        "report": report,
        "answer": answer,
        "standings": [
            (mark_of(one.word), _Standing(one.nodes, in_words(one.nodes), one.text))
            for one in standings(report, running)
        ],
        "safe": "; ".join(safety(report)) if report.verdict and not kind.read_only else "",
        "work": ", ".join(work_done(report)),
        "problems": shown[:_MOST],
        "more": len(shown[_MOST:]),
        "warnings": [finding for finding in report.findings if finding.label == "warning"],
    }


def to_do(report: Report) -> Sequence[_Problem]:
    """The problems of a run that are causes, the worst first."""
    shown = [one for one in problems(report) if one.fix or one.word is not NodeWord.NOT_TRIED]
    return [_problem(one) for one in shown]


def _problem(one: Shown) -> _Problem:
    return _Problem(one.word, one.nodes, in_words(one.nodes), one.text, one.fix)


def rows_values(progress: Progress, codes: Mapping[str, str], show: Show) -> dict[str, Any]:
    """The grid, and of a large run the rows that were asked for."""
    grid = grid_of(progress, codes)
    shown, fit = show.of(grid) if grid.many else ((), 0)
    return {
        "grid": grid,
        "show": show,
        "shown": shown,
        "fit": fit,
        "shown_at_once": PER_PAGE,
        "ask": _asking(show),
    }


def revisions(progress: Progress, codes: Mapping[str, str], steering: Steering) -> dict[str, str]:
    """For each part that a page asks for again when it has changed: its present revision."""
    state = f"{progress.record.state}{len(progress.record.turns)}"
    trouble = sum(letters[-1] in TROUBLE for letters in codes.values())
    return {
        "actions": digest_of([state, steering.cancelled, steering.paused, steering.held])[:12],
        "map": state,
        "rows": f"{state}.{trouble}",
    }


def _asking(show: Show) -> Callable[[int], str]:
    return lambda page: urlencode({"what": show.what, "name": show.name, "page": page})


def node_of(report: Report, name: str) -> tuple[NodeRow, Mark] | None:
    """A node of a run with how it looks; None if there is no such node."""
    words = node_words(report)
    return next(((node, mark_of(words[node.node])) for node in report.nodes if node.node == name), None)
