"""Why is this node not joined? Checks the invariants in the order that an expert would use, and stops at the cause.

Later invariants often fail only as a consequence. Example: two contradicting keys keep the service from starting; then
it also does not listen, and no other node reaches it.
"""

from enum import StrEnum

from tasks.ektron.cluster_facts import NOT_SEEN
from tasks.ektron.facts.values import Fact
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity

__all__ = ["ORDER", "Answer", "Explanation", "explain"]

#: First the identity of the machine, which all other checks need; then what is installed, written, and running.
ORDER = (
    "node.is-itself",
    "service.installed",
    "service.runs-from-folder",
    "config.files-usable",
    "node.syncs",
    "config.asset-source",
    "config.not-encrypted",
    "version.as-declared",
    "version.same-build",
    "version.same-installed-version",
    "version.service-newer-or-equal",
    "site.same-path",
    "site.same-virtual-path",
    "site.precompiled-all-or-none",
    "database.same-connection-string",
    "clock.skew-below-300s",
    "node.places-writable",
    "shared.family-of-other-sites",
    "family.origin-present",
    "family.complete",
    "family.identical-across-nodes",
    "keys.no-duplicates",
    "keys.complete",
    "keys.match-cer",
    "shared.partners-known",
    "family.server-certificate-is-own",
    "config.service-load-balanced",
    "config.asset-load-balanced",
    "family.web-root-copy",
    "config.web-endpoints",
    "config.endpoints-complete",
    "config.encoded-value-agrees",
    "config.workarea-as-site",
    "family.staging-folder-clean",
    "keys.ewsupdates-agrees",
    "service.running",
    "service.started-after-last-change",
    "service.listening-8732",
    "network.reach-8732-all-pairs",
    "site.wspath-answers",
    "site.service-files-allowed",
    "site.wspath-no-other-node",
    "leftovers.none",
    "leftovers.removed-node",
    "pool.none-left-drained",
)


class Answer(StrEnum):
    """The answer for a node."""

    JOINED = "joined"
    CAUSE = "cause"  #: this is why it is not joined
    ELSEWHERE = "elsewhere"  #: the node is correct, the cause is on another node
    UNKNOWN = "unknown"  #: no error was found, but some facts are missing


class Explanation(Fact):
    """The answer for one node, with its reasons.

    Attributes:
        cause: the first finding in the order that explains the answer; None when the node is joined.
        because: the reason on this node.
        passed: invariants before the cause that are true on this node.
        consequences: invariants after the cause that are refuted on this node.
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
    """Why a node is not joined, or that it is joined.

    Args:
        node: its name, as the findings spell it.
        findings: of all invariants over the whole cluster.
    """
    errors = _in_order(findings)
    refuted = [f for f in errors if f.verdict is InvariantState.REFUTED]
    own = [f for f in refuted if node in f.reasons]
    # Other nodes' reports about an unseen node are consequences of the problem that makes it unseen.
    unseen = [f for f in errors if f.reasons.get(node, "").startswith(NOT_SEEN)]
    unknown = [f for f in errors if f.verdict is InvariantState.UNKNOWN and node in f.reasons]
    notes = tuple(f"{f.invariant}: {f.reasons[node]}" for f in findings.refuted_warnings if node in f.reasons)
    answers = ((Answer.UNKNOWN, unseen), (Answer.CAUSE, own), (Answer.UNKNOWN, unknown), (Answer.ELSEWHERE, refuted))
    for answer, causes in answers:
        if causes:
            cause = causes[0]
            before = errors[: errors.index(cause)] if answer is Answer.CAUSE else []
            return Explanation(
                node=node,
                answer=answer,
                cause=cause,
                because=cause.reasons.get(node) or cause.evidence,
                passed=tuple(f.invariant for f in before if node not in f.reasons),
                consequences=tuple(f.invariant for f in own if f is not cause),
                notes=notes,
            )
    return Explanation(node=node, answer=Answer.JOINED, passed=tuple(f.invariant for f in errors), notes=notes)


def _in_order(findings: Findings) -> list[Finding]:
    """The errors in the order of `ORDER`; invariants that are not in it come last."""
    places = {invariant: place for place, invariant in enumerate(ORDER)}
    errors = [finding for finding in findings.findings if finding.severity is Severity.ERROR]
    return sorted(errors, key=lambda finding: places.get(finding.invariant, len(ORDER)))
