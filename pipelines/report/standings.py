"""How the servers stand now: the nodes with the same part in the run and the same state in one line. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pipelines.report.layout import name_ranges
from pipelines.report.node_words import NodeWord, node_words, short_state
from pipelines.report.rows import NodeRow, Report
from pipelines.run.node_state import NodeState

__all__ = ["Standing", "standings"]

#: What a word means where a run leaves no state behind, because it only reads.
_MEANINGS: Mapping[NodeWord, str] = {
    NodeWord.FAILED: "could not be checked",
    NodeWord.REFUTED: "a required statement does not hold",
    NodeWord.UNREACHABLE: "not reached: its state is unknown",
    NodeWord.STOPPED: "the run ended first",
    NodeWord.NOT_TRIED: "not looked at",
    NodeWord.RUNNING: "in progress",
    NodeWord.WAITING: "waiting for a turn",
    NodeWord.NOT_SELECTED: "looked at, not selected in this run",
    NodeWord.TO_CHANGE: "a rollout has changes to make",
    NodeWord.CHANGED: "changed",
    NodeWord.CORRECT: "no error was found",
}


class Standing(NamedTuple):
    """Nodes in one line. `ranges` are the same nodes for people, `P1..P40, S2`."""

    word: NodeWord
    nodes: tuple[str, ...]
    ranges: str
    text: str


def standings(report: Report, running: Collection[str] = ()) -> Sequence[Standing]:
    """Every node of the cluster in exactly one line, the worst lines first.

    Args:
        report: of the run.
        running: the nodes with a running step, where that is known: they do not wait.
    """
    words, at_work = node_words(report), frozenset(running)
    groups: dict[tuple[NodeWord, str], list[str]] = {}
    for node in report.nodes:
        word = words[node.node]
        if word is NodeWord.WAITING and node.node in at_work:
            word = NodeWord.RUNNING
        groups.setdefault((word, _text(node, word, report)), []).append(node.node)
    found = [Standing(word, tuple(names), name_ranges(names), text) for (word, text), names in groups.items()]
    order = [*NodeWord]
    return sorted(found, key=lambda one: order.index(one.word))


def _text(node: NodeRow, word: NodeWord, report: Report) -> str:
    """The state of a node. What a finished node has become depends on the kind of run: its description says it."""
    if word in {NodeWord.WAITING, NodeWord.RUNNING}:
        return _MEANINGS[word]
    state = node.description if node.state is NodeState.DONE else short_state(node, report)
    return state or _MEANINGS[word]
