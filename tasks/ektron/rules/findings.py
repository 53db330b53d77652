"""Statements about a whole cluster, and the findings about them. Three states: proven, refuted, unknown."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from pydantic import Field

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import Fact, NodeFacts
from tasks.ektron.wording import named

__all__ = [
    "Decision",
    "Finding",
    "Findings",
    "Invariant",
    "InvariantState",
    "Judged",
    "Severity",
    "Unknown",
    "Violated",
    "all_agree",
    "decided",
    "each_node",
    "each_node_in",
    "most_common",
    "only_origin",
    "ordered",
    "prerequisite",
    "warning",
]

_SHOWN = 4


class InvariantState(StrEnum):
    """What is known about a statement."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Whether the cluster can still sync when the statement is refuted: with a warning it can."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Violated:
    """The statement is false on a node, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is unknown whether the statement is true on a node, and why."""

    why: str


Judged = Violated | Unknown | None  #: None: the statement is true
NodeCheck = Callable[[NodeFacts], Judged]
NodeInClusterCheck = Callable[[ClusterFacts, NodeFacts], Judged]
Decide = Callable[[ClusterFacts], "Decision"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A state with its evidence. `reasons`: node -> why it is a counter-example, or why its facts are unknown."""

    verdict: InvariantState
    evidence: str
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A statement about the whole cluster, and the function that decides it.

    Attributes:
        id: stable; documents, reports and programs refer to it.
        statement: what must be true, one sentence.
        remedy: what to do when it is false.
        source: where the statement comes from.
        prerequisite: decided before anything is written; when it is refuted, nothing is written.
    """

    id: str
    statement: str
    remedy: str
    source: str
    decide: Decide
    severity: Severity = Severity.ERROR
    prerequisite: bool = False

    def judge(self, cluster: ClusterFacts) -> "Finding":
        """The finding that follows from the facts."""
        decision = self.decide(cluster)
        return Finding(
            invariant=self.id,
            statement=self.statement,
            severity=self.severity,
            verdict=decision.verdict,
            evidence=decision.evidence,
            nodes=tuple(decision.reasons),
            reasons=dict(decision.reasons),
            remedy="" if decision.verdict is InvariantState.PROVEN else self.remedy,
            source=self.source,
        )


prerequisite = partial(Invariant, prerequisite=True)
warning = partial(Invariant, severity=Severity.WARNING)


class Finding(Fact):
    """The result for one invariant.

    Attributes:
        evidence: one sentence for people, shortened in large clusters.
        nodes: the counter-examples, or the nodes whose facts are unknown.
        reasons: node -> why it is in `nodes`, never shortened.
    """

    invariant: str
    statement: str = ""
    severity: Severity = Severity.ERROR
    verdict: InvariantState
    evidence: str = ""
    nodes: tuple[str, ...] = ()
    reasons: dict[str, str] = Field(default_factory=dict)
    remedy: str = ""
    source: str = ""


class Findings(Fact):
    """The results for all invariants: refuted first, then unknown; errors before warnings."""

    findings: tuple[Finding, ...] = ()

    @property
    def refuted_errors(self) -> tuple[Finding, ...]:
        """Errors that are proven to exist."""
        return self._with(InvariantState.REFUTED, Severity.ERROR)

    @property
    def unknown_errors(self) -> tuple[Finding, ...]:
        """Errors that cannot be excluded."""
        return self._with(InvariantState.UNKNOWN, Severity.ERROR)

    @property
    def refuted_warnings(self) -> tuple[Finding, ...]:
        """Problems that do not keep the cluster from syncing."""
        return self._with(InvariantState.REFUTED, Severity.WARNING)

    def of(self, invariant: str) -> Finding:
        """The finding about one invariant.

        Raises:
            KeyError: the invariant was not decided.
        """
        for finding in self.findings:
            if finding.invariant == invariant:
                return finding
        raise KeyError(invariant)

    def _with(self, verdict: InvariantState, severity: Severity) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.verdict is verdict and f.severity is severity)


def each_node(check: NodeCheck) -> Decide:
    """The statement must be true on each node. One counter-example refutes it; a node without facts leaves it open."""
    return each_node_in(lambda _, facts: check(facts))


def each_node_in(check: NodeInClusterCheck) -> Decide:
    """As `each_node`, for a check that also needs the facts of the whole cluster."""

    def decide(cluster: ClusterFacts) -> Decision:
        judged = {node: check(cluster, facts) for node, facts in cluster.facts.items()}
        violated = {node: answer.why for node, answer in judged.items() if isinstance(answer, Violated)}
        unknown = {node: answer.why for node, answer in judged.items() if isinstance(answer, Unknown)}
        return decided(cluster, violated, unknown)

    return decide


def only_origin(check: NodeInClusterCheck) -> Decide:
    """The statement is about the origin alone."""

    def decide(cluster: ClusterFacts) -> Decision:
        facts = cluster.of(cluster.origin)
        answer = Unknown(cluster.why_unseen(cluster.origin)) if facts is None else check(cluster, facts)
        if answer is None:
            return Decision(InvariantState.PROVEN, f"on the origin {cluster.origin}")
        verdict = InvariantState.REFUTED if isinstance(answer, Violated) else InvariantState.UNKNOWN
        return Decision(verdict, f"{cluster.origin}: {answer.why}", {cluster.origin: answer.why})

    return decide


def all_agree(what: str, value: Callable[[NodeFacts], str | None]) -> Decide:
    """All nodes must have the same value. Counter-examples: the nodes without the most common value.

    Args:
        what: the name of the value in the evidence.
        value: of a node, in a form that may be displayed; None when it is unknown.
    """

    def decide(cluster: ClusterFacts) -> Decision:
        values = {node: value(facts) for node, facts in cluster.facts.items()}
        known = {node: text for node, text in values.items() if text is not None}
        common = most_common(known, cluster.origin)
        violated = {node: f"{what} {text}, elsewhere {common}" for node, text in known.items() if text != common}
        unknown = {node: f"{what} unknown" for node, text in values.items() if text is None}
        return decided(cluster, violated, unknown)

    return decide


def decided(cluster: ClusterFacts, violated: Mapping[str, str], unknown: Mapping[str, str]) -> Decision:
    """One decision out of what is violated and what is unknown on each node."""
    if violated:
        return Decision(InvariantState.REFUTED, sentence(violated), violated)
    open_questions = {**unknown, **{node: cluster.why_unseen(node) for node in cluster.unseen}}
    if open_questions:
        return Decision(InvariantState.UNKNOWN, sentence(open_questions), open_questions)
    return Decision(InvariantState.PROVEN, f"on all {len(cluster.nodes)} nodes")


def sentence(reasons: Mapping[str, str]) -> str:
    """`S1, S2: LoadBalanced is 0; P1: ...`, shortened in large clusters."""
    by_reason: dict[str, list[str]] = {}
    for node, reason in reasons.items():
        by_reason.setdefault(reason, []).append(node)
    parts = [f"{named(nodes)}: {reason}" for reason, nodes in by_reason.items()]
    more = f"; and {len(parts) - _SHOWN} other findings" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more


def most_common(values: Mapping[str, str], origin: str) -> str:
    """The value that most nodes have. In a draw the value of the origin wins; empty when there are no values."""
    counts = Counter(values.values())
    return max(counts, key=lambda value: (counts[value], value == values.get(origin)), default="")


def ordered(findings: Iterable[Finding]) -> Findings:
    """Refuted first, then unknown, then proven; errors before warnings; otherwise the order is kept."""
    order = {InvariantState.REFUTED: 0, InvariantState.UNKNOWN: 1, InvariantState.PROVEN: 2}
    return Findings(findings=tuple(sorted(findings, key=lambda f: (order[f.verdict], f.severity is Severity.WARNING))))
