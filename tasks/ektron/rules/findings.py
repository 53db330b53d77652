"""Statements about a whole cluster, and what was found about them. Three answers: proven, refuted, unknown."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
    "each_node",
    "only_origin",
]

_SHOWN = 4


class InvariantState(StrEnum):
    """What is known about a statement."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Whether a cluster can sync although the statement is refuted."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Violated:
    """The statement does not hold on a node, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whether the statement holds on a node cannot be said, and why."""

    why: str


Judged = Violated | Unknown | None  #: None: it holds


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its evidence; `reasons` has the counter-examples, or those nothing is known about, and why."""

    verdict: InvariantState
    evidence: str
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A statement about the whole cluster, and how it is decided.

    Attributes:
        id: stable; documents, reports and programs know it by this.
        statement: what holds, one sentence.
        remedy: what to do when it does not.
        source: where the statement comes from.
        prerequisite: decided before anything is written; when refuted, nothing is.
    """

    id: str
    statement: str
    remedy: str
    source: str
    decide: Callable[[ClusterFacts], Decision]
    severity: Severity = Severity.ERROR
    prerequisite: bool = False

    def judge(self, cluster: ClusterFacts) -> "Finding":
        """What the facts say about this statement."""
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


class Finding(Fact):
    """What was found about one invariant.

    Attributes:
        evidence: one sentence for people, shortened in large clusters.
        nodes: the counter-examples, or those nothing is known about.
        reasons: node -> why it is one of them, never shortened.
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
    """What was found about all invariants: refuted first, then unknown, errors before warnings."""

    findings: tuple[Finding, ...] = ()

    @property
    def refuted_errors(self) -> tuple[Finding, ...]:
        """Errors that were shown."""
        return self._errors(InvariantState.REFUTED)

    @property
    def unknown_errors(self) -> tuple[Finding, ...]:
        """Errors that could not be ruled out."""
        return self._errors(InvariantState.UNKNOWN)

    @property
    def refuted_warnings(self) -> tuple[Finding, ...]:
        """What should be looked at, although the cluster can sync."""
        return tuple(f for f in self.findings if f.verdict is InvariantState.REFUTED and f.severity is Severity.WARNING)

    @property
    def proven(self) -> tuple[Finding, ...]:
        """What holds."""
        return tuple(f for f in self.findings if f.verdict is InvariantState.PROVEN)

    def of(self, invariant: str) -> Finding:
        """The finding about one invariant.

        Raises:
            KeyError: it was not decided.
        """
        for finding in self.findings:
            if finding.invariant == invariant:
                return finding
        raise KeyError(invariant)

    def _errors(self, verdict: InvariantState) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.verdict is verdict and f.severity is Severity.ERROR)


def each_node(check: Callable[[ClusterFacts, NodeFacts], Judged]) -> Callable[[ClusterFacts], Decision]:
    """The statement holds when it holds on each node; one counter-example refutes it, a silent node leaves it open."""

    def decide(cluster: ClusterFacts) -> Decision:
        judged = {node: check(cluster, facts) for node, facts in cluster.facts.items()}
        wrong = {node: answer.why for node, answer in judged.items() if isinstance(answer, Violated)}
        unsure = {node: answer.why for node, answer in judged.items() if isinstance(answer, Unknown)}
        return decided(cluster, wrong, unsure)

    return decide


def only_origin(check: Callable[[ClusterFacts, NodeFacts], Judged]) -> Callable[[ClusterFacts], Decision]:
    """The statement is about the origin alone."""

    def decide(cluster: ClusterFacts) -> Decision:
        facts = cluster.of(cluster.origin)
        answer = Unknown(cluster.why_unseen(cluster.origin)) if facts is None else check(cluster, facts)
        if answer is None:
            return Decision(InvariantState.PROVEN, f"on the origin {cluster.origin}")
        verdict = InvariantState.REFUTED if isinstance(answer, Violated) else InvariantState.UNKNOWN
        return Decision(verdict, f"{cluster.origin}: {answer.why}", {cluster.origin: answer.why})

    return decide


def all_agree(what: str, value: Callable[[NodeFacts], str | None]) -> Callable[[ClusterFacts], Decision]:
    """All nodes have the same value; those that differ from most, or from the origin in a draw, are counter-examples.

    Args:
        what: names the value in the evidence.
        value: of a node, fit to be shown; None when it is not known.
    """

    def decide(cluster: ClusterFacts) -> Decision:
        values = {node: value(facts) for node, facts in cluster.facts.items()}
        known = {node: text for node, text in values.items() if text is not None}
        common = _common(known, cluster)
        wrong = {node: f"{what} {text}, elsewhere {common}" for node, text in known.items() if text != common}
        unsure = {node: f"{what} unknown" for node, text in values.items() if text is None}
        return decided(cluster, wrong, unsure)

    return decide


def decided(cluster: ClusterFacts, wrong: Mapping[str, str], unsure: Mapping[str, str]) -> Decision:
    """One verdict out of what is wrong and what is unsure on each node."""
    if wrong:
        return Decision(InvariantState.REFUTED, sentence(wrong), wrong)
    open_questions = {**unsure, **{node: cluster.why_unseen(node) for node in cluster.unseen}}
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


def _common(values: Mapping[str, str], cluster: ClusterFacts) -> str:
    counts: dict[str, int] = {}
    for value in values.values():
        counts[value] = counts.get(value, 0) + 1
    origin = values.get(cluster.origin)
    return max(counts, key=lambda value: (counts[value], value == origin), default="")


def ordered(findings: Iterable[Finding]) -> Findings:
    """Refuted first, then unknown, then proven; errors before warnings; else as decided."""
    order = {InvariantState.REFUTED: 0, InvariantState.UNKNOWN: 1, InvariantState.PROVEN: 2}
    return Findings(findings=tuple(sorted(findings, key=lambda f: (order[f.verdict], f.severity is Severity.WARNING))))
