"""A run with everything that is known about it, in one value. Pure, apart from reading the store."""

from dataclasses import dataclass

from pipelines.run.attested import Asked, asked_of, confirmations_of
from pipelines.run.availability import Availability, availability_of
from pipelines.run.budget import Budget, budget_of
from pipelines.run.kinds import Kind
from pipelines.run.node_results import NodeResult, results
from pipelines.run.plan import Plan
from pipelines.run.snapshot import WAVE_STAGE, Snapshot
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings
from tasks.steering import Steering
from workers.records import DocumentKind, RunRecord, StepOutcome
from workers.store.documents import document_as
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
    asked: tuple[Asked, ...] = ()  #: questions that only a person can answer
    budget: Budget | None = None  #: how many nodes may still fail; None for a run without waves
    availability: tuple[Availability, ...] = ()  #: of the pages behind balancers that were asked
    held: str = ""  #: the turn before which it waits for a person
    unapproved: bool = False  #: whether that is a second person, who approves the plan


def findings_of(store: RunStore, run_id: str) -> Findings | None:
    """The newest findings of a run about its cluster; None until there are any."""
    findings = store.documents(run_id, DocumentKind.FINDINGS)
    text = findings.get("verify") or findings.get("assess")
    return document_as(Findings, text, run_id) if text else None


def summary_of(snapshot: Snapshot, kind: Kind) -> RunSummary:
    """Everything about a run, as a store has it."""
    steering = Steering() if snapshot.record.ended else snapshot.steering
    return RunSummary(
        record=snapshot.record,
        cluster=snapshot.cluster,
        outcomes=snapshot.outcomes,
        findings=findings_of(snapshot.store, snapshot.record.id),
        plan=snapshot.plan,
        nodes=results(snapshot, kind),
        kind=kind,
        asked=_asked(snapshot) if kind.asks else (),
        budget=budget_of(snapshot) if kind.stage(WAVE_STAGE) else None,
        held=steering.held,
        unapproved=steering.unapproved,
        availability=availability_of(snapshot, kind),
    )


def _asked(snapshot: Snapshot) -> tuple[Asked, ...]:
    record = snapshot.record
    return asked_of(snapshot.cluster, confirmations_of(snapshot.store, record), record.created.date())
