"""What a run could not do, and what does not hold in the cluster: one problem per cause, the worst first. Pure.

Findings that only follow from such a problem (an unreachable server was not checked either) are counted, not shown.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.report.findings import FIXED_BY_ROLLOUT
from pipelines.report.layout import name_ranges
from pipelines.report.node_words import NodeWord, node_words, nodes_down, short_state
from pipelines.report.rows import Cause, FindingRow, NodeRow, Report
from pipelines.run.node_state import NODE_STATES
from tasks.ektron.rules.findings import InvariantState, Severity
from tasks.ektron.wording import counted
from workers.records import Verdict

__all__ = ["Shown", "consequences", "problems"]

_NEED_THE_SERVICE = {"service.listening-8732", "network.reach-8732-all-pairs", "site.wspath-answers"}
_HIDE_VALUES = {"config.files-usable", "config.not-encrypted"}  #: whose counter-examples leave other rules unknown
_UNDONE = {NodeWord.FAILED, NodeWord.UNREACHABLE, NodeWord.STOPPED, NodeWord.NOT_TRIED}
_FIRST = {
    NodeWord.FAILED: 0,
    NodeWord.STOPPED: 10,
    NodeWord.REFUTED: 20,
    NodeWord.UNREACHABLE: 30,
    NodeWord.NOT_TRIED: 50,
}
_UNKNOWN = 40  #: the place of what could not be checked


@dataclass(frozen=True, slots=True)
class Shown:
    """One problem as it is shown.

    Attributes:
        place: worse problems have a lower one.
        word: what the nodes are because of it.
        nodes: the nodes concerned.
        text: the step, one sentence, the state of the nodes.
        fix: what to do; may be empty.
    """

    place: int
    word: NodeWord | None
    nodes: tuple[str, ...]
    text: str
    fix: str = ""

    @property
    def ranges(self) -> str:
        """The nodes for people."""
        return name_ranges(self.nodes)


def problems(report: Report) -> Sequence[Shown]:
    """Every problem of a run, the worst first; the findings that follow from one of them are left out."""
    found = [*_of_nodes(report), *_of_cluster(report)]
    return sorted(found, key=lambda one: (one.place, -len(one.nodes)))


def consequences(report: Report) -> Sequence[FindingRow]:
    """The errors and unknowns that follow from a known cause.

    They only concern nodes that the run could not change or reach, whose service does not run, or whose files cannot
    be read.
    """
    undone = {node for node, word in node_words(report).items() if word in _UNDONE}
    hidden = [one for one in report.findings if one.label == "refuted" and one.invariant in _HIDE_VALUES]
    unread = {node for finding in hidden for node in finding.nodes}
    down = set(nodes_down(report))
    return [finding for finding in report.findings if _follows(finding, undone, down, unread)]


def _follows(finding: FindingRow, undone: Collection[str], down: Collection[str], unread: Collection[str]) -> bool:
    if finding.verdict is InvariantState.PROVEN or not finding.nodes:
        return False
    if finding.invariant in _NEED_THE_SERVICE and set(finding.nodes) <= set(down):
        return True
    if finding.verdict is InvariantState.UNKNOWN and set(finding.nodes) <= set(unread):
        return True
    return finding.label != "warning" and set(finding.nodes) <= set(undone)


def _of_nodes(report: Report) -> Iterator[Shown]:
    rows, words = {row.node: row for row in report.nodes}, node_words(report)
    for cause in report.causes:
        word = words[cause.nodes[0]]
        if word in _FIRST:
            members = [rows[name] for name in cause.nodes]
            yield Shown(
                place=_FIRST[word] + min(map(_badness, members)),
                word=word,
                nodes=cause.nodes,
                text=_sentence(cause, word, _states(members, report)),
                fix=_plain(cause.problem.remedy, cause.nodes),
            )


def _badness(node: NodeRow) -> int:
    return NODE_STATES.index(node.state) if node.state else 0


def _states(members: Iterable[NodeRow], report: Report) -> str:
    """The state of these nodes; where they differ, each with its number."""
    counts: dict[str, int] = {}
    for member in members:
        state = short_state(member, report)
        counts[state] = counts.get(state, 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _sentence(cause: Cause, word: NodeWord, states: str) -> str:
    problem = cause.problem
    message = _plain(problem.message, cause.nodes).removeprefix(f"{cause.status.value}: ") or "no reason was given"
    if problem.file and problem.file not in problem.message:
        message += f" ({problem.file})"
    if word is NodeWord.UNREACHABLE:
        message = f"not reached: {message}"
    elif word is NodeWord.NOT_TRIED:
        message = message if message.startswith("not ") else f"not tried: {message}"
    elif cause.step:
        message = f"{cause.step}: {message.removeprefix(f'{cause.step} ')}"
    return f"{message}; {states}" if states else message


def _plain(text: str, nodes: Sequence[str]) -> str:
    """A text about one node without its name, which is shown beside it; one about several nodes has none in front."""
    if len(nodes) == 1:
        text = re.sub(rf"^{re.escape(nodes[0])}(?::? )", "", text)
        text = re.sub(r"^\(([^() ]+)\) ", r"\1 ", text)  # its address
    return text


def _of_cluster(report: Report) -> Iterator[Shown]:
    """The errors and the unknowns of the cluster; all that a rollout fixes is one problem."""
    left = [one for one in report.findings if one.verdict is not InvariantState.PROVEN and one.label != "warning"]
    follow = {one.invariant for one in consequences(report)}
    left = [one for one in left if one.severity is Severity.ERROR and one.invariant not in follow]
    by_rollout = [f for f in left if f.label == "refuted" and f.remedy.startswith(FIXED_BY_ROLLOUT)]
    if len(by_rollout) > 1:
        yield _together(by_rollout)
        left = [finding for finding in left if finding not in by_rollout]
    for finding in left:
        if finding.label == "refuted":
            yield Shown(_FIRST[NodeWord.REFUTED], NodeWord.REFUTED, finding.nodes, _found(finding), finding.remedy)
        elif report.verdict != Verdict.STOPPED:
            yield Shown(_UNKNOWN, None, finding.nodes, f"could not be checked: {_found(finding)}", finding.remedy)


def _together(findings: Sequence[FindingRow]) -> Shown:
    nodes = dict.fromkeys(node for finding in findings for node in finding.nodes)
    text = f"{counted(len(findings), 'statement')} do not hold, first {_found(findings[0])}"
    return Shown(_FIRST[NodeWord.REFUTED] + 1, NodeWord.REFUTED, tuple(nodes), text, findings[0].remedy)


def _found(finding: FindingRow) -> str:
    return f"{_reason(finding.reasons) or finding.evidence or finding.statement} ({finding.invariant})"


def _reason(reasons: Mapping[str, str]) -> str:
    """The reason that all nodes have in common; empty when they differ."""
    different = set(reasons.values())
    return next(iter(different)) if len(different) == 1 else ""
