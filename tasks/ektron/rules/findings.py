"""Statements about a whole cluster, and the findings about them. Three states: proven, refuted, unknown."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.ektron.facts.values import Fact
from tasks.ektron.wording import named

if TYPE_CHECKING:  # what shows findings reads no facts
    from tasks.ektron.cluster_facts import ClusterFacts
    from tasks.ektron.facts.node import NodeFacts

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
    "pool_values",
    "prerequisite",
    "sentence",
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
    """The statement is false on a node, why, and what to do there in place of the invariant's remedy."""

    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is unknown whether the statement is true on a node, and why."""

    why: str


Judged = Violated | Unknown | None  #: None: the statement is true
NodeCheck = Callable[["NodeFacts"], Judged]
NodeInClusterCheck = Callable[["ClusterFacts", "NodeFacts"], Judged]
Decide = Callable[["ClusterFacts"], "Decision"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A state with its evidence.

    Attributes:
        reasons: node -> why it is a counter-example, or why its facts are unknown.
        severity: instead of the invariant's own, where that depends on the facts.
        remedy: the same.
    """

    verdict: InvariantState
    evidence: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    severity: Severity | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A statement about the whole cluster, and the function that decides it.

    Attributes:
        id: stable; documents, reports and programs refer to it.
        statement: what must be true, one sentence.
        remedy: what to do when it is false.
        source: where the statement comes from.
        reads: the facts of a node that decide it, such as `web.connection_digest`; a part stands for all facts in it.
            What the cluster file and the run give has the prefix `cluster.`.
        proves: what has to be observed so that it is proven.
        cannot_know: what may be wrong all the same, because it is not observed.
        prerequisite: decided before anything is written; when it is refuted, nothing is written.
    """

    id: str
    statement: str
    remedy: str
    source: str
    decide: Decide
    reads: tuple[str, ...] = ()
    proves: str = ""
    cannot_know: str = ""
    severity: Severity = Severity.ERROR
    prerequisite: bool = False

    def judge(self, cluster: "ClusterFacts") -> "Finding":
        """The finding that follows from the facts."""
        decision = self.decide(cluster)
        return Finding(
            invariant=self.id,
            statement=self.statement,
            severity=decision.severity or self.severity,
            verdict=decision.verdict,
            evidence=decision.evidence,
            nodes=tuple(decision.reasons),
            reasons=dict(decision.reasons),
            remedy="" if decision.verdict is InvariantState.PROVEN else decision.remedy or self.remedy,
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
        confirmed: the person who confirms what is unknown, and until when; it is then no obstacle.
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
    confirmed: str = ""


class Findings(Fact):
    """The results for all invariants: refuted first, then unknown; errors before warnings."""

    findings: tuple[Finding, ...] = ()

    @property
    def refuted_errors(self) -> tuple[Finding, ...]:
        """Errors that are proven to exist."""
        return self._with(InvariantState.REFUTED, Severity.ERROR)

    @property
    def unknown_errors(self) -> tuple[Finding, ...]:
        """Errors that cannot be excluded, and that no person has confirmed."""
        return tuple(f for f in self._with(InvariantState.UNKNOWN, Severity.ERROR) if not f.confirmed)

    @property
    def confirmed(self) -> tuple[Finding, ...]:
        """What is unknown, and a person has confirmed it."""
        return tuple(f for f in self.findings if f.confirmed)

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

    def decide(cluster: "ClusterFacts") -> Decision:
        judged = {node: check(cluster, facts) for node, facts in cluster.facts.items()}
        violated = {node: answer.why for node, answer in judged.items() if isinstance(answer, Violated)}
        unknown = {node: answer.why for node, answer in judged.items() if isinstance(answer, Unknown)}
        own = dict.fromkeys(answer.remedy for answer in judged.values() if isinstance(answer, Violated))
        return replace(decided(cluster, violated, unknown), remedy="; ".join(filter(None, own)))

    return decide


def only_origin(check: NodeInClusterCheck) -> Decide:
    """The statement is about the origin alone."""

    def decide(cluster: "ClusterFacts") -> Decision:
        facts = cluster.of(cluster.origin)
        answer = Unknown(cluster.why_unseen(cluster.origin)) if facts is None else check(cluster, facts)
        if answer is None:
            return Decision(InvariantState.PROVEN, f"on the origin {cluster.origin}")
        evidence, reasons = f"{cluster.origin}: {answer.why}", {cluster.origin: answer.why}
        if isinstance(answer, Violated):
            return Decision(InvariantState.REFUTED, evidence, reasons, remedy=answer.remedy)
        return Decision(InvariantState.UNKNOWN, evidence, reasons)

    return decide


def all_agree(
    what: str,
    value: "Callable[[NodeFacts], str | None]",
    *,
    within_pool: bool = False,
    of_one_pool: bool = False,
    why_unknown: "Callable[[NodeFacts], str] | None" = None,
) -> Decide:
    """All nodes must have the same value. Counter-examples: the nodes without the most common value.

    In a draw the origin has the right value. In a draw without the origin, such as in a pool of two servers, it is
    unknown which value is right: then all nodes are counter-examples.

    Args:
        what: the name of the value in the evidence.
        value: of a node, in a form that may be displayed; None when it is unknown.
        within_pool: only nodes of one pool are compared with each other.
        of_one_pool: the right value of a pool is never one that another pool has, if there is a choice.
        why_unknown: of a node whose value is unknown, for people.
    """

    def decide(cluster: "ClusterFacts") -> Decision:
        values = {node: value(facts) for node, facts in cluster.facts.items()}
        known = {node: text for node, text in values.items() if text is not None}
        groups = cluster.pool_members if within_pool and len(cluster.pool_members) > 1 else {"": cluster.nodes}
        owners = _owners(cluster, known) if of_one_pool else {}
        violated: dict[str, str] = {}
        for pool, nodes in groups.items():
            own = {node: known[node] for node in nodes if node in known}
            violated |= _odd_ones(what, own, pool, owners, cluster.origin)
        decision = decided(
            cluster,
            violated,
            {
                node: why_unknown(cluster.facts[node]) if why_unknown else f"{what} unknown"
                for node in values
                if node not in known
            },
        )
        if len(groups) == 1 or decision.verdict is not InvariantState.PROVEN:
            return decision
        return replace(decision, evidence=f"{decision.evidence}, within each of the {len(groups)} pools")

    return decide


def pool_values(cluster: "ClusterFacts", value: "Callable[[NodeFacts], str | None]") -> dict[str, str]:
    """Pool -> the right value of its nodes, for a value `of_one_pool`; without the pools in which it is unknown."""
    known = {node: text for node, facts in cluster.facts.items() if (text := value(facts)) is not None}
    owners = _owners(cluster, known)
    right = {
        pool: _right({node: known[node] for node in nodes if node in known}, pool, owners, cluster.origin)
        for pool, nodes in cluster.pool_members.items()
    }
    return {pool: text for pool, text in right.items() if text is not None}


def _owners(cluster: "ClusterFacts", values: Mapping[str, str]) -> dict[str, str]:
    """Value -> its pool: the one of whose nodes the greatest part has it, in a draw that of the origin, else none."""
    pools = {node: cluster.pool_of(node) for node in values}
    sizes, home = Counter(pools.values()), (values.get(cluster.origin), pools.get(cluster.origin))
    shares: dict[str, dict[str, tuple[float, bool]]] = {}
    for (text, pool), count in Counter((text, pools[node]) for node, text in values.items()).items():
        shares.setdefault(text, {})[pool] = (count / sizes[pool], (text, pool) == home)
    best = {text: [pool for pool, share in of.items() if share == max(of.values())] for text, of in shares.items()}
    return {text: owners[0] for text, owners in best.items() if len(owners) == 1}


def _right(values: Mapping[str, str], pool: str, owners: Mapping[str, str], origin: str) -> str | None:
    """The right value of nodes that must have the same. If there is a choice, it is not that of another pool."""
    own = {node: text for node, text in values.items() if owners.get(text, pool) == pool}
    return most_common(own or values, origin)


def _odd_ones(
    what: str, values: Mapping[str, str], pool: str, owners: Mapping[str, str], origin: str
) -> dict[str, str]:
    """The counter-examples among nodes that must have the same value, each with its own value and the right one."""
    right = _right(values, pool, owners, origin)
    where = f" in pool {pool}" if pool else ""
    violated: dict[str, str] = {}
    for node, text in values.items():
        owner = owners.get(text, pool)
        if text != right:
            theirs = f" (of pool {owner})" if owner != pool else ""
            violated[node] = f"{what} {text}{theirs}, {_instead(values, text, right)}{where}"
    return violated


def _instead(values: Mapping[str, str], own: str, right: str | None) -> str:
    """The right value; where it is unknown, another one and the nodes that have it."""
    if right is not None:
        return f"elsewhere {right}"
    other = next(text for text in values.values() if text != own)
    return f"but {other} on {named([node for node, text in values.items() if text == other])}"


def decided(cluster: "ClusterFacts", violated: Mapping[str, str], unknown: Mapping[str, str]) -> Decision:
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


def most_common(values: Mapping[str, str], origin: str) -> str | None:
    """The value that most nodes have. In a draw that of the origin; None when it has none of them."""
    counts = Counter(values.values())
    most = [value for value, count in counts.items() if count == max(counts.values())]
    return most[0] if len(most) == 1 else next((value for value in most if value == values.get(origin)), None)


def ordered(findings: Iterable[Finding]) -> Findings:
    """Refuted first, then unknown, then proven; errors before warnings; otherwise the order is kept."""
    order = {InvariantState.REFUTED: 0, InvariantState.UNKNOWN: 1, InvariantState.PROVEN: 2}
    return Findings(findings=tuple(sorted(findings, key=lambda f: (order[f.verdict], f.severity is Severity.WARNING))))
