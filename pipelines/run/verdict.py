"""How a run ended: a pure function of the outcomes of its nodes and the findings about the cluster."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.ektron.wording import all_are, counted, named
from workers.records import Status, StepOutcome, Verdict

if TYPE_CHECKING:  # loaded by what judges: what shows runs decides nothing
    from tasks.cluster import Cluster
    from tasks.documents import FamilyDigests
    from tasks.ektron.cluster_facts import ClusterFacts
    from tasks.ektron.facts.node import NodeFacts
    from tasks.ektron.rules.findings import Finding, Findings

__all__ = ["cluster_facts", "failures", "verdict_of"]


def cluster_facts(
    cluster: "Cluster",
    facts: "Mapping[str, NodeFacts]",
    reasons: Mapping[str, str],
    family: "FamilyDigests | None",
) -> "ClusterFacts":
    """The input of the rules: the facts of all nodes.

    Args:
        cluster: the desired cluster.
        facts: node -> what was observed on it.
        reasons: node -> why it was not observed.
        family: the certificate family of this run, if it has one.
    """
    from tasks.ektron.cluster_facts import ClusterFacts  # noqa: PLC0415 - see above

    return ClusterFacts(
        nodes=cluster.node_names,
        origin=cluster.origin,
        seen=facts,
        reasons=reasons,
        family=family.hashes if family else {},
        family_thumbprint=family.thumbprint if family else "",
        pools={node.name: node.pool for node in cluster.nodes},
        hosts={node.name: node.host for node in cluster.nodes},
        partners=cluster.partners,
        shared_database=cluster.site.database == "shared",
        edition=cluster.edition,
        weaker_ways={name: why for name in cluster.node_names if (why := cluster.weaker_way(name))},
    )


def verdict_of(nodes: Sequence[str], ended: Mapping[str, StepOutcome], findings: "Findings") -> tuple[Verdict, str]:
    """The verdict and one sentence for people.

    Failed nodes come first, then refuted invariants, then unreachable nodes, then unknown invariants.

    Args:
        nodes: all nodes of the cluster.
        ended: node -> the outcome that ended its part in the run.
        findings: about the whole cluster.
    """
    failed = [node for node, outcome in ended.items() if outcome.status is not Status.UNREACHABLE]
    silent = [node for node in ended if node not in failed]
    if failed:
        return Verdict.FAILED, failures(list(ended), ended)
    refuted = [finding for finding in findings.refuted_errors if not set(finding.nodes) <= set(silent)]
    if refuted:
        return Verdict.REFUTED, _refuted(refuted)
    if silent:
        rest = len(nodes) - len(silent)
        others = {0: "", 1: "; the other one is done"}.get(rest, f"; the other {rest} are done")
        return Verdict.UNREACHABLE, f"{named(silent)} did not answer{others}"
    unknown = findings.unknown_errors
    if unknown:
        return Verdict.INCONCLUSIVE, f"{unknown[0].invariant} could not be decided: {unknown[0].evidence}"
    warnings = findings.refuted_warnings
    besides = f"; {counted(len(warnings), 'warning')}" if warnings else ""
    if findings.confirmed:
        besides += f"; confirmed by a person: {', '.join(one.invariant for one in findings.confirmed)}"
    return Verdict.JOINED, f"{all_are(len(nodes))} joined, no invariant is refuted{besides}"


def failures(out: Sequence[str], ended: Mapping[str, StepOutcome], what: str = "failed") -> str:
    """What happened to the nodes that are not done: failed, unreachable and not tried are kept apart.

    Where all of them failed, the sentence begins with their names; otherwise with the number of each. The message is
    that of the first node that failed.

    Args:
        out: nodes that failed, were unreachable, or were left out.
        ended: the outcomes that ended them.
        what: the verb for those that failed.
    """
    parts: dict[str, list[str]] = {what: [], "unreachable": [], "not tried": []}
    for node in out:
        parts[_part(ended[node], what)].append(node)
    first = next(nodes[0] for nodes in parts.values() if nodes)
    message = ended[first].message.removeprefix(f"{first}: ")
    if len(parts[what]) == len(out):
        return f"{named(out)} {what}: {f'{first}: ' if len(out) > 1 else ''}{message}"
    counts = ", ".join(f"{len(nodes)} {part}" for part, nodes in parts.items() if nodes)
    return f"{counts}; {first}: {message}"


def _part(outcome: StepOutcome, failed: str) -> str:
    """Which of the three an outcome is; a step that was cancelled while it changed the node has failed."""
    if outcome.status is Status.UNREACHABLE:
        return "unreachable"
    left_out = outcome.status is Status.SKIPPED or (outcome.status is Status.CANCELLED and not outcome.touched)
    return "not tried" if left_out else failed


def _refuted(refuted: "Sequence[Finding]") -> str:
    first = refuted[0]
    more = f" (and {len(refuted) - 1} more)" if len(refuted) > 1 else ""
    return f"{first.invariant} does not hold{more}: {first.evidence}"
