"""What the page of a cluster shows: its servers by pool, as the newest run that looked at them has found them. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.report.node_words import NodeWord, node_words
from pipelines.report.rows import Report
from pipelines.web.pages.grid import MANY, Mark
from pipelines.web.pages.run_view import mark_of, to_do
from tasks.cluster import Cluster
from workers.records import Verdict

__all__ = ["cluster_values"]

_MOST = 8  #: problems that the page shows
_UNKNOWN = Mark("waiting", "?", "not looked at")


class _Server(NamedTuple):
    name: str
    host: str
    mark: Mark


class _Pool(NamedTuple):
    name: str
    role: str
    nodes: Sequence[_Server]

    @property
    def counts(self) -> Sequence[tuple[Mark, int]]:
        return Counter(node.mark for node in self.nodes).most_common()


def cluster_values(cluster: Cluster, report: Report | None) -> dict[str, Any]:
    """The servers, and what is not right.

    Args:
        cluster: as its file has it now.
        report: of the newest run that says something about it.
    """
    shown = to_do(report) if report else ()
    return {
        "pools": _pools(cluster, _marks(report) if report else {}),
        "many": len(cluster.nodes) > MANY,
        "run": report.run if report else "",
        "problems": shown[:_MOST],
        "more": len(shown[_MOST:]),
        "warnings": [finding for finding in report.findings if finding.label == "warning"] if report else (),
    }


def _marks(report: Report) -> Mapping[str, Mark]:
    """How the servers look; those that a run has changed are correct when it has proven the cluster."""
    proven = {NodeWord.CHANGED: NodeWord.CORRECT} if report.verdict == Verdict.JOINED else {}
    return {node: mark_of(proven.get(word, word)) for node, word in node_words(report).items()}


def _pools(cluster: Cluster, words: Mapping[str, Mark]) -> Sequence[_Pool]:
    pools: dict[tuple[str, str], list[_Server]] = {}
    for node in cluster.nodes:
        server = _Server(node.name, node.host, words.get(node.name, _UNKNOWN))
        pools.setdefault((node.pool, node.role.value), []).append(server)
    return [_Pool(name, role, servers) for (name, role), servers in pools.items()]
