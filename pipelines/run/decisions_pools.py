"""What comes next for servers that were taken out of their balancer: each is put back, or reported as left out. Pure.

A turn of `undrain` comes before the waves for what earlier runs left out, after each wave, and before a run ends for
whatever reason. By the outcomes and the marks that were there when the run began, not by the marks of this moment: so a
replay of the run decides the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from pipelines.run.snapshot import ABANDONED, UNDRAIN_STAGE, Document, Snapshot, Stop
from tasks.cluster import Cluster
from tasks.documents import BACK
from tasks.ektron.wording import counted, named
from workers.errors import PoolTooSmall
from workers.records import DocumentKind, Record, Status, StepOutcome, Turn, Verdict
from workers.store.documents import document_as

__all__ = [
    "Left",
    "decided_by",
    "has_begun",
    "marks_document",
    "owed",
    "pool_notes",
    "pool_too_small",
    "reported",
    "to_undrain",
]

_DRAIN, _UNDRAIN = "drain", "undrain"  #: names of the steps
_TRIES = 2  #: turns of `undrain` for a node whose server could not be put back for a reason that may have passed


class Left(Record):
    """The servers that earlier runs have left out, by node, each with who did it."""

    nodes: dict[str, str]


def marks_document(snapshot: Snapshot, marks: Mapping[str, str], going_on: Collection[str] = ()) -> Document | None:
    """The document with the servers of this cluster that earlier runs have left out; None if there are none.

    Args:
        snapshot: the run before its first turn.
        marks: place -> mark, of all clusters.
        going_on: runs that are at work: what they have taken out, they put back.
    """
    cluster = snapshot.cluster
    from tasks.marks import place_of, read_marks  # noqa: PLC0415 - read once, before the first turn

    places = {name: place_of(cluster.name, cluster.server(name)) for name in cluster.node_names}
    known = read_marks({name: marks[place] for name, place in places.items() if place in marks})
    left = {name: str(mark) for name, mark in known.items() if mark.run not in going_on}
    return Document(DocumentKind.DRAINED, DocumentKind.DRAINED, Left(nodes=left).to_json()) if left else None


def owed(snapshot: Snapshot) -> dict[str, str]:
    """The nodes that esync has taken out of their balancer, or may have, and not put back; each with who did it."""
    documents = dict(snapshot.read.documents(DocumentKind.DRAINED))
    left = documents.pop(DocumentKind.DRAINED, "")
    known = document_as(Left, left, snapshot.record.id).nodes if left else {}
    out = {node: who for node, who in {**known, **documents}.items() if documents.get(node) != BACK}
    for outcome in sorted(snapshot.outcomes, key=lambda one: one.ended):
        if outcome.step == _DRAIN and (outcome.status is Status.CHANGED or outcome.status.ends_node):
            if outcome.status is Status.CHANGED or _may_be_out(outcome):
                out[outcome.node] = f"run {outcome.run} took {outcome.node} out of the balancer"
        elif outcome.step == _UNDRAIN and not outcome.status.ends_node:
            out.pop(outcome.node, None)
    return out


def _may_be_out(outcome: StepOutcome) -> bool:
    """Whether a `drain` that did not end well may have had its effect; a pool that was too small kept its server."""
    return outcome.status not in {Status.SKIPPED, Status.UNREACHABLE} and outcome.slug != PoolTooSmall.slug


def to_undrain(snapshot: Snapshot) -> Sequence[str]:
    """The nodes that get a turn of their own, because the one in which they were taken out did not put them back.

    One that did not work when it was looked at is left out, and reported: the run has no means to repair it.
    """
    out = owed(snapshot)
    if not out:
        return ()
    planned = snapshot.plan.wave_numbers() if snapshot.plan else {}
    begun, cluster = has_begun(snapshot), snapshot.cluster
    due = (node for node in snapshot.selected if node in out and (begun or node not in planned))
    return [node for node in due if cluster.balancer(node) and _may(snapshot, node)]


def has_begun(snapshot: Snapshot) -> bool:
    """Whether a turn that takes servers out has begun."""
    return any(turn.stage != UNDRAIN_STAGE and _UNDRAIN in turn.steps for turn in snapshot.record.turns)


def _may(snapshot: Snapshot, node: str) -> bool:
    """Whether another attempt may put the server back."""
    tried = [one for one in snapshot.outcomes if one.node == node and one.step == _UNDRAIN]
    last = max(tried, key=lambda one: one.ended, default=None)
    turns = sum(turn.stage == UNDRAIN_STAGE and node in turn.nodes for turn in snapshot.record.turns)
    passing = last is None or last.slug == ABANDONED or last.status in {Status.UNREACHABLE, Status.CANCELLED}
    return passing and turns < _TRIES


def decided_by(snapshot: Snapshot, turn: Turn) -> Turn:
    """The turn whose stage decides what follows: the last one before those of `undrain`."""
    if turn.stage != UNDRAIN_STAGE:
        return turn
    return next(one for one in reversed(snapshot.record.turns) if one.stage != UNDRAIN_STAGE)


def pool_notes(cluster: Cluster, changed: Iterable[str]) -> list[str]:
    """What a plan says about the balancers: of each pool of which servers are changed."""
    pools = dict.fromkeys(cluster.node(node).pool for node in changed)
    return [
        f"each server of pool {pool} is taken out of its balancer ({cluster.balancers[pool].kind}) while it changes, "
        f"and {counted(cluster.floor(pool), 'other server')} or more get requests meanwhile"
        for pool in pools
        if pool in cluster.balancers
    ]


def pool_too_small(snapshot: Snapshot) -> Stop | None:
    """Stops when a server could not be taken out, because too few others of its pool get requests."""
    for node, outcome in snapshot.ended().items():
        if outcome.slug == PoolTooSmall.slug:
            return Stop(Verdict.STOPPED, f"{outcome.message}. {node} was not changed")
    return None


def reported(snapshot: Snapshot, stop: Stop, *, retriable: bool) -> Stop:
    """The end of a run, with the servers that are left out of their balancer.

    Args:
        snapshot: the run.
        stop: its end.
        retriable: whether a retry of it is possible.
    """
    left = list(owed(snapshot))
    if not left:
        return stop
    are, how = ("is", "it") if len(left) == 1 else ("are", "them")
    again = f"esync retry {snapshot.record.id}" if retriable else "esync rollout FILE"
    summary = f"{stop.summary}; {named(left)} {are} left out of the balancer: {again} puts {how} back"
    return replace(stop, summary=summary)
