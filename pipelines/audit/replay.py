"""A run decided again from its evidence, with the same functions that decided it: whoever has the evidence can."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.rollout import kind_of
from pipelines.run.evidence import Evidence
from pipelines.run.snapshot import Snapshot, Stop
from pipelines.run.transitions import Next, after, first
from tasks.documents import RunDocuments
from tasks.ektron.wording import counted
from tasks.steering import CANCEL
from workers.errors import BundleRefused
from workers.records import DocumentKind, RunRecord, RunState, StepOutcome, Turn, Verdict
from workers.secrets.vault import Vault
from workers.store.memory import MemoryStore

__all__ = ["Replay", "replay"]


@dataclass(frozen=True, slots=True)
class Replay:
    """How the run ends by its evidence, and what was concluded on the way."""

    stop: Stop
    decisions: int
    snapshot: Snapshot


def replay(record: RunRecord, outcomes: Iterable[StepOutcome], evidence: Evidence, flags: Mapping[str, str]) -> Replay:
    """Goes through the run's turns again.

    Args:
        record: the run as it ended.
        outcomes: of all its steps.
        evidence: what its decisions read.
        flags: those that were up; of them `cancel` decides.

    Raises:
        BundleRefused: the evidence leads somewhere else than the run went.
    """
    again = _Again(record, tuple(outcomes), evidence)
    if record.verdict is Verdict.LOCKED and not record.turns:
        return again.ended(Stop(Verdict.LOCKED, record.summary))
    step = again.begun()
    for turn in record.turns:
        if step != turn:
            raise BundleRefused(f"the evidence leads to {_named(step)}, where the run had {_named(turn)}")
        if record.verdict is Verdict.CANCELLED and turn is record.turns[-1]:
            again.store.flag(record.id, CANCEL, flags.get(CANCEL, ""))
        step = again.take(turn)
    if not isinstance(step, Stop):
        raise BundleRefused(f"by the evidence the run had to go on with {_named(step)}")
    return again.ended(step)


class _Again:
    """The run on its way, in a store of its own."""

    def __init__(self, record: RunRecord, outcomes: tuple[StepOutcome, ...], evidence: Evidence) -> None:
        given = bool(
            evidence.get(DocumentKind.PLANNED)
        )  # a saved plan was applied; else the run made its own, and does so again
        update: dict[str, object] = {"state": RunState.RUNNING, "turns": (), "joined": (), "verdict": None}
        update |= {"summary": "", "ended": None, "plan_fingerprint": record.plan_fingerprint if given else ""}
        self.store = MemoryStore()
        self.record = self.store.create(record.model_copy(update=update))
        self.decisions = 0
        self._kind = kind_of(record.kind, record.id)
        self._outcomes = outcomes
        for kind, documents in evidence.items():
            if kind != DocumentKind.FINDINGS and (given or kind != DocumentKind.PLAN):
                for name, text in documents.items():
                    self.store.put(record.id, kind, name, text)

    def snapshot(self) -> Snapshot:
        """As the store has it now."""
        return Snapshot(self.record, self.store, RunDocuments(self.store, Vault(self.store, None), self.record.id))

    def begun(self) -> Turn | Stop:
        """The first turn, or the end."""
        return self._saved(first(self._kind, self.snapshot()))

    def take(self, turn: Turn) -> Turn | Stop:
        """What follows a turn."""
        self.record = self.record.model_copy(update={"turns": (*self.record.turns, turn)})
        for outcome in self._outcomes:
            if outcome.turn == turn.name:
                self.store.record(outcome, 0)
        snapshot = self.snapshot()
        if missing := snapshot.unfinished(turn):
            raise BundleRefused(f"{turn.name} was decided without all outcomes of {', '.join(sorted(missing))}")
        self.decisions += 1
        return self._saved(after(self._kind, snapshot, turn))

    def _saved(self, decision: Next | Stop) -> Turn | Stop:
        """What the coordinator would have saved, in the store of this replay."""
        for document in decision.documents:
            self.store.put(self.record.id, document.kind, document.name, document.text)
        if isinstance(decision, Stop):
            return decision
        self.record = decision.snapshot.record
        return decision.turn

    def ended(self, stop: Stop) -> Replay:
        """The end of the run."""
        return Replay(stop, self.decisions, self.snapshot())


def _named(step: Turn | Stop) -> str:
    if isinstance(step, Stop):
        return f"the verdict {step.verdict.value}"
    return f"the turn {step.name} of {counted(len(step.nodes), 'node')}"
