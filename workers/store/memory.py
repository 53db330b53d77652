"""The run store of one process: for tests, and for reading a cluster without a broker."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from typing_extensions import override

from workers.errors import ClusterLocked, Conflict, RecordRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, StepOutcome, now
from workers.store.chain import Chain, created_event, ended_event
from workers.store.holds import Observer, hold, holder_of, next_number
from workers.store.memory_data import KeptRun, Shared
from workers.store.memory_kept import MemoryKept
from workers.store.port import (
    ANY_CLAIM,
    MEASURED,
    Beginning,
    Begun,
    Finished,
    Finishing,
    Look,
    RunStore,
    event_position,
    ignore_refused,
    in_order,
)

__all__ = ["MemoryStore"]


class MemoryStore(MemoryKept, RunStore):
    """A RunStore in the memory of one process.

    Args:
        clock: monotonic seconds.
        beside: another store, whose data this one shares, as two processes share a server.
    """

    _shared: Shared

    def __init__(self, clock: Callable[[], float] = time.monotonic, beside: "MemoryStore | None" = None) -> None:
        shared = beside._shared if beside else Shared()  # noqa: SLF001 - of the same class
        super().__init__(shared.shelf, clock)
        self._shared, self._observer = shared, Observer(clock)
        self._lock, self._runs, self._keys, self._holds = shared.lock, shared.runs, shared.keys, shared.holds
        self._servers = shared.servers

    def _kept(self, run_id: str, *, beat: bool = False) -> KeptRun:
        kept = self._runs.get(run_id)
        if kept is None:
            raise RunUnknown(f"there is no run {run_id}")
        if beat:
            kept.pulse = next(self._shared.pulses)
        return kept

    @override
    def create(self, record: RunRecord) -> RunRecord:
        with self._lock:
            first = self._keys.get((record.scope, record.key), record.id)
            if first in self._runs:
                return self._runs[first].record
            stored = record.model_copy(update={"version": 0})
            self._runs[record.id] = KeptRun(stored, next(self._shared.pulses))
            self._runs[record.id].note(created_event(stored))
            if record.key:
                self._keys[record.scope, record.key] = record.id
            return stored

    @override
    def keyed(self, scope: str, key: str) -> str:
        with self._lock:
            return self._keys.get((scope, key), "")

    @override
    def run(self, run_id: str) -> RunRecord:
        with self._lock:
            return self._kept(run_id).record

    @override
    def look(self, run_id: str) -> Look:
        with self._lock:
            record = self.run(run_id)
            counts = self.counts(run_id, record.turn.name) if record.turn else {}
            return Look(record, self.flags(run_id), counts, self.progress(run_id))

    @override
    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = ignore_refused) -> tuple[RunRecord, ...]:
        del refused  # data in the own memory is never damaged
        with self._lock:
            newest = list(self._runs.values())[::-1]
            return tuple(kept.record for kept in newest[: max(0, limit)])

    @override
    def names(self, limit: int = 1000) -> tuple[str, ...]:
        with self._lock:
            return tuple(list(self._runs)[::-1][: max(0, limit)])

    @override
    def time_of_day(self) -> datetime:
        return now()

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
            self._kept(record.id, beat=True)
            if kept.record.state is RunState.CONCLUDED:
                kept.ended = True
                self._unlock(record.id)
            return kept.record

    @override
    def forget(self, run_id: str) -> None:
        with self._lock:
            kept = self._runs.pop(run_id, None)
            if kept is None:
                return
            for key in [key for key, run in self._keys.items() if run == run_id]:
                del self._keys[key]
            self._unlock(run_id)

    @override
    def progress(self, run_id: str) -> float:
        with self._lock:
            return self._observer.unchanged(f"pulse {run_id}", str(self._kept(run_id).pulse))

    @override
    def flag(self, run_id: str, name: str, value: str = "1", *events: Event) -> None:
        with self._lock:
            flags = self._kept(run_id).flags
            if flags.pop(name, "") != value:
                for event in events:
                    self.note(run_id, event)
            if value:
                flags[name] = value

    @override
    def flags(self, run_id: str) -> dict[str, str]:
        with self._lock:
            return dict(self._runs[run_id].flags) if run_id in self._runs else {}

    @override
    def begin(self, beginning: Beginning) -> Begun | None:
        with self._lock:
            kept = self._kept(beginning.run)
            if kept.record.version != beginning.version:
                return None
            steps = ((beginning.turn, beginning.node, step) for step in (beginning.earlier, beginning.step))
            before, own = (kept.outcomes.get(step) for step in steps)
            documents = {(kind, name): kept.documents.get(kind, {}).get(name) for kind, name in beginning.documents}
            begun = Begun(flags=dict(kept.flags), before=before, outcome=own, documents=documents)
            if not beginning.ready(begun):
                return begun
            node, may_write = beginning.node, not kept.locked or self._has_servers(beginning.run)
            if may_write and not kept.places.admits(beginning, self.leases(beginning.run)):
                return replace(begun, waits=True)
            claim = self._claim(beginning.run, node, beginning.holder, beginning.ttl) if may_write else None
            if claim is not None and beginning.tried(kept.flags, before):
                kept.note(beginning.event)
            number, owner = self._shared.numbers.get((kept.record.cluster, node), (0, ""))
            return replace(begun, claim=claim, number=number if owner == beginning.run else 0)

    @override
    def finish(self, finishing: Finishing) -> Finished:
        outcome = finishing.outcome
        with self._lock:
            kept = self._kept(outcome.run)
            place = (outcome.turn, outcome.node, outcome.step)
            late = finishing.fence not in {kept.fences.get(outcome.node, 0), ANY_CLAIM}
            released = holder_of(kept.leases.get(outcome.node, "")) == finishing.holder != "" and not late
            if released:
                self.release(outcome.run, outcome.node, finishing.holder)
            following = "" if late else kept.places.ended(finishing, released=released, kept=place not in kept.outcomes)
            if place not in kept.outcomes:
                if late:
                    raise Conflict(f"another worker has taken over node {outcome.node}")
                kept.outcomes[place] = outcome
                for (kind, name), text in finishing.documents.items():
                    kept.documents.setdefault(kind, {})[name] = text
                kept.note(ended_event(outcome))
                self._kept(outcome.run, beat=True)
            done = sum(1 for turn, _, _ in kept.outcomes if turn == outcome.turn) if finishing.of else 0
            return Finished(kept.outcomes[place], bool(finishing.of) and done >= finishing.of, following)

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
    def counts(self, run_id: str, turn: str) -> dict[str, int]:
        with self._lock:
            kept = self._runs.get(run_id)
            return dict(Counter(node for of, node, _ in (kept.outcomes if kept else ()) if of == turn))

    @override
    def note(self, run_id: str, event: Event) -> Event:
        with self._lock:
            if self._kept(run_id).ended:
                return event
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
            self._kept(run_id, beat=kind not in MEASURED).documents.setdefault(kind, {})[name] = document

    @override
    def document(self, run_id: str, kind: str, name: str) -> str | None:
        return self.documents(run_id, kind).get(name)

    @override
    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        return self.documents_of(run_id, (kind,))[kind]

    @override
    def documents_of(self, run_id: str, kinds: Iterable[str]) -> dict[str, dict[str, str]]:
        with self._lock:
            kept = self._runs.get(run_id)
            return {kind: dict(kept.documents.get(kind, {})) if kept else {} for kind in kinds}

    def _claim(self, run_id: str, node: str, holder: str, ttl: float) -> int | None:
        with self._lock:
            kept = self._kept(run_id)
            if holder_of(kept.leases.get(node, "")) != holder:
                if node in self.leases(run_id):
                    return None
                kept.fences[node] = kept.fences.get(node, 0) + 1
            kept.leases[node] = hold(holder, ttl)
            self._kept(run_id, beat=True)
            return kept.fences[node]

    @override
    def renew(self, run_id: str, nodes: Collection[str], holder: str, ttl: float) -> frozenset[str]:
        with self._lock:
            kept = self._runs.get(run_id)
            held = {node for node in nodes if kept and holder_of(kept.leases.get(node, "")) == holder}
            if kept and held:
                kept.leases.update({node: hold(holder, ttl) for node in held})
                self._kept(run_id, beat=True)
            return frozenset(held)

    @override
    def release(self, run_id: str, node: str, holder: str) -> None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept and holder_of(kept.leases.get(node, "")) == holder:
                del kept.leases[node]

    @override
    def leases(self, run_id: str) -> dict[str, str]:
        with self._lock:
            gone = self._lapsed(run_id)
            held = self._runs[run_id].leases if run_id in self._runs else {}
            return {node: holder_of(text) or "" for node, text in held.items() if node not in gone}

    @override
    def reap(self, run_id: str) -> tuple[str, ...]:
        with self._lock:
            gone = self._lapsed(run_id)
            for node in gone:
                del self._runs[run_id].leases[node]
            return tuple(sorted(gone))

    def _lapsed(self, run_id: str) -> set[str]:
        held = self._runs[run_id].leases.items() if run_id in self._runs else ()
        return {node for node, text in held if self._observer.lapsed(f"lease {run_id} {node}", text)}

    @override
    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        with self._lock:
            kept = self._kept(run_id)
            if kept.fences.get(node) != fence:
                raise Conflict(f"another worker has taken over node {node}")
            if not self._has_servers(run_id):
                raise ClusterLocked(f"run {run_id} does not have the locks on its servers")
            place = (kept.record.cluster, node)
            number = next_number(*self._shared.numbers.get(place, (0, "")), run_id, seen)
            if number:
                self._shared.numbers[place] = (number, run_id)
            return number

    def _has_servers(self, run_id: str) -> bool:
        return ("run", run_id) in self._holds

    @override
    def has_servers(self, run_id: str) -> bool:
        with self._lock:
            return self._has_servers(run_id) and not self._observer.lapsed(f"run {run_id}", self._holds["run", run_id])

    @override
    def lock_servers(self, servers: Sequence[str], run_id: str, ttl: float) -> str | None:
        with self._lock:
            owners = dict.fromkeys(self._servers[name] for name in servers if name in self._servers)
            others = [run for run in owners if run != run_id and self._has_servers(run)]
            lapsed = [run for run in others if self._observer.lapsed(f"run {run}", self._holds["run", run])]
            live = [run for run in others if run not in lapsed]
            if live:
                self._holds.pop(("run", run_id), None)
                return live[0]
            if run_id in self.active():
                for run in lapsed:
                    del self._holds["run", run]
                self._servers.update(dict.fromkeys(servers, run_id))
                self._holds["run", run_id] = hold(run_id, ttl)
                self._runs[run_id].locked = True
            return None

    def _unlock(self, run_id: str) -> None:
        self._holds.pop(("run", run_id), None)
        for name in [name for name, run in self._servers.items() if run == run_id]:
            del self._servers[name]

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        with self._lock:
            present = self._holds.get(("leader", name), "")
            if holder_of(present) not in {None, holder} and not self._observer.lapsed(f"leader {name}", present):
                return False
            if ttl > 0:
                self._holds["leader", name] = hold(holder, ttl)
            else:
                self._holds.pop(("leader", name), None)
            return True
