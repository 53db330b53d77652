"""A run as the store has it now: what decisions are made from."""

from dataclasses import dataclass, field
from functools import cached_property

from pipelines.run.plan import Plan
from tasks.cluster import Cluster
from tasks.documents import RunDocuments
from tasks.steering import Steering
from workers.records import DocumentKind, RunRecord, StepOutcome, Turn, Verdict
from workers.store.port import RunStore

__all__ = ["Go", "Snapshot", "Stop"]


@dataclass(frozen=True, slots=True)
class Go:
    """The run goes on."""

    plan_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends here."""

    verdict: Verdict
    summary: str


@dataclass(frozen=True)
class Snapshot:
    """A run as the store has it now."""

    record: RunRecord
    store: RunStore
    documents: RunDocuments
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cluster", Cluster.of_run(self.record))

    @cached_property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """All outcomes so far."""
        return self.store.outcomes(self.record.id)

    @cached_property
    def plan(self) -> Plan | None:
        """The run's plan, once it is made."""
        document = self.store.document(self.record.id, DocumentKind.PLAN, DocumentKind.PLAN)
        return Plan.model_validate_json(document) if document else None

    @property
    def steering(self) -> Steering:
        """What operators ask of it now."""
        return Steering.of(self.store.flags(self.record.id))

    def of_stage(self, stage: str) -> dict[str, StepOutcome]:
        """The last outcome of each node in the turns of a stage."""
        turns = {turn.name for turn in self.record.turns if turn.stage == stage}
        ordered = sorted((o for o in self.outcomes if o.turn in turns), key=lambda o: o.ended)
        return {outcome.node: outcome for outcome in ordered}

    def unfinished(self, turn: Turn) -> dict[str, int]:
        """Nodes of a turn that lack an outcome, and how many of its steps they have."""
        counts = dict.fromkeys(turn.nodes, 0)
        for outcome in self.outcomes:
            if outcome.turn == turn.name and outcome.node in counts:
                counts[outcome.node] += 1
        return {node: count for node, count in counts.items() if count < len(turn.steps)}

    def in_stage(self, stage: str) -> set[str]:
        """Nodes that had their turn in a stage."""
        return {node for turn in self.record.turns if turn.stage == stage for node in turn.nodes}

    def ended(self) -> dict[str, StepOutcome]:
        """Nodes that take no further part, with the outcome that ended them (the first one that did)."""
        ended: dict[str, StepOutcome] = {}
        for outcome in sorted(self.outcomes, key=lambda o: o.ended):
            if outcome.status.ends_node:
                ended.setdefault(outcome.node, outcome)
        return ended
