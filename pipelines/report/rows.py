"""The shapes of a report: what it is made from, and the rows it consists of.

The JSON of `Report` is what programs read (docs/report-schema.json).
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import AwareDatetime, Field

from pipelines.run.node_state import NodeState
from tasks.cluster import Cluster
from tasks.ektron.rules.attestations import Attestation
from tasks.ektron.rules.findings import Findings
from workers.errors import Failure
from workers.records import Change, Record, RunRecord, Status, StepOutcome

__all__ = [
    "Cause",
    "FindingRow",
    "NodeRow",
    "Planned",
    "Report",
    "Result",
    "StandRow",
    "StepRow",
    "StepTiming",
    "Summary",
    "TurnRow",
]


class Planned(Protocol):
    """What a report says about a plan."""

    @property
    def totals(self) -> str:
        """One line for people."""


class Result(Protocol):
    """What a run came to on one node."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def status(self) -> Status:
        """How it came out."""

    @property
    def slug(self) -> str:
        """Of the error that ended it."""

    @property
    def failure(self) -> Failure | None:
        """The class of that error."""

    @property
    def reason(self) -> str:
        """What that error said."""

    @property
    def file(self) -> str:
        """The file concerned."""

    @property
    def remedy(self) -> str:
        """What to do about it."""

    @property
    def step(self) -> str:
        """The step that ended it."""

    @property
    def about(self) -> str:
        """What the node had said of itself when it failed."""

    @property
    def by_batch(self) -> bool:
        """Whether PowerShell there had to be started for every request."""

    @property
    def standing(self) -> NodeState | None:
        """What is true of the node now; None of a run that only looks."""

    @property
    def now(self) -> str:
        """The same in a sentence."""


class Summary(Protocol):
    """Everything there is to know about a run (`commands.RunSummary`)."""

    @property
    def record(self) -> RunRecord:
        """The run."""

    @property
    def cluster(self) -> Cluster:
        """What it works on."""

    @property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """All so far."""

    @property
    def findings(self) -> Findings | None:
        """About the cluster, once it was looked at."""

    @property
    def plan(self) -> Planned | None:
        """Once it is made."""

    @property
    def nodes(self) -> Sequence[Result]:
        """One for each node of the cluster."""


class StepRow(Record):
    """One step of one node in one turn."""

    turn: str
    stage: str
    step: str
    status: Status
    slug: str = ""
    failure: Failure | None = None  #: the class of the error; None unless it failed
    message: str = ""
    seconds: float
    attempt: int = 1
    round_trips: int = 0
    shells: int = 0


class NodeRow(Record):
    """One node: what the run came to there, and every step on the way.

    `failure` is the class of what ended it. `about` is what the node had said of itself when it failed: PowerShell,
    .NET, administrator or not, code page, free space, WinRM's quotas. `by_batch`: PowerShell there had to be started
    for every request. `standing` is what is true of the node now, and `now` the same in a sentence; a run that only
    looks has neither.
    """

    node: str
    role: str
    pool: str
    host: str
    wave: str = ""  #: the turn that changed it, `wave-1`; empty when it was in none
    status: Status
    slug: str = ""
    failure: Failure | None = None
    reason: str = ""
    file: str = ""
    remedy: str = ""
    steps: tuple[StepRow, ...] = ()
    changes: tuple[Change, ...] = ()
    seconds: float = 0.0  #: in steps
    about: str = ""
    by_batch: bool = False
    standing: NodeState | None = None
    now: str = ""


class Cause(Record):
    """Nodes that came to the same end for the same reason; `<node>` stands for each one's own name.

    `about` is what those of them that failed had said of themselves, by node.
    """

    status: Status
    slug: str
    failure: Failure | None
    step: str
    message: str
    remedy: str
    file: str
    nodes: tuple[str, ...]
    ranges: str  #: the same nodes, runs of numbers shortened: `P1..P40, S2`
    about: dict[str, str] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """`failed: refused (access_denied)`; each word once."""
        kind = f": {self.failure.value}" if self.failure and self.failure.value != self.status.value else ""
        slug = f" ({self.slug})" if self.slug and self.slug not in {self.status.value, self.failure} else ""
        return f"{self.status.value.replace('_', ' ')}{kind}{slug}"


class StandRow(Record):
    """Nodes of which the same is true now; `<node>` stands for each one's own name."""

    standing: NodeState
    now: str
    nodes: tuple[str, ...]
    ranges: str


class FindingRow(Record):
    """One statement about the whole cluster and how it came out; `nodes` are the counter-examples.

    `label` is what people read: a refuted statement that does not keep the cluster from syncing is a `warning`.
    """

    label: Literal["proven", "refuted", "unknown", "warning"]
    invariant: str
    statement: str
    verdict: Literal["proven", "refuted", "unknown"]
    severity: Literal["error", "warning"]
    evidence: str
    remedy: str
    nodes: tuple[str, ...]
    ranges: str  #: the same, for people: `P1..P40`, or `all 4 nodes`
    reasons: dict[str, str] = Field(default_factory=dict)  #: node -> why it is one of them, never shortened
    source: str = ""  #: where the statement comes from


class TurnRow(Record):
    """One turn. Times are those of its first and last step; `offset` is seconds since the run was asked for."""

    turn: str
    stage: str
    nodes: int
    steps: tuple[str, ...]
    statuses: dict[str, int]  #: status -> nodes, by each node's last step
    offset: float = 0.0
    seconds: float = 0.0
    slowest: str = ""


class StepTiming(Record):
    """What one kind of step cost over all nodes and turns. Times are seconds."""

    step: str
    count: int
    median: float
    longest: float
    slowest: str
    round_trips: int
    shells: int


class Report(Record):
    """Everything about one run. `version` is that of this shape; `parent` is the run this one retries or undoes."""

    version: Literal[1] = 1
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
    plan: str  #: one line: what the plan asked for
    plan_fingerprint: str
    totals: dict[str, int]  #: status -> nodes, worst first
    causes: tuple[Cause, ...]
    stands: tuple[StandRow, ...] = ()  #: what is true of each node now, those that are not done first
    findings: tuple[FindingRow, ...]
    turns: tuple[TurnRow, ...]
    timings: tuple[StepTiming, ...]
    nodes: tuple[NodeRow, ...]
    attestations: tuple[Attestation, ...] = ()  #: what only a person can answer
