"""What is true of a node now, whatever became of the run: from its outcomes, the plan and the last look at it. Pure.

A node is never half-written: each file is the old one or the new one. What an operator has to know is which of the
steps came to be, and whether the service still runs with what it read before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.run.plan import NodePlan
from tasks.step import CLEANUP, ROLLBACK, SERVICE_RESTART
from workers.records import Status, StepOutcome

__all__ = ["NODE_STATES", "DescribedState", "NodeState", "stand"]

_DONE = {Status.CHANGED, Status.UNCHANGED}
_IN_PLACE = {ROLLBACK: "restored: as before the run", CLEANUP: "clean: what had to go is gone"}


class NodeState(StrEnum):
    """How a node stands, as far as one run is concerned."""

    RIGHT = "right"  #: nothing had to be changed
    DONE = "done"  #: everything that had to be changed is
    RESTART_OWED = "restart_owed"  #: every file is in place; the service runs with what it read before
    PARTLY = "partly"  #: some of it is done, the rest is not
    INTERRUPTED = "interrupted"  #: a step ended while it changed the node
    UNDER_WAY = "under_way"  #: a step runs, or waits for its turn
    UNTOUCHED = "untouched"  #: the run changed nothing there

    @classmethod
    def _missing_(cls, value: object) -> "NodeState | None":
        """Reads the name that an older version wrote."""
        return cls.INTERRUPTED if value == "broken_off" else None


#: What an operator has to see first comes first.
NODE_STATES = (
    NodeState.INTERRUPTED,
    NodeState.PARTLY,
    NodeState.RESTART_OWED,
    NodeState.UNDER_WAY,
    NodeState.UNTOUCHED,
    NodeState.DONE,
    NodeState.RIGHT,
)


@dataclass(frozen=True, slots=True)
class DescribedState:
    """How a node stands, and the same as a sentence for people."""

    state: NodeState
    sentence: str


def stand(
    steps: Sequence[str],
    outcomes: Mapping[str, StepOutcome],
    *,
    needed: NodePlan | None = None,
    missing: NodePlan | None = None,
) -> DescribedState:
    """What is true of a node.

    Args:
        steps: those of the node's turn that change it, in their order; none when it had no such turn.
        outcomes: what came of them, by step; a step that has none may be running.
        needed: what the plan wanted there, when there was one.
        missing: what a look at the node after all steps says is still to do, when there was one. It beats everything.
    """
    said = any(outcome.status is Status.CHANGED for outcome in outcomes.values())
    begun = any(outcome.touched for outcome in outcomes.values())
    if missing is not None:
        return _as_seen(missing, changed=said or (begun and not _all_of(needed, missing)))
    broken = next((step for step in steps if step in outcomes and outcomes[step].touched), "")
    if broken:
        return _interrupted(broken)
    left = [step for step in steps if step not in outcomes or outcomes[step].status not in _DONE]
    waiting = [step for step in left if step not in outcomes]
    if waiting:
        return DescribedState(NodeState.UNDER_WAY, f"under way: {waiting[0]} runs, or waits for its turn")
    if not (said or begun):
        return _unchanged(needed, seen=bool(steps) and not left)
    return _changed(steps, left, needed)


def _as_seen(missing: NodePlan, *, changed: bool) -> DescribedState:
    """A look after all steps knows better than what they said."""
    if missing.empty and changed:
        return DescribedState(NodeState.DONE, "done: looked at afterwards, nothing is missing")
    if missing.empty:
        return DescribedState(NodeState.RIGHT, "as it should be: looked at afterwards, nothing is missing")
    if not missing.changes:
        return DescribedState(NodeState.RESTART_OWED, f"every file is in place, a restart is owed: {missing.restart}")
    if not changed:
        return DescribedState(NodeState.UNTOUCHED, "untouched: this run changed nothing here")
    count = "one thing is" if len(missing.changes) == 1 else f"{len(missing.changes)} things are"
    first = missing.changes[0]
    return DescribedState(
        NodeState.PARTLY,
        f"partly changed, every file whole: {count} still missing, the first is {first.what} in {first.file}",
    )


def _all_of(needed: NodePlan | None, missing: NodePlan) -> bool:
    """Whether nothing of what was wanted is there: a step that began was refused the very first file."""
    return needed is not None and (needed.changes, needed.files) == (missing.changes, missing.files)


def _interrupted(step: str) -> DescribedState:
    if step == SERVICE_RESTART:
        sentence = "every file is in place; the service may have been stopped or not come up, its restart stays owed"
        return DescribedState(NodeState.INTERRUPTED, f"interrupted during {step}: {sentence}")
    sentence = "some of what it changes may be changed; every file is whole, the old one or the new one"
    return DescribedState(NodeState.INTERRUPTED, f"interrupted during {step}: {sentence}")


def _unchanged(needed: NodePlan | None, *, seen: bool) -> DescribedState:
    if seen or (needed is not None and needed.empty):
        return DescribedState(NodeState.RIGHT, "as it should be: nothing had to be changed")
    owed = needed is not None and needed.restart and not needed.changes
    besides = f"; a restart was owed before and still is: {needed.restart}" if owed and needed else ""
    return DescribedState(NodeState.UNTOUCHED, f"untouched: this run changed nothing here{besides}")


def _changed(steps: Sequence[str], left: Sequence[str], needed: NodePlan | None) -> DescribedState:
    restarts = needed is None or bool(needed.restart)
    if not left or (list(left) == [SERVICE_RESTART] and not restarts):
        return DescribedState(NodeState.DONE, _IN_PLACE.get(steps[-1], "done: everything the plan asked for"))
    if list(left) == [SERVICE_RESTART]:
        return DescribedState(
            NodeState.RESTART_OWED,
            "every file is in place, the restart is owed: the service runs with what it read before",
        )
    done = [step for step in steps if step not in left]
    return DescribedState(
        NodeState.PARTLY, f"partly changed, every file whole: {_those(done)} done, {_those(left)} not done"
    )


def _those(steps: Sequence[str]) -> str:
    return f"{' and '.join(steps)} {'is' if len(steps) == 1 else 'are'}"
