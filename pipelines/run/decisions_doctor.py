"""What a run of kind `doctor` decides: who is looked at, and whether a rollout could begin. Writes nothing anywhere."""

from collections.abc import Sequence

from pipelines.run.decisions import gate, out_of_reach, whole
from pipelines.run.snapshot import Snapshot, Stop
from pipelines.run.verdict import failures
from tasks.ektron.rules.findings import Finding, Findings
from tasks.ektron.rules.invariants import judge_readiness
from tasks.ektron.wording import all_are, counted
from workers.records import DocumentKind, Status, StepOutcome, Verdict

__all__ = ["everybody_answering", "ready"]

_FAMILY = "family.origin-present"


def everybody_answering(snapshot: Snapshot) -> Sequence[str]:
    """All nodes but those that the canary could not log on to; a node that is not fit is looked at too."""
    gone = snapshot.in_stage("doctor") | out_of_reach(snapshot)
    return [name for name in snapshot.cluster.node_names if name not in gone]


def ready(snapshot: Snapshot) -> Stop:
    """The verdict: what stands in the way first, then who did not answer, then the gate, then what nobody knows."""
    findings = _judged(snapshot)
    snapshot.store.put(snapshot.record.id, DocumentKind.FINDINGS, "assess", findings.model_dump_json())
    lost = _lost(snapshot)
    failed = [node for node, outcome in lost.items() if outcome.status is not Status.UNREACHABLE]
    if failed:
        return Stop(Verdict.FAILED, failures(failed, lost, "could not be looked at"))
    in_the_way = [finding for finding in findings.refuted_errors if finding.invariant != _FAMILY]
    if in_the_way:
        return Stop(
            Verdict.REFUTED, f"not ready{_more(in_the_way)}: {in_the_way[0].invariant}: {in_the_way[0].evidence}"
        )
    if lost:
        return Stop(Verdict.UNREACHABLE, f"{', '.join(lost)} did not answer: {next(iter(lost.values())).message}")
    if findings.refuted_errors:
        origin = snapshot.cluster.node(snapshot.cluster.origin).name
        return Stop(
            Verdict.STOPPED, gate(snapshot.cluster, snapshot.documents.all_facts(DocumentKind.OBSERVED)[origin])
        )
    unknown = findings.unknown_errors
    if unknown:
        return Stop(Verdict.INCONCLUSIVE, f"{unknown[0].invariant} could not be decided: {unknown[0].evidence}")
    warnings = len(findings.refuted_warnings)
    besides = f"; {counted(warnings, 'warning')}" if warnings else ""
    return Stop(Verdict.READY, f"{all_are(len(snapshot.cluster.nodes))} ready for a rollout{besides}")


def _judged(snapshot: Snapshot) -> Findings:
    """All rules; without the one about the family where a rollout would make it."""
    findings = judge_readiness(whole(snapshot, snapshot.documents.all_facts(DocumentKind.OBSERVED)))
    if not snapshot.cluster.policy.generate_certificates:
        return findings
    return Findings(findings=tuple(f for f in findings.findings if f.invariant != _FAMILY))


def _lost(snapshot: Snapshot) -> dict[str, StepOutcome]:
    """Nodes that were not looked at by the doctor, with the outcome that says why."""
    last = snapshot.of_stage("canary") | snapshot.of_stage("doctor")
    return {node: outcome for node, outcome in last.items() if outcome.status.ends_node}


def _more(findings: Sequence[Finding]) -> str:
    return f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
