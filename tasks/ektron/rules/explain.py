"""Why is this node not joined? Walks the invariants as an expert would, and stops at the cause.

What comes later in the order is often only a consequence: a service that does not start because two keys contradict
also does not listen, and nobody reaches it.
"""

from enum import StrEnum

from tasks.ektron.cluster_facts import NOT_SEEN
from tasks.ektron.facts import Fact
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity

__all__ = ["ORDER", "Answer", "Explanation", "explain"]

#: First what makes every other look meaningless, then what is installed, then what is written, then what runs.
ORDER = (
    "node.is-itself",
    "service.installed",
    "config.files-usable",
    "version.same-build",
    "version.service-newer-or-equal",
    "site.same-path",
    "site.precompiled-all-or-none",
    "database.same-connection-string",
    "clock.skew-below-300s",
    "family.origin-present",
    "family.complete",
    "family.identical-across-nodes",
    "keys.no-duplicates",
    "keys.complete",
    "keys.match-cer",
    "family.server-certificate-is-own",
    "config.service-load-balanced",
    "config.asset-load-balanced",
    "family.web-root-copy",
    "config.web-endpoints",
    "config.encoded-value-agrees",
    "family.staging-folder-clean",
    "keys.ewsupdates-agrees",
    "service.running",
    "service.started-after-last-change",
    "service.listening-8732",
    "network.reach-8732-all-pairs",
    "site.wspath-answers",
    "leftovers.none",
)


class Answer(StrEnum):
    """What can be said of a node."""

    JOINED = "joined"
    CAUSE = "cause"  #: this is why it is not joined
    ELSEWHERE = "elsewhere"  #: the node is right, another one keeps the cluster from being joined
    UNKNOWN = "unknown"  #: nothing speaks against it, but not everything could be seen


class Explanation(Fact):
    """The answer for one node.

    Attributes:
        cause: the first finding in the order that explains the answer; None when the node is joined.
        because: why, on this node.
        passed: invariants that hold for this node and were walked before the cause.
        consequences: further invariants refuted on this node, later in the order.
        notes: warnings about this node.
    """

    node: str
    answer: Answer
    cause: Finding | None = None
    because: str = ""
    passed: tuple[str, ...] = ()
    consequences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def explain(node: str, findings: Findings) -> Explanation:
    """Why a node is not joined, or that it is.

    Args:
        node: its name, as the findings spell it.
        findings: of all invariants over the whole cluster.
    """
    errors = _walked(findings)
    notes = tuple(f"{f.invariant}: {f.reasons[node]}" for f in findings.refuted_warnings if node in f.reasons)
    own = [f for f in errors if f.verdict is InvariantState.REFUTED and node in f.reasons]
    unseen = [f for f in errors if f.reasons.get(node, "").startswith(NOT_SEEN)]
    if unseen:
        # What its neighbours say of a silent node is a consequence: whatever silences it comes first.
        return Explanation(
            node=node,
            answer=Answer.UNKNOWN,
            cause=unseen[0],
            because=unseen[0].reasons[node],
            consequences=tuple(f.invariant for f in own),
            notes=notes,
        )
    if own:
        before = errors[: errors.index(own[0])]
        return Explanation(
            node=node,
            answer=Answer.CAUSE,
            cause=own[0],
            because=own[0].reasons[node],
            passed=tuple(f.invariant for f in before if node not in f.reasons),
            consequences=tuple(f.invariant for f in own[1:]),
            notes=notes,
        )
    for answer, verdict in ((Answer.UNKNOWN, InvariantState.UNKNOWN), (Answer.ELSEWHERE, InvariantState.REFUTED)):
        found = [f for f in errors if f.verdict is verdict and (node in f.reasons or answer is Answer.ELSEWHERE)]
        if found:
            because = found[0].reasons.get(node) or found[0].evidence
            return Explanation(node=node, answer=answer, cause=found[0], because=because, notes=notes)
    return Explanation(node=node, answer=Answer.JOINED, passed=tuple(f.invariant for f in errors), notes=notes)


def _walked(findings: Findings) -> list[Finding]:
    """The errors in the expert's order; rules the order does not know come last."""
    places = {invariant: place for place, invariant in enumerate(ORDER)}
    errors = [finding for finding in findings.findings if finding.severity is Severity.ERROR]
    return sorted(errors, key=lambda finding: places.get(finding.invariant, len(ORDER)))
