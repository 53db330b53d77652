"""One step of one node on its way to an outcome: what the message named, and what all attempts together have shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.cluster import Cluster
from tasks.execution.logons import NotTried
from tasks.step import APPLYING, Done
from workers.errors import Cancelled, ConnectionLost, EsyncError, Unreachable
from workers.records import RunRecord, Status, StepOutcome, Turn, now
from workers.store.port import Place

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = ["Job", "Tally", "internal"]

_ABOUT = 1000  #: characters kept of what a node reports about itself
_REMEDY = "fix on the server what the message describes, then retry"
#: The outcomes of a step that an error ended; any other error: it failed.
_ENDS: Mapping[type[EsyncError], Status] = {
    Unreachable: Status.UNREACHABLE,
    ConnectionLost: Status.UNREACHABLE,
    Cancelled: Status.CANCELLED,
    NotTried: Status.SKIPPED,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One step of one node, as named by the message."""

    record: RunRecord
    cluster: Cluster
    turn: Turn
    node: str
    step: str
    since: float = 0.0  #: when it began, before it was claimed: seconds of the runner's clock
    claim: int = 0  #: the number of our claim on the node
    before: StepOutcome | None = None  #: the outcome of the step before this one
    flags: Mapping[str, str] | None = None  #: of the run, when the step began
    number: int = 0  #: of the run on the node; 0 when it has none yet
    documents: dict[Place, str | None] = field(default_factory=dict)  #: those that were read when it began
    kept: dict[Place, str] = field(default_factory=dict)  #: those that are stored together with the outcome

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies the outcome in the store."""
        return (self.record.id, self.turn.name, self.node, self.step)

    @property
    def earlier(self) -> str:
        """The step before this one in its turn; empty for the first one."""
        place = self.turn.steps.index(self.step)
        return self.turn.steps[place - 1] if place else ""

    @property
    def outcomes_of_turn(self) -> int:
        """How many outcomes complete the turn; 0 for a step that is not the last one of its node."""
        return len(self.turn.nodes) * len(self.turn.steps) if self.step == self.turn.steps[-1] else 0


@dataclass(slots=True)
class Tally:
    """What a step cost and what was learned about the node, over all attempts.

    Attributes:
        touched: whether an attempt reported that it began to change the node.
        touched_earlier: whether an attempt before the current one did: the current one then finds the work done.
        about: what the node reported about itself.
        way: how the session talks (`conversation` or `batch`).
    """

    job: Job
    worker: str
    started: datetime = field(default_factory=now)
    attempts: int = 1
    round_trips: int = 0
    shells: int = 0
    touched: bool = False
    touched_earlier: bool = False
    about: str = ""
    way: str = ""
    _phase: str = ""

    def recording(self, report_phase: Callable[[str], None]) -> Callable[[str], None]:
        """Wraps `report_phase`: records the phase, and does not pass on one that is reported twice in a row."""

        def record(phase: str) -> None:
            self.touched = self.touched or phase == APPLYING
            if phase != self._phase:
                report_phase(phase)
            self._phase = phase

        return record

    def begin(self, attempt: int) -> None:
        """Counts an attempt, from 1."""
        self.attempts, self.touched_earlier = attempt, self.touched

    def add(self, session: "Session", base: tuple[int, int]) -> None:
        """Adds what an attempt cost beyond `base` (round trips, shells), and what the node reported about itself."""
        after = session.counters
        self.round_trips += after.round_trips - base[0]
        self.shells += after.shells - base[1]
        self.way = session.way if session.way != "auto" else self.way
        self.about = str(session.greeting or self.about)[:_ABOUT]

    def outcome(self, status: Status, message: str = "") -> StepOutcome:
        """The outcome of a step that did not fail."""
        return StepOutcome(
            run=self.job.record.id,
            turn=self.job.turn.name,
            node=self.job.node,
            step=self.job.step,
            status=status,
            message=message,
            started=self.started,
            ended=now(),
            attempt=self.attempts,
            worker=self.worker,
            round_trips=self.round_trips,
            shells=self.shells,
            way=self.way,
        )

    def succeeded(self, done: Done) -> StepOutcome:
        """The outcome of a step that returned: changed, unchanged, or failed with something to show."""
        if done.failed is not None:
            return self.failed(done.failed).model_copy(update={"changes": done.changes})
        besides = (
            "; an earlier attempt had changed this node before its connection broke" if self.touched_earlier else ""
        )
        status = Status.CHANGED if done.changes or self.touched_earlier else Status.UNCHANGED
        return self.outcome(status, done.message + besides).model_copy(update={"changes": done.changes})

    def failed(self, error: EsyncError) -> StepOutcome:
        """The outcome of a step that this error ended."""
        return self.outcome(_ENDS.get(type(error), Status.FAILED)).model_copy(
            update={
                **dict(error.problem),
                "remedy": error.remedy or (_REMEDY if error.failure else ""),
                "touched": self.touched,
                "about": self.about if error.failure else "",
            }
        )


def internal(error: Exception, step: str) -> EsyncError:
    """The error for operators when a step raises what no step should."""
    if isinstance(error, MemoryError):
        return EsyncError(
            f"the worker ran out of memory in {step}; nothing is wrong with the server",
            remedy="give the worker more memory, or lower ESYNC_CONCURRENCY",
        )
    return EsyncError(f"internal error in {step}: {type(error).__name__}", remedy="see the worker's log")
