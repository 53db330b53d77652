"""A report as one self-contained HTML page: no script, nothing loaded from anywhere, every text escaped."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from pipelines.report.build import name_ranges
from pipelines.report.findings import before_the_run, consequences
from pipelines.report.rows import NodeRow, Report, StepRow
from pipelines.report.styles import MARKS, TONES, UNDER_WAY
from pipelines.report.text import batch_lines, duration
from pipelines.rollout import kind_of
from pipelines.run.kinds import Kind
from workers.records import Verdict

__all__ = ["to_html"]


def to_html(report: Report) -> str:
    """The page. It prints well and follows the reader's choice of light or dark."""
    tone = TONES[Verdict(report.verdict)] if report.verdict else UNDER_WAY
    return _template().render(
        report=report,
        tone=tone,
        consequences=consequences(report),
        early=before_the_run(report),
        said=report.summary.removeprefix(f"{report.verdict}: "),
        columns=_columns(report),
        groups=_groups(report),
        kind=kind_of(report.kind, report.run),
        batch=" ".join(line.strip() for line in list(batch_lines(report))[1:]),
        changed=[node for node in report.nodes if node.changes],
        bars=_bars(report),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    environment.filters["ranges"] = name_ranges
    environment.globals["marks"] = MARKS
    environment.globals["cell"] = _cell
    return environment.from_string(files("pipelines.report").joinpath("report.html").read_text("utf-8"))


def _columns(report: Report) -> list[tuple[str, list[str]]]:
    """The grid's columns: the steps of each group of stages. All waves share theirs; the rows say which wave."""
    begun = {turn.stage for turn in report.turns}
    columns: dict[str, list[str]] = {}
    for stage in kind_of(report.kind, report.run).stages:
        if stage.name in begun:
            steps = columns.setdefault(stage.group, [])
            steps += [step.name for step in stage.steps if step.name not in steps]
    return list(columns.items())


def _cell(kind: Kind, node: NodeRow, group: str, step: str) -> StepRow | None:
    """The last thing that happened in a cell of the grid."""
    stages = {stage.name for stage in kind.stages if stage.group == group}
    return next((s for s in reversed(node.steps) if s.step == step and s.stage in stages), None)


def _groups(report: Report) -> list[tuple[str, str, Sequence[NodeRow]]]:
    """The grid's rows: nodes by wave in the order of the waves, those in none at the end."""
    kind = kind_of(report.kind, report.run)
    numbered = {stage.name for stage in kind.stages if stage.numbered}
    waves = [turn.turn for turn in report.turns if turn.stage in numbered]
    by_wave = {wave: [node for node in report.nodes if node.wave == wave] for wave in [*waves, ""]}
    others = "all nodes" if not waves else "in no wave"
    return [(wave or others, _pools(nodes), nodes) for wave, nodes in by_wave.items() if nodes]


def _pools(nodes: Sequence[NodeRow]) -> str:
    pools = dict.fromkeys(f"{node.pool} ({node.role})" if node.pool != node.role else node.pool for node in nodes)
    return ", ".join(pools)


def _bars(report: Report) -> list[dict[str, Any]]:
    """The turns as bars on one time line; all values are percent."""
    whole = max((turn.offset + turn.seconds for turn in report.turns), default=0.0) or 1.0
    return [
        {"turn": turn, "left": 100 * turn.offset / whole, "width": max(0.4, 100 * turn.seconds / whole)}
        for turn in report.turns
    ]
