"""Outcomes for steps that do not end by themselves: not started in a cancelled run, or hanging.

The first outcome of a step is final. A worker that returns late from such a step records nothing and changes nothing
more on the node (`tasks.execution.budget`). A request that it has already sent may still take effect; the next run
claims the node with a higher fence, and from then on the node itself refuses such requests.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.run.snapshot import ABANDONED, Snapshot
from tasks.step_values import Step
from workers.errors import Failure
from workers.records import Status, StepOutcome, Turn, now

__all__ = ["Ending", "missing_steps", "outcome_of"]

_UNKNOWN = "its state is unknown: check it with esync verify, then retry"


@dataclass(frozen=True, slots=True)
class Ending:
    """The outcome of such a step, without its names and times."""

    status: Status
    message: str
    given_up: bool = True  #: whether a worker may still be in it
    failure: Failure | None = None

    @classmethod
    def cancelled(cls, why: str) -> "Ending":
        """The step had not begun when the run was cancelled."""
        return cls(Status.CANCELLED, f"cancelled: {why}", given_up=False)

    @classmethod
    def too_late(cls, why: str) -> "Ending":
        """The step was running when the run was cancelled, and did not end in time."""
        return cls(Status.CANCELLED, f"did not end in time after the run was cancelled ({why})")

    @classmethod
    def not_tried(cls, earlier: StepOutcome) -> "Ending":
        """An earlier step of the turn ended the node."""
        status = Status.CANCELLED if earlier.status is Status.CANCELLED else Status.SKIPPED
        return cls(status, f"not tried: {earlier.step} {earlier.status}", given_up=False)

    @classmethod
    def stuck(cls, bound: float) -> "Ending":
        """The step exceeded its deadline."""
        message = f"exceeded the deadline of a step ({bound:g} s)"
        return cls(Status.FAILED, message, failure=Failure.TIMEOUT)


def missing_steps(snapshot: Snapshot, turn: Turn, nodes: Iterable[str]) -> dict[str, list[str]]:
    """The steps of a turn without an outcome, per node, in their order; nodes that have all are left out."""
    ended = {(o.node, o.step) for o in snapshot.outcomes if o.turn == turn.name}
    missing = {node: [step for step in turn.steps if (node, step) not in ended] for node in nodes}
    return {node: steps for node, steps in missing.items() if steps}


def outcome_of(snapshot: Snapshot, turn: Turn, node: str, step: Step, ending: Ending) -> StepOutcome:
    """The outcome to record for a step that ended in that way."""
    at = now()
    return StepOutcome(
        run=snapshot.record.id,
        turn=turn.name,
        node=node,
        step=step.name,
        status=ending.status,
        slug=ABANDONED if ending.given_up else "",
        failure=ending.failure,
        message=f"{node}: {step.name} {ending.message}" if ending.given_up else ending.message,
        remedy=_UNKNOWN if ending.given_up else "",
        touched=ending.given_up and step.changes,
        started=at,
        ended=at,
    )
