"""The shape of a report. The JSON of `Report` is what programs read (docs/report-schema.json)."""

from typing import Literal

from pydantic import AwareDatetime, Field

from pipelines.report.layout import name_ranges
from pipelines.run.availability import Availability
from pipelines.run.budget import Budget
from pipelines.run.node_results import NodeResult
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.attestations import Attestation
from tasks.ektron.rules.confirmations import Confirmation
from tasks.ektron.rules.findings import Finding
from workers.errors import Problem
from workers.records import Change, Record, Status

__all__ = [
    "Cause",
    "FindingRow",
    "NodeRow",
    "NodeStateRow",
    "QuestionRow",
    "Report",
    "StepRow",
    "StepTiming",
    "TurnRow",
]


class StepRow(Record):
    """One step of one node in one turn."""

    turn: str
    stage: str
    step: str
    status: Status
    message: str = ""
    problem: Problem | None = None  #: None when the step ended well
    seconds: float
    attempt: int = 1
    round_trips: int = 0
    shells: int = 0


class NodeRow(NodeResult):
    """The result of a run on one node, with every step that led to it."""

    role: str
    pool: str
    host: str
    wave: str = (
        ""  #: the turn that changed the node, `wave-1`, of a rollback `rollback-1`; empty when no wave included it
    )
    steps: tuple[StepRow, ...] = ()
    changes: tuple[Change, ...] = ()
    seconds: float = 0.0  #: total time of the node's steps


class Cause(Record):
    """Nodes with the same problem in the same step; of several nodes the texts are about all of them.

    `about` has what each failed node had reported about itself, by node; in `problem` it is empty.
    """

    status: Status
    step: str
    problem: Problem
    nodes: tuple[str, ...]
    ranges: str  #: the same nodes, consecutive numbers shortened: `P1..P40, S2`
    about: dict[str, str] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """`failed: refused (access_denied)`; each word once."""
        failure, slug = self.problem.failure, self.problem.slug
        kind = f": {failure.value}" if failure and failure.value != self.status.value else ""
        named = f" ({slug})" if slug and slug not in {self.status.value, failure} else ""
        return f"{self.status.value.replace('_', ' ')}{kind}{named}"


class NodeStateRow(Record):
    """Nodes that are in the same state now; of several nodes the description is about all of them."""

    state: NodeState
    description: str
    nodes: tuple[str, ...]
    ranges: str


class FindingRow(Finding):
    """One statement about the whole cluster and its result.

    `label` is what people read: a refuted statement that does not keep the cluster from syncing is a `warning`.
    """

    label: Literal["proven", "refuted", "unknown", "warning"]
    ranges: str  #: the counter-examples for people: `P1..P40`, or `all 4 nodes`


class QuestionRow(Attestation):
    """A question that only a person can answer.

    `confirmed` is the answer on record; it counts (`answered`) until its day, and while the question is the same.
    """

    confirmed: Confirmation | None = None
    answered: bool = False


class TurnRow(Record):
    """One turn, from its first to its last step. `offset` is seconds since the run began."""

    turn: str
    stage: str
    nodes: int
    steps: tuple[str, ...]
    statuses: dict[str, int]  #: status -> number of nodes, by the worst step of each node
    offset: float = 0.0
    seconds: float = 0.0
    slowest: str = ""


class StepTiming(Record):
    """The cost of one kind of step over all nodes and turns. Times are seconds."""

    step: str
    count: int
    median: float
    longest: float
    slowest: str
    round_trips: int
    shells: int


class Report(Record):
    """Everything about one run. `version` is that of this shape; `parent` is the run that it retries or undoes."""

    version: Literal[2] = 2
    run: str
    kind: str
    cluster: str
    edition: str
    origin: str
    state: str
    verdict: str | None
    exit_code: int | None
    summary: str
    who: str
    origin_host: str
    reason: str
    parent: str = ""
    created: AwareDatetime
    ended: AwareDatetime | None
    seconds: float
    plan: str  #: the changes of the plan in one line
    plan_fingerprint: str
    totals: dict[str, int]  #: status -> number of nodes, worst first
    causes: tuple[Cause, ...]
    node_states: tuple[NodeStateRow, ...] = ()  #: the state of each node now, unfinished ones first
    findings: tuple[FindingRow, ...]
    turns: tuple[TurnRow, ...]
    timings: tuple[StepTiming, ...]
    nodes: tuple[NodeRow, ...]
    budget: Budget | None = None  #: how many nodes may still fail; null for a run without waves
    held: str = ""  #: the turn before which the run waits for `esync promote`
    unapproved: bool = False  #: whether it waits there for `esync approve`
    availability: tuple[Availability, ...] = ()  #: how often pages behind balancers answered meanwhile
    attestations: tuple[QuestionRow, ...] = ()  #: checks that only a person can make, those without an answer first

    @property
    def fallback_nodes(self) -> str:
        """The nodes where every request needed its own PowerShell process; empty when there are none."""
        return name_ranges(node.node for node in self.nodes if node.by_batch)

    @property
    def fallback_cost(self) -> str:
        """What that cost, for people."""
        starts = sum(step.shells for node in self.nodes if node.by_batch for step in node.steps)
        return (
            "PowerShell on these nodes reads its input only after the input has ended, so every request needed its "
            f"own process: {starts} starts in this run instead of one per node. This is slower; no action is needed."
        )
