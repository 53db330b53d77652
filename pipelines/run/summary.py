"""A run with everything that is known about it, in one value. Pure, apart from reading the store."""

from dataclasses import dataclass

from pipelines.run.kinds import Kind
from pipelines.run.node_results import NodeResult, results
from pipelines.run.plan import Plan
from pipelines.run.snapshot import Snapshot
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings
from workers.records import DocumentKind, RunRecord, StepOutcome
from workers.store.port import RunStore

__all__ = ["RunSummary", "findings_of", "summary_of"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Everything that is known about a run. `findings` and `plan` are None until the run has made them."""

    record: RunRecord
    cluster: Cluster
    outcomes: tuple[StepOutcome, ...]
    findings: Findings | None
    plan: Plan | None
    nodes: tuple[NodeResult, ...]  #: one for each node of the cluster
    kind: Kind


def findings_of(store: RunStore, run_id: str) -> Findings | None:
    """The newest findings of a run about its cluster; None until there are any."""
    findings = store.documents(run_id, DocumentKind.FINDINGS)
    text = findings.get("verify") or findings.get("assess")
    return Findings.model_validate_json(text) if text else None


def summary_of(snapshot: Snapshot, kind: Kind) -> RunSummary:
    """Everything about a run, as a store has it."""
    return RunSummary(
        record=snapshot.record,
        cluster=snapshot.cluster,
        outcomes=snapshot.outcomes,
        findings=findings_of(snapshot.store, snapshot.record.id),
        plan=snapshot.plan,
        nodes=results(snapshot, kind),
        kind=kind,
    )
