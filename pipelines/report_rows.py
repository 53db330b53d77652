"""The shapes of a report: what it is made from, and the rows it consists of.

The JSON of `Report` is what programs read (docs/report-schema.json).
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import AwareDatetime, Field

from tasks.cluster import Cluster
from tasks.ektron.attestations import Attestation
from tasks.ektron.findings import Findings
from workers.records import Change, Record, RunRecord, Status, StepOutcome

__all__ = [
    "Cause",
    "FindingRow",
    "NodeRow",
    "Planned",
    "Report",
    "Result",
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
    message: str = ""
    seconds: float
    attempt: int = 1
    round_trips: int = 0
    shells: int = 0


class NodeRow(Record):
    """One node: what the run came to there, and every step on the way."""

    node: str
    role: str
    pool: str
    host: str
    wave: str = ""  #: the turn that changed it, `wave-1`; empty when it was in none
    status: Status
    slug: str = ""
    reason: str = ""
    file: str = ""
    remedy: str = ""
    steps: tuple[StepRow, ...] = ()
    changes: tuple[Change, ...] = ()
    seconds: float = 0.0  #: in steps


class Cause(Record):
    """Nodes that came to the same end for the same reason; `<node>` stands for each one's own name."""

    status: Status
    slug: str
    step: str
    message: str
    remedy: str
    file: str
    nodes: tuple[str, ...]
    ranges: str  #: the same nodes, runs of numbers shortened: `P1..P40, S2`


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
    """Everything about one run. `version` is that of this shape."""

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
    created: AwareDatetime
    ended: AwareDatetime | None
    seconds: float
    plan: str  #: one line: what the plan asked for
    plan_fingerprint: str
    totals: dict[str, int]  #: status -> nodes, worst first
    causes: tuple[Cause, ...]
    findings: tuple[FindingRow, ...]
    turns: tuple[TurnRow, ...]
    timings: tuple[StepTiming, ...]
    nodes: tuple[NodeRow, ...]
    attestations: tuple[Attestation, ...] = ()  #: what only a person can answer
