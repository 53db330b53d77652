"""The gate of a proof whose first sync has failed: a person repairs search, then the sync is proven once more. Pure."""

from collections import Counter
from collections.abc import Sequence

from pipelines.run.snapshot import RETRY, Document, Snapshot
from pipelines.run.sync_view import EXAMINE, SyncView, can_be_asked
from workers.records import DocumentKind, Turn

__all__ = ["NOT_REPAIRED", "gate_bound", "repair_of", "to_repair", "waits_for_repair"]

_GATE = "gate"
#: What is kept when the gate has closed without a person: the run ends then as it would without a gate.
NOT_REPAIRED = Document(DocumentKind.SYNC, _GATE, '"not repaired"')


def to_repair(snapshot: Snapshot) -> Sequence[str]:
    """Every server that can be asked, once, if a person may repair search (procedure, last note; failure table row 37).

    It reads no findings: a replay of the run makes those again from the newest facts, and must decide the same.
    """
    view = SyncView(snapshot)
    if not view.asked.repair or not view.had(EXAMINE) or snapshot.in_stage(RETRY) or _is_closed(snapshot):
        return []
    nodes = can_be_asked(snapshot)
    return nodes if view.asked.node in nodes and _first_has_failed(view) and _lacking(view) else []


def waits_for_repair(snapshot: Snapshot, following: Turn) -> bool:
    """Whether the run waits for a person before that turn, which proves again."""
    repaired = following.stage == RETRY and SyncView(snapshot).asked.repair
    return repaired and snapshot.steering.promoted != following.name


def gate_bound(snapshot: Snapshot) -> float | None:
    """Seconds that the gate stays open at most; None if the run is not at this gate."""
    turn = snapshot.record.turn
    at_gate = SyncView(snapshot).asked.repair and turn is not None and turn.stage == EXAMINE
    return snapshot.cluster.sync.begins if at_gate else None


def repair_of(snapshot: Snapshot) -> str:
    """What the person has to do: tool, screen, value and servers, and how the run continues."""
    from tasks.ektron.sync.search import search_config  # noqa: PLC0415 - few runs come to this gate

    cluster = snapshot.cluster
    what = search_config(cluster.edition, cluster.site.path, _lacking(SyncView(snapshot)))
    return f"the sync has failed; {what}, within {cluster.sync.begins:g} s: esync promote {snapshot.record.id}"


def _is_closed(snapshot: Snapshot) -> bool:
    return _GATE in snapshot.read.documents(DocumentKind.SYNC)


def _first_has_failed(view: SyncView) -> bool:
    """Whether the sync has failed, and none of its profile is known to have succeeded before."""
    from tasks.ektron.sync.progress import SyncState  # noqa: PLC0415 - what shows other runs needs nothing of a sync

    followed, site = view.files.get(view.asked.node), view.sites.get(view.asked.node)
    watched = followed.watched if followed else None
    if view.begun is None or watched is None or watched.state not in {SyncState.FAILED, SyncState.LOST}:
        return False
    earlier = [one for one in site.last if one.profile == view.begun.name] if site else []
    return not any(one.complete and one.success for one in earlier)


def _lacking(view: SyncView) -> list[str]:
    """The load-balanced servers that lack the file."""
    nodes = view.snapshot.cluster.nodes
    sizes = Counter(node.pool for node in nodes)
    return [node.name for node in nodes if sizes[node.pool] > 1 and node.name not in view.arrived]
