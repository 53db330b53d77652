"""A report as one self-contained HTML page: no script, no external resources, every text escaped.

Its first screen says what happened, how the servers stand now and what to do; everything else is below.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.report.answers import next_commands, safety, work_done
from pipelines.report.changed_nodes import changed_nodes
from pipelines.report.findings import FindingGroup, finding_groups
from pipelines.report.layout import duration, without_verdict
from pipelines.report.node_words import NodeWord, checked_before_changes, node_words
from pipelines.report.problems import consequences, problems
from pipelines.report.rows import NodeRow, Report, StepRow, TurnRow
from pipelines.report.standings import standings
from pipelines.report.styles import IN_PROGRESS, REFUTED, STATUS_STYLES, VERDICT_STYLES
from pipelines.rollout import kind_of
from pipelines.run.kinds import Kind
from pipelines.run.node_state import NodeState
from tasks.steering import verb_for_held
from workers.records import Status, Verdict

if TYPE_CHECKING:  # loaded when a page is written: most commands write none
    from jinja2 import FileSystemBytecodeCache, Template

__all__ = ["to_html"]

_UNFINISHED = {NodeState.INTERRUPTED, NodeState.PARTLY, NodeState.RESTART_OWED}
_MOST_OPEN = 60  #: nodes; a page of more shows its rows when a wave is opened, so that it is shown at once
_MOST_FIXES = 3  #: on the first screen; all are below
#: What a command is for, by its verb.
_PURPOSES: Mapping[str, str] = {
    "retry": "when the causes are fixed",
    "explain": "why it is refuted",
    "watch": "follows the run",
    "promote": "lets the next wave begin",
    "rollback": "when the causes are fixed",
    "cleanup": "when the causes are fixed",
}


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


class _Findings(NamedTuple):
    """What is not proven, by its weight: to be cleared up, following from known problems, warnings."""

    now: list[FindingGroup]
    follow: list[FindingGroup]
    warnings: list[FindingGroup]


def to_html(report: Report) -> str:
    """The page. It prints well and follows the reader's choice of light or dark."""
    kind = kind_of(report.kind, report.run)
    style = VERDICT_STYLES[Verdict(report.verdict)] if report.verdict else IN_PROGRESS
    return _template().render(
        report=report,
        kind=kind,
        style=style,
        summary=without_verdict(report.summary, report.verdict) or _waits(report) or style.meaning,
        early=checked_before_changes(report),
        mark=_marks(report),
        **_first_screen(report, kind),
        **_details(report),
    )


def _waits(report: Report) -> str:
    verb = verb_for_held(unapproved=report.unapproved)
    return f"held before {report.held}: it waits for esync {verb} {report.run}" if report.held else ""


def _first_screen(report: Report, kind: Kind) -> Mapping[str, Any]:
    """The state of the servers, and what to do with which command."""
    rows, mark = {node.node: node for node in report.nodes}, _marks(report)
    offered = [command for command in next_commands(report) if " report " not in command]
    undo = f"esync rollback {report.run}"
    to_fix = [one for one in problems(report) if one.fix or one.word is not NodeWord.NOT_TRIED]
    return {
        "counts": _counts(report),
        "standings": [(mark(rows[one.nodes[0]], None), one) for one in standings(report)],
        "safe": "; ".join(safety(report)) if report.verdict and not kind.read_only else "",
        "work": ", ".join(work_done(report)),
        "fixes": to_fix[:_MOST_FIXES],
        "more_fixes": len(to_fix[_MOST_FIXES:]),
        "commands": [(command, _PURPOSES.get(command.split()[1], "")) for command in offered if command != undo],
        "undo": undo if undo in offered else "",
    }


def _details(report: Report) -> Mapping[str, Any]:
    """Everything below the first screen."""
    mark, words, rows = _marks(report), node_words(report), {node.node: node for node in report.nodes}
    folded = len(report.nodes) > _MOST_OPEN
    return {
        "causes": [
            (mark(rows[cause.nodes[0]], None), cause)
            for cause in report.causes
            if words[cause.nodes[0]] not in {NodeWord.WAITING, NodeWord.NOT_SELECTED}
        ],
        "unfinished": [row for row in report.node_states if row.state in _UNFINISHED],
        "findings": _weighed(report),
        "columns": _columns(report),
        "width": 2 + sum(len(steps) for _, steps in _columns(report)),
        "groups": _groups(report),
        "folded": folded,
        "outcomes": lambda nodes: _outcomes(nodes, mark),
        "changed": changed_nodes(report.nodes, together=folded),
        "bars": _bars(report),
        "used": [status for status in Status if any(step.status is status for n in report.nodes for step in n.steps)],
    }


def _weighed(report: Report) -> _Findings:
    """A group follows from known problems if all of its findings do."""
    follow = {finding.invariant for finding in consequences(report)}
    parts = _Findings([], [], [])
    for group in finding_groups(report):
        if all(finding.invariant in follow for finding in group.findings):
            parts.follow.append(group)
        elif all(finding.label == "warning" for finding in group.findings):
            parts.warnings.append(group)
        else:
            parts.now.append(group)
    return parts


@cache
def _template() -> "Template":
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - see above

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: Path(__file__).with_name(name).read_text("utf-8")),
        bytecode_cache=_compiled(),
    )
    environment.filters |= {"duration": duration, "thousands": _thousands}
    environment.globals["styles"] = STATUS_STYLES
    environment.globals["cell"] = _cell
    return environment.get_template("report.html")


def _compiled() -> "FileSystemBytecodeCache | None":
    """Keeps the compiled template where Python keeps this module compiled, if it may: to compile it takes a while."""
    from jinja2 import FileSystemBytecodeCache  # noqa: PLC0415 - see above

    folder = Path(cache_from_source(__file__)).parent
    kept = not sys.dont_write_bytecode and os.access(folder, os.W_OK)
    return FileSystemBytecodeCache(str(folder)) if kept else None


def _thousands(number: int) -> str:
    return f"{number:,}"


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
    had = {step for turn in report.turns for step in turn.steps}
    columns: dict[str, list[str]] = {}
    for stage in kind_of(report.kind, report.run).stages:
        if stage.name in begun:
            steps = columns.setdefault(stage.group, [])
            steps += [step.name for step in stage.steps if step.name in had and step.name not in steps]
    return list(columns.items())


def _cell(kind: Kind, node: NodeRow, group: str, step: str) -> StepRow | None:
    """The last step in a cell of the grid; if it had nothing to do, the one before it that has changed the node."""
    stages = {stage.name for stage in kind.stages if stage.group == group}
    found = [s for s in reversed(node.steps) if s.step == step and s.stage in stages]
    idle = bool(found) and found[0].status is Status.UNCHANGED
    return next((s for s in found if idle and s.status is Status.CHANGED), found[0] if found else None)


def _groups(report: Report) -> list[tuple[str, str, Sequence[NodeRow]]]:
    """The rows of the grid: nodes by wave in the order of the waves, nodes without a wave last."""
    waves = {stage.name for stage in kind_of(report.kind, report.run).stages if stage.numbered}
    by_wave: dict[str, list[NodeRow]] = {turn.turn: [] for turn in report.turns if turn.stage in waves}
    others = "in no wave" if by_wave else "all nodes"
    by_wave[""] = []
    for node in report.nodes:
        by_wave[node.wave].append(node)
    return [(wave or others, _pools(nodes), nodes) for wave, nodes in by_wave.items() if nodes]


def _outcomes(nodes: Sequence[NodeRow], mark: Callable[[NodeRow, StepRow | None], _Mark]) -> str:
    """How many of the nodes ended how: `148 changed, 2 failed`."""
    counts = Counter(mark(node, None).word for node in nodes)
    return ", ".join(f"{count:,} {word}" for word, count in counts.most_common())


def _pools(nodes: Sequence[NodeRow]) -> str:
    pools = dict.fromkeys(f"{node.pool} ({node.role})" if node.pool != node.role else node.pool for node in nodes)
    return ", ".join(pools)


def _bars(report: Report) -> list[_Bar]:
    whole = max((turn.offset + turn.seconds for turn in report.turns), default=0.0) or 1.0
    return [_Bar(turn, 100 * turn.offset / whole, max(0.4, 100 * turn.seconds / whole)) for turn in report.turns]
