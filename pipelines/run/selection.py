"""Findings and summaries of a run on selected nodes. Pure."""

from collections.abc import Collection

from pipelines.run.snapshot import Snapshot, Stop
from pipelines.run.verdict import failures
from tasks.ektron.rules.findings import Finding, Findings, sentence
from tasks.ektron.wording import counted, named
from workers.records import Status, Verdict

__all__ = ["besides", "findings_about", "not_done"]


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


def not_done(snapshot: Snapshot, left: Collection[str] = ()) -> Stop | None:
    """The verdict when some selected nodes are not done; a failed node outweighs an unreachable one.

    Args:
        snapshot: the run.
        left: nodes that had no turn, although they have not ended.
    """
    ended, names = snapshot.ended(), snapshot.selected
    out = [name for name in names if name in ended]
    failed = [name for name in out if ended[name].status is not Status.UNREACHABLE]
    besides = f"{len(names) - len(out) - len(left)} of {len(names)} nodes are done"
    if failed:
        return Stop(Verdict.FAILED, f"{failures(out, ended)}; {besides}")
    if out:
        return Stop(Verdict.UNREACHABLE, f"{named(out)} did not answer; {besides}")
    return Stop(Verdict.FAILED, besides) if left else None
