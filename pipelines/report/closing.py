"""The end of a run on one screen, however large the cluster is: the worst first, commands to copy last. Pure.

Everything else (findings in full, causes at length, checks by hand) is in the report, and shown with `--verbose`.
"""

import re
from collections.abc import Iterator, Sequence

from pipelines.report.layout import duration, folded, name_ranges, printable
from pipelines.report.node_words import TOUCHED, NodeWord, checked_before_changes, counted_words, node_words
from pipelines.report.problems import Shown, consequences, nodes_down, problems
from pipelines.report.rows import FindingRow, NodeRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.wording import counted
from tasks.undo.plan import CHANGED_SINCE
from workers.records import Verdict

__all__ = ["LINES", "closing_lines"]

LINES = 24  #: of a small terminal
_NAMES = 24  #: columns for the names of nodes at most; more nodes are counted
_LABEL = 7  #: columns of `Next:` and the like, with the space behind
_SHORT_REASON = 44  #: characters of a reason that is short enough to name a warning
_LIMITS = ((3, 3), (2, 2), (2, 1), (1, 1))  #: lines of a problem and of its fix, tried until all problems fit
#: The problem that a verdict means: where it is shown, the summary would only repeat it.
_MEANT = {
    Verdict.FAILED: NodeWord.FAILED,
    Verdict.REFUTED: NodeWord.REFUTED,
    Verdict.UNREACHABLE: NodeWord.UNREACHABLE,
}
_DONE = {NodeWord.CHANGED, NodeWord.CORRECT}
_RETRIABLE = {NodeWord.FAILED, NodeWord.UNREACHABLE, NodeWord.NOT_TRIED, NodeWord.STOPPED}
_WRITTEN = re.compile(r"(\d+) (?:written of \d+|certificate files?)$")


def closing_lines(report: Report, width: int) -> list[str]:
    """The end of a run, or its current state, in at most 24 lines; the first one is the headline.

    Args:
        report: of the run.
        width: columns; only a path, an id or a command that is longer than that is wider.
    """
    shown = problems(report)
    head = folded(_headline(report), width, rest="  ")
    if report.summary and not _repeated(report, shown):
        head += folded(_summary(report), width, "  ", "    ")[:3]
    tail = [line for label, text in _labelled(report) for line in _label_lines(label, text, width)]
    tail += _next_lines(report)
    room = max(3, LINES - len(head) - len(tail))
    return [*head, *_problem_lines(shown, width, room), *tail]


def _repeated(report: Report, shown: Sequence[Shown]) -> bool:
    """Whether the problems say what the summary says."""
    meant = _MEANT.get(Verdict(report.verdict)) if report.verdict else None
    return meant is not None and any(one.word is meant for one in shown)


def _headline(report: Report) -> str:
    verdict = (report.verdict or report.state).upper().replace("_", " ")
    counts = counted_words(report)
    done = sum(counts.get(word, 0) for word in _DONE)
    kind = kind_of(report.kind, report.run)
    parts = [] if kind.read_only or not done else [f"{done} done"]
    one_by_one = {word: count for word, count in counts.items() if kind.read_only or word not in _DONE}
    parts += [f"{count} {_word(word)}" for word, count in one_by_one.items()]
    return f"{verdict}  {counted(len(report.nodes), 'node')}: {', '.join(parts)}     {duration(report.seconds)}"


def _word(word: NodeWord) -> str:
    return "not reached" if word is NodeWord.UNREACHABLE else word.value


def _summary(report: Report) -> str:
    return report.summary.removeprefix(f"{report.verdict}: ")


def _problem_lines(shown: Sequence[Shown], width: int, room: int) -> list[str]:
    """As much about each problem as there is room for; the last line counts the problems without room."""
    for limits in _LIMITS:
        blocks = _blocks(shown, width, limits)
        if sum(map(len, blocks)) <= room:
            return [line for block in blocks for line in block]
    lines: list[str] = []
    for place, block in enumerate(blocks):
        if len(lines) + len(block) > room - 1:
            rest = shown[place:]
            nodes = len({node for one in rest for node in one.nodes})
            lines.append(f"  and {counted(len(rest), 'more problem')} on {counted(nodes, 'node')}: see the report")
            break
        lines += block
    return lines


def _blocks(shown: Sequence[Shown], width: int, limits: tuple[int, int]) -> list[list[str]]:
    names = [_names(one.nodes, min(_NAMES, width // 4)) for one in shown]
    column = max(map(len, names), default=0)
    return [_block(one, name.ljust(column), width, limits) for one, name in zip(shown, names, strict=True)]


def _block(one: Shown, name: str, width: int, limits: tuple[int, int]) -> list[str]:
    first = f"  {name}  " if name.strip() else "  "
    rest = " " * len(first)
    text = _cut(folded(one.text, width, first, rest), limits[0], width)
    fix = f"Fix: {one.fix}" if one.fix else ""
    beside = f"{text[0]}  {fix}"
    if fix and len(text) == 1 and len(beside) <= width:
        return [beside]
    return text + _cut(folded(fix, width, rest, rest + "     "), limits[1], width)


def _cut(lines: list[str], most: int, width: int) -> list[str]:
    """The first lines; where some are left out, the last one ends in dots."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while len(last) > width - 4 and " " in last.strip():
        last = last.rstrip().rpartition(" ")[0]
    return [*lines[: most - 1], f"{last.rstrip()} ..."]


def _names(nodes: Sequence[str], most: int) -> str:
    ranges = name_ranges(nodes)
    return ranges if len(ranges) <= most else counted(len(nodes), "node")


def _label_lines(label: str, text: str, width: int) -> list[str]:
    return _cut(folded(text, width, label.ljust(_LABEL), " " * _LABEL), 2, width)


def _labelled(report: Report) -> Iterator[tuple[str, str]]:
    if report.verdict or any(node.state in TOUCHED for node in report.nodes):
        yield "Safe?", "; ".join(_safe(report))
    if also := ", ".join(_also(report)):
        yield "Also:", also
    yield "Done:", ", ".join(_done(report))


def _safe(report: Report) -> Iterator[str]:
    """What an operator who goes home has to know: is a file half-written, which service is down or owes a restart."""
    kind = kind_of(report.kind, report.run)
    touched = [node for node in report.nodes if node.state in TOUCHED]
    yield "nothing half-written" if touched else "nothing was written"
    down = nodes_down(report)
    if down:
        yield f"{_of(down)} service is down until it is started"
    interrupted = [n for n in touched if n.state is NodeState.INTERRUPTED]
    in_doubt = [n.node for n in interrupted if _restarts(n, report) and n.node not in down]
    if in_doubt:
        yield f"{_of(in_doubt)} service may be down until it is restarted"
    owed = [n.node for n in touched if n.state is NodeState.RESTART_OWED and n.node not in down]
    if owed:
        yield f"{_names(owed, _NAMES)} runs with the earlier configuration until it is restarted"
    partly = [n.node for n in touched if n.state is NodeState.PARTLY or (n in interrupted and not _restarts(n, report))]
    if partly:
        yield f"partly changed: {_names(partly, _NAMES)}"
    done = [node for node in touched if node.state is NodeState.DONE]
    if kind.restores and done and len(done) < len(report.nodes) and report.verdict != Verdict.RESTORED:
        yield f"the cluster is split: {counted(len(done), 'node')} as before the run, the others not"


def _of(nodes: Sequence[str]) -> str:
    return f"{nodes[0]}'s" if len(nodes) == 1 else f"{_names(nodes, _NAMES)}: the"


def _restarts(node: NodeRow, report: Report) -> bool:
    step = kind_of(report.kind, report.run).steps().get(node.step)
    return step is not None and step.restarts


def _also(report: Report) -> Iterator[str]:
    warnings = [finding for finding in report.findings if finding.label == "warning"]
    if warnings:
        yield f"{counted(len(warnings), 'warning')} ({'; '.join(map(_short, warnings))})"
    follow = len(consequences(report))
    if follow:
        yield f"{counted(follow, 'consequence')} of the above"
    if report.fallback_nodes:
        yield f"slow, one PowerShell process per request: {_names(report.fallback_nodes.split(', '), _NAMES)}"
    if report.attestations and kind_of(report.kind, report.run).read_only:
        yield f"{counted(len(report.attestations), 'question')} that only a person can answer (--verbose)"


def _short(finding: FindingRow) -> str:
    """A warning in a few words: the first part of the common reason where that is short, otherwise its id."""
    reasons = set(finding.reasons.values())
    reason = next(iter(reasons)).partition(",")[0] if len(reasons) == 1 else ""
    return reason if 0 < len(reason) <= _SHORT_REASON else finding.invariant


def _done(report: Report) -> Iterator[str]:
    files, restarts = 0, 0
    for node in report.nodes:
        edited: set[str] = set()
        for change in node.changes:
            written = _WRITTEN.match(change.after)
            if change.what.startswith((CHANGED_SINCE, "not removed")):
                continue
            if written:
                files += int(written[1])
            elif change.file:
                edited.add(change.file)
            restarts += change.what.startswith("service ") and change.what.endswith(" restarted")
        files += len(edited)
    if not kind_of(report.kind, report.run).read_only:
        yield counted(files, "file")
        yield counted(restarts, "restart")
    if report.findings:
        proven = sum(finding.verdict is InvariantState.PROVEN for finding in report.findings)
        early = checked_before_changes(report)
        yield f"{proven} of {len(report.findings)} {'prerequisites hold' if early else 'statements proven'}"
    yield f"{counted(sum(len(node.steps) for node in report.nodes), 'step')} in {duration(report.seconds)}"


def _next_lines(report: Report) -> list[str]:
    commands = [printable(command) for command in _commands(report)]
    return [f"{'Next:' if not place else '':<{_LABEL}}{command}" for place, command in enumerate(commands)]


def _commands(report: Report) -> Iterator[str]:
    """What an operator may do next, the most useful first."""
    kind, words = kind_of(report.kind, report.run), node_words(report)
    if report.verdict is None:
        yield f"esync watch {report.run}"
        return
    left = any(word in _RETRIABLE for word in words.values())
    if left and not kind.retry:
        yield f"esync retry {report.run}"
    elif left and report.parent and "{parent}" in kind.retry:
        yield kind.retry.rpartition(": ")[2].format(parent=report.parent)
    refuted = next((node for node, word in words.items() if word is NodeWord.REFUTED), "")
    if refuted and kind.verifies:
        yield f"esync explain {refuted} {report.run}"
    yield f"esync report {report.run} -o report.html"
    if not kind.read_only and not report.parent and any(node.state in TOUCHED for node in report.nodes):
        yield f"esync rollback {report.run}"
