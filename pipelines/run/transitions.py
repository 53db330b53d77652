"""What follows a turn. Pure, so that the coordinator, the reconciler and an offline check get the same result."""

from dataclasses import dataclass, replace

from pipelines.run import decisions
from pipelines.run.kinds import Kind
from pipelines.run.snapshot import Document, Go, Snapshot, Stop
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
    return _following(kind, snapshot, ())


def after(kind: Kind, snapshot: Snapshot, turn: Turn) -> Next | Stop:
    """What follows a turn after all its nodes have their outcomes: the next turn, or the verdict."""
    decision = decisions.cancelled(snapshot) or kind.stage_of(turn).then(snapshot)
    if isinstance(decision, Stop):
        return decision
    return _following(kind, snapshot.after(decision, joined=turn.name), decision.documents)


def _following(kind: Kind, snapshot: Snapshot, documents: tuple[Document, ...]) -> Next | Stop:
    """The next turn. A stage that never had a node decides too: the run may end there, or get its plan."""
    turns, current = snapshot.record.turns, snapshot.record.turn
    position = kind.stages.index(kind.stage_of(current)) if current else 0
    for stage in kind.stages[position:]:
        nodes = stage.nodes(snapshot)
        number = 1 + sum(1 for turn in turns if turn.stage == stage.name)
        if nodes:
            return Next(stage.turn(nodes, number), snapshot, documents)
        decision = stage.then(snapshot) if number == 1 else Go()
        documents = (*documents, *decision.documents)
        if isinstance(decision, Stop):
            return replace(decision, documents=documents)
        snapshot = snapshot.after(decision)
    raise AssertionError(f"the last stage of a {kind.name} did not decide to stop")
