"""A report as one self-contained HTML page: no script, no external resources, every text escaped."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from pipelines.report.findings import finding_groups
from pipelines.report.layout import duration
from pipelines.report.node_words import NodeWord, checked_before_changes, node_words
from pipelines.report.rows import NodeRow, Report, StepRow, TurnRow
from pipelines.report.styles import IN_PROGRESS, REFUTED, STATUS_STYLES, VERDICT_STYLES
from pipelines.rollout import kind_of
from pipelines.run.kinds import Kind
from workers.records import Verdict

__all__ = ["to_html"]


class _Bar(NamedTuple):
    """One turn on the time line. `left` and `width` are percent."""

    turn: TurnRow
    left: float
    width: float


class _Mark(NamedTuple):
    """A class on the page, with symbol and word."""

    css: str
    symbol: str
    word: str


def to_html(report: Report) -> str:
    """The page. It prints well and follows the reader's choice of light or dark."""
    kind = kind_of(report.kind, report.run)
    style = VERDICT_STYLES[Verdict(report.verdict)] if report.verdict else IN_PROGRESS
    return _template().render(
        report=report,
        style=style,
        finding_groups=finding_groups(report),
        early=checked_before_changes(report),
        summary=report.summary.removeprefix(f"{report.verdict}: "),
        columns=_columns(report),
        groups=_groups(report),
        kind=kind,
        changed=[node for node in report.nodes if node.changes],
        bars=_bars(report),
        counts=_counts(report),
        mark=_marks(report),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    environment.globals["styles"] = STATUS_STYLES
    environment.globals["cell"] = _cell
    return environment.from_string(files("pipelines.report").joinpath("report.html").read_text("utf-8"))


def _marks(report: Report) -> Callable[[NodeRow, StepRow | None], _Mark]:
    """The mark of a node, or of one of its steps: an error of the final check outweighs that the steps ended well."""
    words, last = node_words(report), kind_of(report.kind, report.run).stages[-1].name

    def mark(node: NodeRow, step: StepRow | None = None) -> _Mark:
        status = step.status if step else node.status
        if words[node.node] is NodeWord.REFUTED and (step is None or step.stage == last):
            return _Mark("failed", REFUTED.symbol, REFUTED.word)
        word = words[node.node].value if step is None else STATUS_STYLES[status].word
        return _Mark(status.value, STATUS_STYLES[status].symbol, word)

    return mark


def _counts(report: Report) -> list[tuple[_Mark, int]]:
    """The number of nodes by mark, the worst first."""
    mark = _marks(report)
    counts = Counter(mark(node, None) for node in report.nodes)
    return sorted(counts.items(), key=lambda counted: [*NodeWord].index(NodeWord(counted[0].word)))


def _columns(report: Report) -> list[tuple[str, list[str]]]:
    """The columns of the grid: the steps of each group of stages. All waves share theirs; the rows name the wave."""
    begun = {turn.stage for turn in report.turns}
    columns: dict[str, list[str]] = {}
    for stage in kind_of(report.kind, report.run).stages:
        if stage.name in begun:
            steps = columns.setdefault(stage.group, [])
            steps += [step.name for step in stage.steps if step.name not in steps]
    return list(columns.items())


def _cell(kind: Kind, node: NodeRow, group: str, step: str) -> StepRow | None:
    """The last step in a cell of the grid."""
    stages = {stage.name for stage in kind.stages if stage.group == group}
    return next((s for s in reversed(node.steps) if s.step == step and s.stage in stages), None)


def _groups(report: Report) -> list[tuple[str, str, Sequence[NodeRow]]]:
    """The rows of the grid: nodes by wave in the order of the waves, nodes without a wave last."""
    numbered = {stage.name for stage in kind_of(report.kind, report.run).stages if stage.numbered}
    by_wave: dict[str, list[NodeRow]] = {turn.turn: [] for turn in report.turns if turn.stage in numbered}
    others = "in no wave" if by_wave else "all nodes"
    by_wave[""] = []
    for node in report.nodes:
        by_wave[node.wave].append(node)
    return [(wave or others, _pools(nodes), nodes) for wave, nodes in by_wave.items() if nodes]


def _pools(nodes: Sequence[NodeRow]) -> str:
    pools = dict.fromkeys(f"{node.pool} ({node.role})" if node.pool != node.role else node.pool for node in nodes)
    return ", ".join(pools)


def _bars(report: Report) -> list[_Bar]:
    whole = max((turn.offset + turn.seconds for turn in report.turns), default=0.0) or 1.0
    return [_Bar(turn, 100 * turn.offset / whole, max(0.4, 100 * turn.seconds / whole)) for turn in report.turns]
