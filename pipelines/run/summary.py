"""A run with everything that is known about it, in one value. Pure but for reading the store."""

from dataclasses import dataclass

from pipelines.run.node_results import NodeResult, results
from pipelines.run.plan import Plan
from pipelines.run.snapshot import FINDINGS, Snapshot
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings
from workers.records import RunRecord, StepOutcome

__all__ = ["RunSummary", "summary_of"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Everything that is known about a run. `findings` and `plan` are None until the run has made them."""

    record: RunRecord
    cluster: Cluster
    outcomes: tuple[StepOutcome, ...]
    findings: Findings | None
    plan: Plan | None
    nodes: tuple[NodeResult, ...]  #: one for each node of the cluster


def summary_of(snapshot: Snapshot) -> RunSummary:
    """Everything about a run, as a store has it."""
    run_id = snapshot.record.id
    text = snapshot.store.document(run_id, FINDINGS, "verify") or snapshot.store.document(run_id, FINDINGS, "assess")
    return RunSummary(
        record=snapshot.record,
        cluster=snapshot.cluster,
        outcomes=snapshot.outcomes,
        findings=Findings.model_validate_json(text) if text else None,
        plan=snapshot.plan,
        nodes=results(snapshot),
    )
