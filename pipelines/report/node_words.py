"""The part of each node in a run, as people read it: finer than its status, which is the same in every version of JSON.

A node that was only looked at is `unchanged` for programs. For people it is correct, or refuted: named by an error.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pipelines.report.rows import NodeRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_results import NOT_SELECTED, WAITING
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.findings import InvariantState
from workers.records import Status

__all__ = [
    "TOUCHED",
    "NodeWord",
    "checked_before_changes",
    "counted_words",
    "node_words",
    "nodes_down",
    "refuted_nodes",
    "short_state",
]

_SERVICE = "service.running"  #: the statement about the services
#: States of a node to which the run did something.
TOUCHED = frozenset({NodeState.INTERRUPTED, NodeState.PARTLY, NodeState.RESTART_OWED, NodeState.DONE})


class NodeWord(StrEnum):
    """The part of a node in a run, worst first."""

    FAILED = "failed"
    REFUTED = "refuted"  #: an error of the cluster names it
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"  #: the run was cancelled while it changed the node
    NOT_TRIED = "not tried"
    RUNNING = "running"  #: some of its steps have changed it, others are not done yet
    WAITING = "waiting"  #: of a run that has not ended
    NOT_SELECTED = "not selected"
    TO_CHANGE = "to change"
    CHANGED = "changed"
    CORRECT = "correct"


_WORDS = {
    Status.FAILED: NodeWord.FAILED,
    Status.UNREACHABLE: NodeWord.UNREACHABLE,
    Status.WOULD_CHANGE: NodeWord.TO_CHANGE,
    Status.CHANGED: NodeWord.CHANGED,
    Status.UNCHANGED: NodeWord.CORRECT,
}
_SHORT = {
    NodeState.RIGHT: "correct",
    NodeState.DONE: "all changes are made",
    NodeState.RESTART_OWED: "files in place, restart owed",
    NodeState.PARTLY: "partly changed, every file whole",
    NodeState.INTERRUPTED: "partly changed, every file whole",
    NodeState.UNDER_WAY: "in progress",
    NodeState.UNTOUCHED: "untouched",
}


#: A node of these that an error names is refuted.
_LOOKED_AT = {NodeWord.CHANGED, NodeWord.CORRECT, NodeWord.NOT_SELECTED}


def checked_before_changes(report: Report) -> bool:
    """Whether the findings are from before the rollout: it ended before it verified the cluster again."""
    return kind_of(report.kind, report.run).checked_early(turn.stage for turn in report.turns)


def refuted_nodes(report: Report) -> frozenset[str]:
    """The nodes that an error names: a required statement does not hold because of them."""
    return frozenset(node for finding in report.findings if finding.label == "refuted" for node in finding.nodes)


def node_words(report: Report) -> Mapping[str, NodeWord]:
    """The part of each node, in the order of the report."""
    refuted = frozenset() if checked_before_changes(report) else refuted_nodes(report)
    return {node.node: _word(node, refuted) for node in report.nodes}


def counted_words(report: Report) -> Mapping[NodeWord, int]:
    """The number of nodes by their part, worst first."""
    counts = Counter(node_words(report).values())
    return {word: counts[word] for word in NodeWord if counts[word]}


def nodes_down(report: Report) -> Sequence[str]:
    """The nodes whose service does not run, by the last check of the cluster."""
    refuted = (one for one in report.findings if one.verdict is InvariantState.REFUTED)
    return [node for one in refuted if one.invariant == _SERVICE for node in one.nodes]


def short_state(node: NodeRow, report: Report) -> str:
    """The state of a node in a few words; empty for a run that only reads."""
    if node.state is None:
        return ""
    step = kind_of(report.kind, report.run).steps().get(node.step)
    if node.state is NodeState.INTERRUPTED and step is not None and step.restarts:
        return "files in place, restart owed, the service may be down"
    return _SHORT[node.state]


def _word(node: NodeRow, refuted: frozenset[str]) -> NodeWord:
    word = _without_result(node) if node.status in {Status.SKIPPED, Status.CANCELLED} else _WORDS[node.status]
    if node.state is NodeState.UNDER_WAY and word in _LOOKED_AT:
        return NodeWord.RUNNING
    return NodeWord.REFUTED if node.node in refuted and word in _LOOKED_AT else word


def _without_result(node: NodeRow) -> NodeWord:
    if node.problem.message in {WAITING, NOT_SELECTED}:
        return NodeWord.WAITING if node.problem.message == WAITING else NodeWord.NOT_SELECTED
    return NodeWord.STOPPED if node.state in TOUCHED else NodeWord.NOT_TRIED
