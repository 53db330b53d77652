"""What follows a turn. Pure, so that the coordinator, the reconciler and an offline check get the same result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.run import decisions
from pipelines.run.decisions_pools import decided_by, has_begun, reported, to_undrain
from pipelines.run.kinds import Kind, Stage
from pipelines.run.snapshot import UNDRAIN_STAGE, Document, Go, Snapshot, Stop
from workers.records import Turn

__all__ = ["Next", "after", "first"]


@dataclass(frozen=True, slots=True)
class Next:
    """The run continues with a turn.

    Attributes:
        snapshot: the run as it is before that turn, including a plan that was just made.
        documents: to be saved first.
    """

    turn: Turn
    snapshot: Snapshot
    documents: tuple[Document, ...] = ()


def first(kind: Kind, snapshot: Snapshot) -> Next | Stop:
    """The first turn of a run; or the verdict, if no stage has a node."""
    return _with_report(kind, _following(kind, snapshot, ()), snapshot)


def after(kind: Kind, snapshot: Snapshot, turn: Turn) -> Next | Stop:
    """What follows a turn after all its nodes have their outcomes: the next turn, or the verdict.

    Before a run ends, what it has left gets a turn: first the stages that always come, then the servers that are left
    out of their balancer. Then the decision of the turn before is made again: it reads nothing that such a turn
    changes for the better.
    """
    stage = kind.stage_of(decided_by(snapshot, turn))
    decision = (None if stage.always else decisions.cancelled(snapshot)) or _decided(kind, snapshot, turn)
    if isinstance(decision, Stop):
        return _owed(kind, snapshot, turn, decision) or _put_back(kind, snapshot, turn, decision)
    followed = _following(kind, snapshot.after(decision, joined=turn.name), decision.documents)
    if isinstance(followed, Stop):
        return _owed(kind, snapshot, turn, followed) or _with_report(kind, followed, snapshot)
    return followed


def _owed(kind: Kind, snapshot: Snapshot, turn: Turn, stop: Stop) -> Next | None:
    """The turn of a stage that always comes, and decides then how the run ends; None if no node needs it any more."""
    if kind.stage_of(decided_by(snapshot, turn)).always:
        return None
    ended = snapshot.after(Go(), joined=turn.name)
    for stage in kind.stages:
        if stage.always and (nodes := stage.nodes(ended)):
            return Next(_turn(stage, nodes, ended), ended, stop.documents)
    return None


def _put_back(kind: Kind, snapshot: Snapshot, turn: Turn, stop: Stop) -> Next | Stop:
    stage, nodes = kind.stage(UNDRAIN_STAGE), to_undrain(snapshot) if has_begun(snapshot) else ()
    if stage is None or not nodes:
        return _with_report(kind, stop, snapshot)
    return Next(_turn(stage, nodes, snapshot), snapshot.after(Go(), joined=turn.name))


def _decided(kind: Kind, snapshot: Snapshot, turn: Turn) -> Go | Stop:
    """The decision of the turn's stage; after a turn of `undrain` that of the turn before, if nodes were changed."""
    if turn.stage == UNDRAIN_STAGE and not has_begun(snapshot):
        return Go()
    return kind.stage_of(decided_by(snapshot, turn)).then(snapshot)


def _with_report(kind: Kind, decision: Next | Stop, snapshot: Snapshot) -> Next | Stop:
    return reported(snapshot, decision, retriable=not kind.retry) if isinstance(decision, Stop) else decision


def _turn(stage: Stage, nodes: Sequence[str], snapshot: Snapshot) -> Turn:
    number = 1 + sum(turn.stage == stage.name for turn in snapshot.record.turns)
    known = stage.known is not None and stage.known(snapshot)
    return stage.turn(nodes, number, snapshot.cluster, known=known)


def _following(kind: Kind, snapshot: Snapshot, documents: tuple[Document, ...]) -> Next | Stop:
    """The next turn. A stage that never had a node decides too: the run may end there, or get its plan."""
    turns, current = snapshot.record.turns, snapshot.record.turn
    for stage in kind.stages_after(current) if current else kind.stages:
        nodes = stage.nodes(snapshot)
        if nodes:
            return Next(_turn(stage, nodes, snapshot), snapshot, documents)
        is_new = not any(turn.stage == stage.name for turn in turns)
        decision = stage.then(snapshot) if is_new and not stage.follows else Go()
        documents = (*documents, *decision.documents)
        if isinstance(decision, Stop):
            return replace(decision, documents=documents)
        snapshot = snapshot.after(decision)
    raise AssertionError(f"the last stage of a {kind.name} did not decide to stop")
