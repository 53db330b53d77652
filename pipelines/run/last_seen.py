"""Whether the service of a node worked when a run last saw it: what a rollback knows of nodes that it leaves alone."""

from pipelines.run.kinds import Kind
from pipelines.run.snapshot import ABANDONED, Snapshot
from workers.records import DocumentKind, Status

__all__ = ["seen_working"]


def seen_working(snapshot: Snapshot, kind: Kind) -> dict[str, bool]:
    """Node -> whether its service ran when that run last saw it, or changed it; without nodes that it did not see.

    A node that did not answer at the end is down, and so is one that the run stopped and does not know to work again.

    Args:
        snapshot: of a run that has ended.
        kind: of the run.
    """
    documents, ended = snapshot.documents, snapshot.ended()
    first, last = documents.all_facts(DocumentKind.OBSERVED), documents.all_facts(DocumentKind.VERIFIED)
    changed = {node for turn in kind.changing_turns(snapshot.record) for node in turn.nodes}
    fallen = {node for node, end in ended.items() if end.touched or end.slug == ABANDONED}
    found: dict[str, bool] = {}
    for node in snapshot.cluster.node_names:
        end, facts = ended.get(node), last.get(node) or first.get(node)
        if (end is not None and end.status is Status.UNREACHABLE) or (node in fallen and node not in last):
            found[node] = False
        elif node in changed and node not in last and end is None:
            found[node] = True
        elif facts is not None:
            found[node] = facts.service.state == "running"
    return found
