"""Replays the decisions of a run from its evidence, with the functions that made them in the run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.rollout import kind_of
from pipelines.run.evidence import Evidence
from pipelines.run.snapshot import Reading, Snapshot, Stop
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
    """How the run ends by its evidence, with everything that was concluded before the end."""

    stop: Stop
    decisions: int
    snapshot: Snapshot


def replay(record: RunRecord, outcomes: Iterable[StepOutcome], evidence: Evidence, flags: Mapping[str, str]) -> Replay:
    """Replays the turns of a run.

    Args:
        record: the run as it ended.
        outcomes: of all its steps.
        evidence: the documents that its decisions read.
        flags: those that were set; only `cancel` affects decisions.

    Raises:
        BundleRefused: the evidence leads to other decisions than those of the run.
    """
    replayed = _Replayed(record, tuple(outcomes), evidence)
    if record.verdict is Verdict.LOCKED and not record.turns:
        return replayed.ended(Stop(Verdict.LOCKED, record.summary))
    step = replayed.begun()
    last = _last_that_may_be_cancelled(record)
    for turn in record.turns:
        if _named_as(turn, step) != turn:
            raise BundleRefused(f"by the evidence {_named(step)} comes next, but the run had {_named(turn)}")
        if record.verdict is Verdict.CANCELLED and turn is last:
            replayed.store.flag(record.id, CANCEL, flags.get(CANCEL, ""))
        step = replayed.take(turn)
    if not isinstance(step, Stop):
        raise BundleRefused(f"by the evidence the run should continue with {_named(step)}")
    return replayed.ended(step)


def _named_as(turn: Turn, step: Turn | Stop) -> Turn | Stop:
    """The step; its first turn with a number under the name that a version had which gave that one no number."""
    unnumbered = isinstance(step, Turn) and (step.name, turn.name) == (f"{step.stage}-1", step.stage)
    return step.model_copy(update={"name": turn.name}) if isinstance(step, Turn) and unnumbered else step


def _last_that_may_be_cancelled(record: RunRecord) -> Turn | None:
    """The turn after which the run was cancelled at the latest: what a run owes follows even then."""
    kind = kind_of(record.kind, record.id)
    return next((turn for turn in reversed(record.turns) if not kind.stage_of(turn).always), None)


class _Replayed:
    """The run during the replay, in its own store."""

    def __init__(self, record: RunRecord, outcomes: tuple[StepOutcome, ...], evidence: Evidence) -> None:
        # With a saved plan the run applied that; without one it made its own, and the replay makes it again.
        given = bool(evidence.get(DocumentKind.PLANNED))
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
        """The current state of the run."""
        run, store = self.record.id, self.store
        return Snapshot(self.record, Reading(store, run), RunDocuments(store, Vault(store, None), run))

    def begun(self) -> Turn | Stop:
        """The first turn, or the end."""
        return self._saved(first(self._kind, self.snapshot()))

    def take(self, turn: Turn) -> Turn | Stop:
        """Adds a turn with its outcomes; returns what comes next."""
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
        """The result of the replay."""
        return Replay(stop, self.decisions, self.snapshot())


def _named(step: Turn | Stop) -> str:
    if isinstance(step, Stop):
        return f"the verdict {step.verdict.value}"
    return f"the turn {step.name} of {counted(len(step.nodes), 'node')}"
