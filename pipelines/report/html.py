"""A report as one self-contained HTML page: no script, no external resources, every text escaped."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from pipelines.report.findings import checked_before_changes, finding_groups
from pipelines.report.layout import PARENT, duration
from pipelines.report.rows import NodeRow, Report, StepRow, TurnRow
from pipelines.report.styles import IN_PROGRESS, STATUS_STYLES, VERDICT_STYLES
from workers.records import Verdict

__all__ = ["to_html"]

#: Stages with columns of their own in the grid, in order; all others are shown as `look`.
STAGES = ("look", "wave", "rollback", "cleanup", "verify")


class _Bar(NamedTuple):
    """One turn on the time line. `left` and `width` are percent."""

    turn: TurnRow
    left: float
    width: float


def to_html(report: Report) -> str:
    """The page. It prints well and follows the reader's choice of light or dark."""
    style = VERDICT_STYLES[Verdict(report.verdict)] if report.verdict else IN_PROGRESS
    return _template().render(
        report=report,
        style=style,
        finding_groups=finding_groups(report),
        early=checked_before_changes(report),
        summary=report.summary.removeprefix(f"{report.verdict}: "),
        columns=_columns(report),
        groups=_groups(report),
        parent=PARENT.get(report.kind, "after").capitalize(),
        changed=[node for node in report.nodes if node.changes],
        bars=_bars(report),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    environment.globals["styles"] = STATUS_STYLES
    environment.globals["cell"] = _cell
    return environment.from_string(files("pipelines.report").joinpath("report.html").read_text("utf-8"))


def _columns(report: Report) -> list[tuple[str, list[str]]]:
    """The columns of the grid: for each kind of stage its steps. All waves share theirs; the rows name the wave."""
    columns: dict[str, list[str]] = {}
    for turn in report.turns:
        steps = columns.setdefault(_column_stage(turn.stage), [])
        steps += [step for step in turn.steps if step not in steps]
    return [(stage, columns[stage]) for stage in STAGES if stage in columns]


def _column_stage(stage: str) -> str:
    return stage if stage in STAGES else "look"


def _cell(node: NodeRow, stage: str, step: str) -> StepRow | None:
    """The last step in a cell of the grid."""
    return next((s for s in reversed(node.steps) if s.step == step and _column_stage(s.stage) == stage), None)


def _groups(report: Report) -> list[tuple[str, str, Sequence[NodeRow]]]:
    """The rows of the grid: nodes by wave in the order of the waves, nodes without a wave last."""
    by_wave: dict[str, list[NodeRow]] = {turn.turn: [] for turn in report.turns if turn.stage == "wave"}
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
