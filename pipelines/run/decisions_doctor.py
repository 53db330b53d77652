"""What comes next in a run of kind `doctor`: which nodes are observed, and whether a rollout could begin."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.run.decisions import facts_of_cluster, make_family_first, out_of_reach
from pipelines.run.selection import besides, findings_about
from pipelines.run.snapshot import Document, Snapshot, Stop
from pipelines.run.verdict import failures
from tasks.ektron.rules.findings import Finding, Findings
from tasks.ektron.wording import all_are, counted, named
from workers.records import DocumentKind, Status, StepOutcome, Verdict

__all__ = ["reachable", "ready"]

_FAMILY = "family.origin-present"


def reachable(snapshot: Snapshot) -> Sequence[str]:
    """All nodes except those that the canary could not log on to; an unfit node is observed too."""
    gone = snapshot.in_stage("doctor") | out_of_reach(snapshot)
    return [name for name in snapshot.cluster.node_names if name not in gone]


def ready(snapshot: Snapshot) -> Stop:
    """The verdict: failed prerequisites first, then unreachable nodes, the missing family, and what is unknown."""
    findings = _judged(snapshot)
    return replace(
        _concluded(snapshot, findings),
        documents=(Document(DocumentKind.FINDINGS, "assess", findings.model_dump_json()),),
    )


def _concluded(snapshot: Snapshot, findings: Findings) -> Stop:
    lost = _lost(snapshot)
    failed = [node for node, outcome in lost.items() if outcome.status is not Status.UNREACHABLE]
    if failed:
        return Stop(Verdict.FAILED, failures(list(lost), lost, "could not be checked"))
    blocking = [finding for finding in findings.refuted_errors if finding.invariant != _FAMILY]
    if blocking:
        return Stop(Verdict.REFUTED, f"not ready{_more(blocking)}: {blocking[0].invariant}: {blocking[0].evidence}")
    if lost:
        return Stop(Verdict.UNREACHABLE, f"{named(list(lost))} did not answer: {next(iter(lost.values())).message}")
    if findings.refuted_errors:
        origin = snapshot.documents.all_facts(DocumentKind.OBSERVED)[
            snapshot.cluster.node(snapshot.cluster.origin).name
        ]
        return Stop(Verdict.STOPPED, make_family_first(snapshot.cluster, origin))
    unknown = findings.unknown_errors
    if unknown:
        return Stop(Verdict.INCONCLUSIVE, f"{unknown[0].invariant} could not be decided: {unknown[0].evidence}")
    warnings = len(findings.refuted_warnings)
    warned = f"; {counted(warnings, 'warning')}" if warnings else ""
    ready = f"{all_are(len(snapshot.selected))} ready for a rollout{warned}"
    return Stop(Verdict.READY, ready + besides(snapshot))


def _judged(snapshot: Snapshot) -> Findings:
    """All rules, as far as they concern the selected nodes; without the one about a family that would be generated."""
    from tasks.ektron.rules.invariants import judge_readiness  # noqa: PLC0415 - what shows runs judges nothing

    facts = facts_of_cluster(snapshot, snapshot.documents.all_facts(DocumentKind.OBSERVED))
    findings = findings_about(judge_readiness(facts), snapshot.selected)
    if not snapshot.cluster.policy.generate_certificates:
        return findings
    return Findings(findings=tuple(f for f in findings.findings if f.invariant != _FAMILY))


def _lost(snapshot: Snapshot) -> dict[str, StepOutcome]:
    """The selected nodes that could not be observed, each with the outcome that gives the reason."""
    last = snapshot.of_stage("canary") | snapshot.of_stage("doctor")
    return {node: last[node] for node in last if node in snapshot.selected and last[node].status.ends_node}


def _more(findings: Sequence[Finding]) -> str:
    return f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
