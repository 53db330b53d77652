"""The end of a run on one screen, however large the cluster is: the worst first, commands to copy last. Pure.

Everything else (findings in full, causes at length, checks by hand) is in the report, and shown with `--verbose`.
"""

from collections.abc import Iterable, Iterator, Sequence

from pipelines.report.answers import names, next_commands, safety, work_done
from pipelines.report.layout import cut, duration, folded, printable, without_verdict
from pipelines.report.node_words import TOUCHED, NodeWord, counted_words
from pipelines.report.problems import Shown, consequences, problems
from pipelines.report.rows import FindingRow, QuestionRow, Report
from pipelines.rollout import kind_of
from tasks.ektron.wording import counted
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


def closing_lines(report: Report, width: int, commands: Sequence[str] | None = None) -> list[str]:
    """The end of a run, or its current state, in at most 24 lines; the first one is the headline.

    Args:
        report: of the run.
        width: columns; only a path, an id or a command that is longer than that is wider.
        commands: what the operator may do next, where that does not follow from the run.
    """
    shown = problems(report)
    head = folded(_headline(report), width, rest="  ")
    if report.summary and not _repeated(report, shown):
        head += cut(folded(without_verdict(report.summary, report.verdict), width, "  ", "    "), 4, width)
    tail = [line for label, text in _labelled(report) for line in _label_lines(label, text, width)]
    tail += _next_lines(next_commands(report) if commands is None else commands)
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
    columns = [names(one.nodes, min(_NAMES, width // 4)) for one in shown]
    column = max(map(len, columns), default=0)
    return [_block(one, name.ljust(column), width, limits) for one, name in zip(shown, columns, strict=True)]


def _block(one: Shown, name: str, width: int, limits: tuple[int, int]) -> list[str]:
    first = f"  {name}  " if name.strip() else "  "
    rest = " " * len(first)
    text = cut(folded(one.text, width, first, rest), limits[0], width)
    fix = f"Fix: {one.fix}" if one.fix else ""
    beside = f"{text[0]}  {fix}"
    if fix and len(text) == 1 and len(beside) <= width:
        return [beside]
    return text + cut(folded(fix, width, rest, rest + "     "), limits[1], width)


def _label_lines(label: str, text: str, width: int) -> list[str]:
    return cut(folded(text, width, label.ljust(_LABEL), " " * _LABEL), 2, width)


def _labelled(report: Report) -> Iterator[tuple[str, str]]:
    if report.verdict or any(node.state in TOUCHED for node in report.nodes):
        yield "Safe?", "; ".join(safety(report))
    if also := ", ".join(_also(report)):
        yield "Also:", also
    yield "Done:", ", ".join(work_done(report))


def _also(report: Report) -> Iterator[str]:
    warnings = [finding for finding in report.findings if finding.label == "warning"]
    if warnings:
        yield f"{counted(len(warnings), 'warning')} ({'; '.join(map(_short, warnings))})"
    if report.budget and report.verdict in {None, Verdict.STOPPED}:
        yield report.budget.left
    follow = len(consequences(report))
    if follow:
        yield f"{counted(follow, 'consequence')} of the above"
    if report.fallback_nodes:
        yield f"slow, one PowerShell process per request: {names(report.fallback_nodes.split(', '))}"
    if report.attestations and kind_of(report.kind, report.run).read_only:
        yield from _questions(report.attestations)


def _questions(asked: Sequence[QuestionRow]) -> Iterator[str]:
    """How many a person has to answer, and how many are answered, until when."""
    left = sum(not one.answered for one in asked)
    if left:
        yield f"{counted(left, 'question')} that only a person can answer (--verbose; esync attest FILE)"
    days = [one.confirmed.until for one in asked if one.answered and one.confirmed]
    if days:
        yield f"{counted(len(days), 'question')} answered by a person, the first until {min(days):%Y-%m-%d}"


def _short(finding: FindingRow) -> str:
    """A warning in a few words: the first part of the common reason where that is short, otherwise its id."""
    reasons = set(finding.reasons.values())
    reason = next(iter(reasons)).partition(",")[0] if len(reasons) == 1 else ""
    return reason if 0 < len(reason) <= _SHORT_REASON else finding.invariant


def _next_lines(commands: Iterable[str]) -> list[str]:
    return [f"{'' if place else 'Next:':<{_LABEL}}{printable(command)}" for place, command in enumerate(commands)]
