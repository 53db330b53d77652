"""The part of each node in a run, as people read it: finer than its status, which is the same in every version of JSON.

A node that was only looked at is `unchanged` for programs. For people it is correct, or refuted: named by an error.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from pipelines.report.rows import NodeRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_results import NOT_SELECTED, WAITING
from pipelines.run.node_state import NodeState
from workers.records import Status

__all__ = ["TOUCHED", "NodeWord", "checked_before_changes", "counted_words", "node_words", "refuted_nodes"]

#: States of a node to which the run did something.
TOUCHED = frozenset({NodeState.INTERRUPTED, NodeState.PARTLY, NodeState.RESTART_OWED, NodeState.DONE})


class NodeWord(StrEnum):
    """The part of a node in a run, worst first."""

    FAILED = "failed"
    REFUTED = "refuted"  #: an error of the cluster names it
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"  #: the run was cancelled while it changed the node
    NOT_TRIED = "not tried"
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


def _word(node: NodeRow, refuted: frozenset[str]) -> NodeWord:
    if node.status in {Status.SKIPPED, Status.CANCELLED}:
        return _without_result(node)
    word = _WORDS[node.status]
    return NodeWord.REFUTED if node.node in refuted and word in {NodeWord.CHANGED, NodeWord.CORRECT} else word


def _without_result(node: NodeRow) -> NodeWord:
    if node.problem.message in {WAITING, NOT_SELECTED}:
        return NodeWord.WAITING if node.problem.message == WAITING else NodeWord.NOT_SELECTED
    return NodeWord.STOPPED if node.state in TOUCHED else NodeWord.NOT_TRIED
