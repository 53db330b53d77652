"""What a run of kind `verify` concludes: about the whole cluster, or about the nodes that the operator selected."""

from collections.abc import Collection

from pipelines.run.decisions import facts_of_cluster
from pipelines.run.snapshot import Document, Snapshot, Stop
from pipelines.run.verdict import verdict_of
from tasks.ektron.rules.findings import Finding, Findings, sentence
from tasks.ektron.rules.invariants import judge
from tasks.ektron.wording import counted
from workers.records import DocumentKind

__all__ = ["besides", "findings_about", "selected_hold"]


def selected_hold(snapshot: Snapshot) -> Stop:
    """The verdict by every invariant, judged over the whole cluster, as far as it concerns the selected nodes."""
    facts = snapshot.documents.all_facts(DocumentKind.VERIFIED)
    findings = findings_about(judge(facts_of_cluster(snapshot, facts)), snapshot.selected)
    selected = tuple(snapshot.selected)
    ended = {node: outcome for node, outcome in snapshot.ended().items() if node in snapshot.selected}
    verdict, summary = verdict_of(selected, ended, findings)
    document = Document(DocumentKind.FINDINGS, "verify", findings.model_dump_json())
    return Stop(verdict, summary + besides(snapshot), (document,))


def findings_about(findings: Findings, nodes: Collection[str]) -> Findings:
    """The findings as far as they concern some nodes: without those whose every counter-example is another node."""
    kept = (_about(finding, nodes) for finding in findings.findings)
    return Findings(findings=tuple(finding for finding in kept if finding is not None))


def _about(finding: Finding, nodes: Collection[str]) -> Finding | None:
    reasons = {node: why for node, why in finding.reasons.items() if node in nodes}
    if len(reasons) == len(finding.reasons):
        return finding
    if not reasons:
        return None
    return finding.model_copy(update={"nodes": tuple(reasons), "reasons": reasons, "evidence": sentence(reasons)})


def besides(snapshot: Snapshot) -> str:
    """The end of a summary that concerns only some nodes: how many others there are; empty if it concerns all."""
    others = len(snapshot.cluster.nodes) - len(snapshot.selected)
    return f"; {counted(others, 'node')} not selected" if others else ""
