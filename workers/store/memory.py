"""The run store of one process: for tests, and for looking at a cluster without a broker."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import override

from workers.errors import Conflict, RunUnknown
from workers.records import Event, RunRecord, RunState, StepOutcome
from workers.store.chain import Chain, asked, ended, linked
from workers.store.port import EVENT_CAP, RunStore, event_position, in_order

__all__ = ["MemoryStore"]


@dataclass
class _Kept:
    """Everything of one run."""

    record: RunRecord
    pulse: float
    outcomes: dict[tuple[str, str, str], StepOutcome] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    leases: dict[str, tuple[float, str]] = field(default_factory=dict)
    documents: dict[str, dict[str, str]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=deque)
    chain: Chain = field(default_factory=Chain)

    def note(self, event: Event) -> Event:
        """Appends one event to the history and to its chain; beyond the cap the oldest goes."""
        count = self.chain.count + 1
        noted = linked(self.chain.head, event.model_copy(update={"id": f"{count}-0"}))
        self.events.append(noted)
        self.chain = self.chain.model_copy(update={"count": count, "head": noted.chain})
        while len(self.events) > EVENT_CAP:
            gone = self.events.popleft()
            self.chain = self.chain.model_copy(update={"dropped": self.chain.dropped + 1, "root": gone.chain})
        return noted


class MemoryStore(RunStore):
    """A RunStore that ends with its process. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._runs: dict[str, _Kept] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._holds: dict[tuple[str, str], tuple[float, str]] = {}

    def _kept(self, run_id: str, *, beat: bool = False) -> _Kept:
        kept = self._runs.get(run_id)
        if kept is None:
            raise RunUnknown(f"there is no run {run_id}")
        if beat:
            kept.pulse = self._clock()
        return kept

    @override
    def create(self, record: RunRecord) -> RunRecord:
        with self._lock:
            first = self._keys.get((record.cluster, record.key), record.id) if record.key else record.id
            if first in self._runs:
                return self._runs[first].record
            stored = record.model_copy(update={"version": 0})
            self._runs[record.id] = _Kept(stored, self._clock())
            self._runs[record.id].note(asked(stored))
            if record.key:
                self._keys[record.cluster, record.key] = record.id
            return stored

    @override
    def keyed(self, cluster: str, key: str) -> str:
        with self._lock:
            return self._keys.get((cluster, key), "")

    @override
    def run(self, run_id: str) -> RunRecord:
        with self._lock:
            return self._kept(run_id).record

    @override
    def runs(self, limit: int = 20) -> tuple[RunRecord, ...]:
        with self._lock:
            newest = list(self._runs.values())[::-1]
            return tuple(kept.record for kept in newest[: max(0, limit)])

    @override
    def active(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(
                sorted(name for name, kept in self._runs.items() if kept.record.state is not RunState.CONCLUDED)
            )

    @override
    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        with self._lock:
            kept = self._kept(record.id)
            if kept.record.version != record.version:
                return None
            kept.record = record.model_copy(update={"version": record.version + 1})
            for event in events:
                kept.note(event)
            kept.pulse = self._clock()
            if kept.record.state is RunState.CONCLUDED:
                self._unlock(kept.record.cluster, record.id)
            return kept.record

    @override
    def forget(self, run_id: str) -> None:
        with self._lock:
            kept = self._runs.pop(run_id, None)
            if kept is None:
                return
            self._keys = {key: run for key, run in self._keys.items() if run != run_id}
            self._unlock(kept.record.cluster, run_id)

    @override
    def progress(self, run_id: str) -> float:
        with self._lock:
            return self._clock() - self._kept(run_id).pulse

    @override
    def flag(self, run_id: str, name: str, value: str = "1") -> None:
        with self._lock:
            flags = self._kept(run_id).flags
            flags.pop(name, None)
            if value:
                flags[name] = value

    @override
    def flags(self, run_id: str) -> dict[str, str]:
        with self._lock:
            return dict(self._runs[run_id].flags) if run_id in self._runs else {}

    @override
    def record(self, outcome: StepOutcome, fence: int) -> StepOutcome:
        with self._lock:
            kept = self._kept(outcome.run)
            place = (outcome.turn, outcome.node, outcome.step)
            if place in kept.outcomes:
                return kept.outcomes[place]
            if fence < kept.fences.get(outcome.node, 0):
                raise Conflict(f"another worker has taken over node {outcome.node}")
            kept.outcomes[place] = outcome
            kept.note(ended(outcome))
            kept.pulse = self._clock()
            return outcome

    @override
    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        with self._lock:
            kept = self._runs.get(run_id)
            return kept.outcomes.get((turn, node, step)) if kept else None

    @override
    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        with self._lock:
            kept = self._runs.get(run_id)
            every = kept.outcomes.values() if kept else ()
            return in_order(outcome for outcome in every if turn in {None, outcome.turn})

    @override
    def note(self, run_id: str, event: Event) -> Event:
        with self._lock:
            return self._kept(run_id, beat=True).note(event)

    @override
    def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
        start = event_position(after)
        with self._lock:
            kept = self._runs.get(run_id)
            later = [event for event in kept.events if event_position(event.id) > start] if kept else []
            return tuple(later[: max(0, limit)])

    @override
    def chain(self, run_id: str) -> Chain:
        with self._lock:
            return self._runs[run_id].chain if run_id in self._runs else Chain()

    @override
    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        with self._lock:
            self._kept(run_id, beat=True).documents.setdefault(kind, {})[name] = document

    @override
    def document(self, run_id: str, kind: str, name: str) -> str | None:
        return self.documents(run_id, kind).get(name)

    @override
    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        with self._lock:
            kept = self._runs.get(run_id)
            return dict(kept.documents.get(kind, {})) if kept else {}

    @override
    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        with self._lock:
            kept = self._kept(run_id)
            ends, holds = kept.leases.get(node, (0.0, None))
            if holds is not None and holds != holder:
                if ends > self._clock():
                    return None
                holds = None
            if holds is None:
                if limit and sum(1 for until, _ in kept.leases.values() if until > self._clock()) >= limit:
                    return None
                kept.fences[node] = max(kept.fences.get(node, 0) + 1, int(time.time() * 1000))
            kept.leases[node] = (self._clock() + ttl, holder)
            kept.pulse = self._clock()
            return kept.fences[node]

    @override
    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None or kept.leases.get(node, (0.0, None))[1] != holder:
                return False
            kept.leases[node] = (self._clock() + ttl, holder)
            kept.pulse = self._clock()
            return True

    @override
    def release(self, run_id: str, node: str, holder: str) -> None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept and kept.leases.get(node, (0.0, None))[1] == holder:
                del kept.leases[node]

    @override
    def leases(self, run_id: str) -> dict[str, str]:
        with self._lock:
            kept = self._runs.get(run_id)
            held = kept.leases.items() if kept else ()
            return {node: holder for node, (ends, holder) in held if ends > self._clock()}

    def _hold(self, kind: str, name: str, holder: str, ttl: float) -> str:
        with self._lock:
            ends, holds = self._holds.get((kind, name), (0.0, holder))
            if holds != holder and ends > self._clock():
                return holds
            self._holds[kind, name] = (self._clock() + ttl, holder)
            return holder

    @override
    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        with self._lock:
            # Whoever has ended takes it for no time at all, and so is told who else has it.
            holder = self._hold("cluster", cluster, run_id, ttl if run_id in self.active() else 0.0)
            return None if holder == run_id else holder

    def _unlock(self, cluster: str, run_id: str) -> None:
        if self._holds.get(("cluster", cluster), (0.0, ""))[1] == run_id:
            del self._holds["cluster", cluster]

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        return self._hold("leader", name, holder, ttl) == holder
