"""The state of a node after or during a run: from its outcomes, the plan and the last observation. Pure.

A node is never half-written: each file is the old one or the new one. An operator has to know which steps took effect,
and whether the service still runs with the configuration it read earlier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.run.plan import NodePlan
from tasks.ektron.wording import owed
from tasks.step_values import Step
from workers.records import Status, StepOutcome

__all__ = ["NODE_STATES", "DescribedState", "NodeState", "node_state"]

_DONE = {Status.CHANGED, Status.UNCHANGED}


class NodeState(StrEnum):
    """The state of a node, as far as it results from one run."""

    RIGHT = "right"  #: nothing had to change
    DONE = "done"  #: everything that had to change has changed
    RESTART_OWED = "restart_owed"  #: every file is in place; the service runs with an earlier configuration
    PARTLY = "partly"  #: some changes are done, others are not
    INTERRUPTED = "interrupted"  #: a step ended while it was changing the node
    UNDER_WAY = "under_way"  #: a step is running or waiting
    UNTOUCHED = "untouched"  #: the run changed nothing there

    @classmethod
    def _missing_(cls, value: object) -> "NodeState | None":
        """Reads the name that an older version wrote."""
        return cls.INTERRUPTED if value == "broken_off" else None


#: In the order in which an operator has to see them.
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
    """The state of a node, and a sentence about it for people."""

    state: NodeState
    sentence: str


def node_state(
    steps: Sequence[Step],
    outcomes: Mapping[str, StepOutcome],
    *,
    needed: NodePlan | None = None,
    missing: NodePlan | None = None,
) -> DescribedState:
    """The state of a node.

    Args:
        steps: those of the node's turn that change it, in their order; none when it had no such turn.
        outcomes: of those steps, by name; a step without one may be running.
        needed: the node's part of the plan, if there is one.
        missing: what was still missing when the node was last observed, if it was. It overrides everything else.
    """
    changed = any(outcome.status is Status.CHANGED for outcome in outcomes.values())
    begun = any(outcome.touched for outcome in outcomes.values())
    if missing is not None:
        return _as_observed(missing, changed=changed or (begun and not _all_of(needed, missing)))
    interrupted = next((step for step in steps if step.name in outcomes and outcomes[step.name].touched), None)
    if interrupted is not None:
        return _interrupted(interrupted)
    left = [step for step in steps if step.name not in outcomes or outcomes[step.name].status not in _DONE]
    waiting = [step.name for step in left if step.name not in outcomes]
    if waiting:
        return DescribedState(NodeState.UNDER_WAY, f"in progress: {waiting[0]} is running or waiting")
    if not (changed or begun):
        return _unchanged(needed, seen=bool(steps) and not left)
    return _changed(steps, left, needed)


def _as_observed(missing: NodePlan, *, changed: bool) -> DescribedState:
    """An observation of the node is better evidence than the outcomes of its steps."""
    if missing.empty and changed:
        return DescribedState(NodeState.DONE, "done: verified afterwards, nothing is missing")
    if missing.empty:
        return DescribedState(NodeState.RIGHT, "correct: verified afterwards, nothing is missing")
    if not missing.changes:
        return DescribedState(NodeState.RESTART_OWED, f"every file is in place; {owed(missing.restart)}")
    if not changed:
        return DescribedState(NodeState.UNTOUCHED, "untouched: this run changed nothing here")
    count = "1 change is" if len(missing.changes) == 1 else f"{len(missing.changes)} changes are"
    first = missing.changes[0]
    return DescribedState(
        NodeState.PARTLY,
        f"partly changed, every file intact: {count} still missing, the first is {first.what} in {first.file}",
    )


def _all_of(needed: NodePlan | None, missing: NodePlan) -> bool:
    """Whether everything planned is still missing: the step was refused its first file."""
    return needed is not None and (needed.changes, needed.files) == (missing.changes, missing.files)


def _interrupted(step: Step) -> DescribedState:
    if step.restarts:
        sentence = "every file is in place; the service may be stopped; restart owed"
        return DescribedState(NodeState.INTERRUPTED, f"interrupted during {step.name}: {sentence}")
    sentence = "some of its changes may be done; every file is intact, either the old one or the new one"
    return DescribedState(NodeState.INTERRUPTED, f"interrupted during {step.name}: {sentence}")


def _unchanged(needed: NodePlan | None, *, seen: bool) -> DescribedState:
    if seen or (needed is not None and needed.empty):
        return DescribedState(NodeState.RIGHT, "correct: nothing had to change")
    restart = needed.restart if needed is not None and not needed.changes else ""
    besides = f"; {owed(restart, ' since before this run')}" if restart else ""
    return DescribedState(NodeState.UNTOUCHED, f"untouched: this run changed nothing here{besides}")


def _changed(steps: Sequence[Step], left: Sequence[Step], needed: NodePlan | None) -> DescribedState:
    only_restart = bool(left) and all(step.restarts for step in left)
    if not left or (only_restart and needed is not None and not needed.restart):
        return DescribedState(NodeState.DONE, steps[-1].completed)
    if only_restart:
        return DescribedState(
            NodeState.RESTART_OWED,
            "every file is in place; restart owed: the service runs with an earlier configuration",
        )
    done = [step for step in steps if step not in left]
    return DescribedState(
        NodeState.PARTLY, f"partly changed, every file intact: {_listed(done)} done, {_listed(left)} not done"
    )


def _listed(steps: Sequence[Step]) -> str:
    return f"{' and '.join(step.name for step in steps)} {'is' if len(steps) == 1 else 'are'}"
