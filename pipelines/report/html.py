"""A report as one self-contained HTML page: no script, nothing loaded from anywhere, every text escaped."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from pipelines.report.build import name_ranges
from pipelines.report.findings import before_the_run, consequences
from pipelines.report.rows import NodeRow, Report, StepRow
from pipelines.report.styles import MARKS, TONES, UNDER_WAY
from pipelines.report.text import PARENT, batch_lines, duration
from workers.records import Verdict

__all__ = ["to_html"]

#: stage -> heading of its columns in the grid
STAGES: Mapping[str, str] = {
    "look": "look",
    "wave": "wave",
    "rollback": "rollback",
    "cleanup": "cleanup",
    "verify": "verify",
}


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
        parent=PARENT.get(report.kind, "after").capitalize(),
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
    """The grid's columns: for each kind of stage its steps. All waves share theirs; the rows say which wave."""
    columns: dict[str, list[str]] = {}
    for turn in report.turns:
        steps = columns.setdefault(_column_stage(turn.stage), [])
        steps += [step for step in turn.steps if step not in steps]
    return [(stage, columns[stage]) for stage in STAGES if stage in columns]


def _column_stage(stage: str) -> str:
    return stage if stage in STAGES else "look"


def _cell(node: NodeRow, stage: str, step: str) -> StepRow | None:
    """The last thing that happened in a cell of the grid."""
    return next((s for s in reversed(node.steps) if s.step == step and _column_stage(s.stage) == stage), None)


def _groups(report: Report) -> list[tuple[str, str, Sequence[NodeRow]]]:
    """The grid's rows: nodes by wave in the order of the waves, those in none at the end."""
    waves = [turn.turn for turn in report.turns if turn.stage == "wave"]
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
