"""A run as it is in the store now, the input of every decision; and a decision, a value that the coordinator saves."""

from collections.abc import KeysView, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pipelines.run.plan import Plan
from tasks.cluster import Cluster
from tasks.documents import RunDocuments
from tasks.steering import Steering
from workers.records import DocumentKind, RunRecord, StepOutcome, Turn, Verdict
from workers.store.documents import document_as
from workers.store.port import Look, RunStore

__all__ = ["ABANDONED", "RETRY", "UNDRAIN_STAGE", "WAVE_STAGE", "Document", "Go", "Reading", "Snapshot", "Stop"]

ABANDONED = "abandoned"  #: slug of a step that did not end: a worker may still be in it
UNDRAIN_STAGE = "undrain"  #: the stage in which servers get requests again that were taken out of their balancer
WAVE_STAGE = "wave"  #: the stage that changes nodes
RETRY = "retry"  #: the stage in which nodes that ended in it before begin again


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a decision adds to the store. It contains no secret."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Go:
    """The run continues.

    Attributes:
        plan: the plan that this decision has made, if any.
        documents: to be saved before the run continues; the plan is one of them.
    """

    plan: Plan | None = None
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends here.

    Attributes:
        summary: one sentence for people.
        documents: to be saved with the verdict.
    """

    verdict: Verdict
    summary: str
    documents: tuple[Document, ...] = ()


class Reading:
    """What a decision has read of its run: each thing once, so that all parts of the decision see the same.

    Args:
        store: the run store.
        run_id: the run.
    """

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.store = store
        self._run = run_id
        self._counts: dict[str, Mapping[str, int]] = {}
        self._documents: dict[str, Mapping[str, str]] = {}

    def know(self, look: Look) -> None:
        """Takes over what was read with the run."""
        self.steering = Steering.from_flags(look.flags)
        self.idle = look.idle
        if look.record.turn is not None:
            self._counts[look.record.turn.name] = look.counts

    @cached_property
    def idle(self) -> float:
        """Seconds without progress, as this process has seen the run."""
        return self.store.progress(self._run)

    @cached_property
    def steering(self) -> Steering:
        """What operators have requested."""
        return Steering.of(self.store, self._run)

    @cached_property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """All outcomes so far, in the order the steps ended."""
        return self.store.outcomes(self._run)

    def counts(self, turn: str) -> Mapping[str, int]:
        """Node -> number of its outcomes in a turn; for nodes that have one at least."""
        if turn not in self._counts:
            self._counts[turn] = self.store.counts(self._run, turn)
        return self._counts[turn]

    @cached_property
    def plan(self) -> Plan | None:
        """The plan of the run; None until it is saved."""
        document = self.documents(DocumentKind.PLAN).get(DocumentKind.PLAN)
        return document_as(Plan, document, self._run) if document else None

    def documents(self, kind: str) -> Mapping[str, str]:
        """All documents of a kind, by name."""
        if kind not in self._documents:
            self._documents[kind] = self.store.documents(self._run, kind)
        return self._documents[kind]


@dataclass(frozen=True)
class Snapshot:
    """A run as it is in the store now. Never writes.

    Attributes:
        read: what was read of it.
        decided: the plan that a decision has just made and that is not saved yet.
    """

    record: RunRecord
    read: Reading
    documents: RunDocuments
    decided: Plan | None = None
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cluster", Cluster.of_run(self.record))

    @property
    def store(self) -> RunStore:
        """Where the run is."""
        return self.read.store

    @property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """All outcomes so far."""
        return self.read.outcomes

    @property
    def plan(self) -> Plan | None:
        """The plan of the run; None until it is made."""
        return self.decided or self.read.plan

    @cached_property
    def selected(self) -> KeysView[str]:
        """The nodes that the run may change, in the order of the cluster file: those the operator named, or all."""
        only = frozenset(self.record.only)
        return {name: None for name in self.cluster.node_names if not only or name in only}.keys()

    def after(self, decision: Go, joined: str = "") -> "Snapshot":
        """The run as it will be once that decision is saved and the turn of that name is joined."""
        record = self.record
        if joined:
            record = record.model_copy(update={"joined": (*record.joined, joined)})
        if decision.plan is not None:
            record = record.model_copy(update={"plan_fingerprint": decision.plan.fingerprint})
        return replace(self, record=record, decided=decision.plan or self.decided)

    @property
    def steering(self) -> Steering:
        """What operators have requested (pause, resume, cancel)."""
        return self.read.steering

    def of_stage(self, stage: str) -> dict[str, StepOutcome]:
        """The last outcome of each node in the turns of a stage."""
        turns = {turn.name for turn in self.record.turns if turn.stage == stage}
        ordered = sorted((o for o in self.outcomes if o.turn in turns), key=lambda o: o.ended)
        return {outcome.node: outcome for outcome in ordered}

    def unfinished(self, turn: Turn) -> dict[str, int]:
        """The nodes of a turn that lack an outcome, each with the number of its outcomes."""
        counts = self.read.counts(turn.name)
        return {node: counts.get(node, 0) for node in turn.nodes if counts.get(node, 0) < len(turn.steps)}

    def in_stage(self, stage: str) -> set[str]:
        """The nodes that had a turn in a stage."""
        return {node for turn in self.record.turns if turn.stage == stage for node in turn.nodes}

    def last_turn(self, stage: str) -> Turn | None:
        """The last turn of a stage, if it had one."""
        return next((turn for turn in reversed(self.record.turns) if turn.stage == stage), None)

    def ended(self) -> dict[str, StepOutcome]:
        """The nodes that take no further part, each with the first outcome that ended it.

        What ended a node before it began again does not count.
        """
        ended: dict[str, StepOutcome] = {}
        begun = self._begun_again
        places = {turn.name: place for place, turn in enumerate(self.record.turns)} if begun else {}
        for outcome in sorted(self.outcomes, key=lambda o: o.ended):
            earlier = outcome.node in begun and places.get(outcome.turn, 0) < begun[outcome.node]
            if outcome.status.ends_node and not earlier:
                ended.setdefault(outcome.node, outcome)
        return ended

    @cached_property
    def _begun_again(self) -> dict[str, int]:
        """Node -> the place of the last turn in which it began again."""
        turns = enumerate(self.record.turns)
        return {node: place for place, turn in turns if turn.stage == RETRY for node in turn.nodes}
