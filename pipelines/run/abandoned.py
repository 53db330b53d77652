"""Outcomes for steps that nobody brings to an end: those never begun in a cancelled run, and those that do not end.

The first outcome of a step stands for ever, so whoever comes back late from such a step is told that it has ended: it
records nothing, and it changes nothing more on the node (`tasks.execution.budget`). What it had asked before may
still happen there; the next run claims the node with a higher fence, and from then on the node itself refuses the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.run.snapshot import Snapshot
from tasks.step import CERT_COPY, CLEANUP, CONFIG_EDIT, ROLLBACK, SERVICE_RESTART
from workers.errors import Failure
from workers.records import Status, StepOutcome, Turn, now

__all__ = ["ABANDONED", "CHANGING", "Ending", "end"]

ABANDONED = "abandoned"  #: slug of a step that did not end: somebody may still be in it
CHANGING = frozenset({CONFIG_EDIT, CERT_COPY, SERVICE_RESTART, ROLLBACK, CLEANUP})
_UNFENCED = 2**53  # no claim of a node comes near it: what is recorded here counts against whoever holds the node
_UNKNOWN = "its state is not known: look again with esync verify, then retry this run"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a step ends that does not end by itself."""

    status: Status
    message: str
    given_up: bool = True  #: whether somebody may be in the middle of it
    failure: Failure | None = None

    @classmethod
    def cancelled(cls, why: str) -> "Ending":
        """It had not begun when the run was cancelled."""
        return cls(Status.CANCELLED, f"cancelled: {why}", given_up=False)

    @classmethod
    def too_late(cls, why: str) -> "Ending":
        """It was in the middle of something when the run was cancelled, and did not end in time."""
        return cls(Status.CANCELLED, f"did not end in time after the run was cancelled ({why})")

    @classmethod
    def stuck(cls, bound: float) -> "Ending":
        """It took longer than a step may."""
        message = f"did not end within the deadline of a step, {bound:g} s"
        return cls(Status.FAILED, message, failure=Failure.TIMEOUT)


def end(snapshot: Snapshot, turn: Turn, nodes: Iterable[str], ending: Ending) -> None:
    """Records how the first step without an outcome ended on these nodes, and that the later ones were not tried.

    A step that ends by itself meanwhile has its own outcome, and keeps it.
    """
    ended = {(o.node, o.step) for o in snapshot.outcomes if o.turn == turn.name}
    for node in nodes:
        missing = [step for step in turn.steps if (node, step) not in ended]
        if not missing:
            continue
        first, *later = missing
        stands = snapshot.store.record(_ended(snapshot, turn, node, first, ending), _UNFENCED)
        if not stands.status.ends_node:
            continue  # it has just ended by itself; what comes after it is looked at again
        for step in later:
            status = Status.CANCELLED if stands.status is Status.CANCELLED else Status.SKIPPED
            skipped = Ending(status, f"not tried: {first} {stands.status}", given_up=False)
            snapshot.store.record(_ended(snapshot, turn, node, step, skipped), _UNFENCED)


def _ended(snapshot: Snapshot, turn: Turn, node: str, step: str, ending: Ending) -> StepOutcome:
    at = now()
    return StepOutcome(
        run=snapshot.record.id,
        turn=turn.name,
        node=node,
        step=step,
        status=ending.status,
        slug=ABANDONED if ending.given_up else "",
        failure=ending.failure,
        message=f"{node}: {step} {ending.message}" if ending.given_up else ending.message,
        remedy=_UNKNOWN if ending.given_up else "",
        touched=ending.given_up and step in CHANGING,
        started=at,
        ended=at,
    )
