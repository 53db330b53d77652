"""The run store in Redis or Valkey: every transition is one small script on the server.

Durability: with `appendfsync everysec` (in the embedded server and the compose file) an acknowledged write survives the
end of the server process; when its machine fails, the last second is lost. That is enough: after a lost outcome the
step runs again, and observes before it acts. docs/decisions has the measurements of the alternative.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from redis import Redis
from typing_extensions import override

from workers.errors import Conflict, RecordRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, StepOutcome
from workers.secrets.seal import Seal
from workers.store.chain import Chain, created_event, digest_of, ended_event, without_link
from workers.store.damage import damage_reported, reports_damage
from workers.store.port import EVENT_CAP, RunStore, event_position, ignore_refused, in_order
from workers.store.redis_holds import RedisHolds

__all__ = ["RedisStore"]

REMEMBERED_RUNS = 32  #: parsed records that this process keeps, so that reading a run again is one small request


def _place(*words: str) -> str:
    """A field of a hash from several words; no name contains the separator."""
    return "\x1f".join(words)


def _noting(*events: Event) -> list[str | int]:
    """The arguments of a script for noting these events."""
    bare = [without_link(event) for event in events]
    return [EVENT_CAP, *(text for event in bare for text in (digest_of(event), event.to_json()))]


def _active(record: RunRecord) -> str:
    return "0" if record.state is RunState.CONCLUDED else "1"


class RedisStore(RedisHolds, RunStore):
    """A RunStore that all processes share.

    Args:
        client: from `connect`; shared by all threads.
        seal: recognises the records of this installation.
        prefix: of every key.
        patience: seconds for which a request is repeated while the server does not answer.
        clock: monotonic seconds, for the lapse of holds.
    """

    def __init__(
        self,
        client: Redis,
        seal: Seal,
        prefix: str = "esync:",
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, prefix, patience, clock)
        self._seal = seal
        self._remembered: OrderedDict[str, tuple[str, RunRecord]] = OrderedDict()
        self._lock = Lock()

    # Seals

    def _sealed_run(self, record: RunRecord) -> str:
        return self._seal.sealed(("run", record.id), record.to_json())

    def _opened_run(self, run_id: str, text: str) -> RunRecord:
        with damage_reported(run_id):
            return RunRecord.model_validate_json(self._seal.opened(("run", run_id), text))

    def _opened_outcome(self, run_id: str, turn: str, place: str, text: str) -> StepOutcome:
        with damage_reported(run_id, "outcome"):
            return StepOutcome.model_validate_json(self._seal.opened(("outcome", run_id, turn, place), text))

    # Runs

    @override
    @reports_damage("record")
    def create(self, record: RunRecord) -> RunRecord:
        stored = record.model_copy(update={"version": 0})
        keys = [self._of(record.id), self._key("runs"), self._key("active"), self._key("sequence")]
        keys.append(self._of(record.id, "events"))
        if record.key:
            keys.append(self._key("key", record.cluster, record.key))
        arguments = (record.id, uuid.uuid4().hex, self._sealed_run(stored), record.cluster, _active(record))
        present = self._call("create", keys, *arguments, self._of(""), *_noting(created_event(stored)))
        if present is None:
            return stored
        found = self._opened_run(*present)
        if found.id != record.id and (found.cluster, found.key) != (record.cluster, record.key):
            raise RecordRefused(found.id, f"the key {record.key!r} of cluster {record.cluster} names another run")
        return found

    @override
    def keyed(self, cluster: str, key: str) -> str:
        return str(self._ask(lambda redis: redis.get(self._key("key", cluster, key))) or "")

    @override
    @reports_damage("record")
    def run(self, run_id: str) -> RunRecord:
        # The token identifies one write. A record is large (the cluster as data, 1,000 nodes), a token is small.
        token = self._ask(lambda redis: redis.hget(self._of(run_id), "token"))
        with self._lock:
            known = self._remembered.get(run_id)
            if known and known[0] == token:
                self._remembered.move_to_end(run_id)
                return known[1]
        return self._read_run(run_id)

    def _read_run(self, run_id: str) -> RunRecord:
        with damage_reported(run_id):
            token, text = self._ask(lambda redis: redis.hmget(self._of(run_id), ["token", "record"]))
        if text is None:
            raise RunUnknown(f"there is no run {run_id}")
        return self._remember(token, self._opened_run(run_id, text))

    def _remember(self, token: str, record: RunRecord) -> RunRecord:
        with self._lock:
            self._remembered[record.id] = (token, record)
            self._remembered.move_to_end(record.id)
            while len(self._remembered) > REMEMBERED_RUNS:
                self._remembered.popitem(last=False)
        return record

    @override
    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = ignore_refused) -> tuple[RunRecord, ...]:
        if limit < 1:
            return ()
        names = self._ask(lambda redis: redis.zrevrange(self._key("runs"), 0, limit - 1))
        found: list[RunRecord] = []
        for name, text in zip(names, self._texts(names), strict=True):
            try:
                found += [self._opened_run(name, text)] if isinstance(text, str) else []
                found += [self._read_run(name)] if isinstance(text, Exception) else []
            except RecordRefused as error:
                refused(error)
            except RunUnknown:
                pass
        return tuple(found)

    def _texts(self, names: list[str]) -> list[Any]:
        """The stored texts of these runs in one pipeline; an exception in place of one that cannot be read so."""
        try:
            return self._pipe(lambda pipe: [pipe.hget(self._of(name), "record") for name in names], raising=False)
        except UnicodeDecodeError as error:
            return [error] * len(names)

    @override
    def active(self) -> tuple[str, ...]:
        return tuple(sorted(self._ask(lambda redis: redis.smembers(self._key("active")))))

    @override
    @reports_damage("record")
    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        stored = record.model_copy(update={"version": record.version + 1})
        token = uuid.uuid4().hex
        keys = [self._of(record.id), self._key("active"), self._of(record.id, "events")]
        keys.append(self._key("lock", record.cluster))
        written = (record.id, record.version, token, self._sealed_run(stored), _active(record))
        kept = self._call("save", keys, *written, *_noting(*events))
        if kept == -1:
            raise RunUnknown(f"there is no run {record.id}")
        return self._remember(token, stored) if kept else None

    @override
    @reports_damage("record")
    def forget(self, run_id: str) -> None:
        own = [self._of(run_id, part) for part in ("index", "leases", "fences", "events", "flags")]
        keys = [self._of(run_id), self._key("runs"), self._key("active"), *own]
        self._call("forget", keys, run_id, self._key("lock", ""))
        with self._lock:
            self._remembered.pop(run_id, None)

    @override
    @reports_damage("record")
    def progress(self, run_id: str) -> float:
        known, pulse = self._ask(lambda redis: redis.hmget(self._of(run_id), ["version", "pulse"]))
        if known is None:
            raise RunUnknown(f"there is no run {run_id}")
        return self._observer.unchanged(self._of(run_id), pulse or "")

    @override
    @reports_damage("flag")
    def flag(self, run_id: str, name: str, value: str = "1") -> None:
        text = self._seal.sealed(("flag", run_id, name), value) if value else ""
        self._write(run_id, "flag", [self._of(run_id, "flags")], name, text)

    @override
    @reports_damage("flag")
    def flags(self, run_id: str) -> dict[str, str]:
        found = self._ask(lambda redis: redis.hgetall(self._of(run_id, "flags")))
        return {name: self._seal.opened(("flag", run_id, name), text) for name, text in found.items()}

    # History

    @override
    @reports_damage("outcome")
    def record(self, outcome: StepOutcome, fence: int) -> StepOutcome:
        place = _place(outcome.node, outcome.step)
        parts = (("outcomes", outcome.turn), ("fences",), ("index",), ("events",))
        keys = [self._of(outcome.run, *words) for words in parts]
        text = self._seal.sealed(("outcome", outcome.run, outcome.turn, place), outcome.to_json())
        written = (place, outcome.node, fence, text)
        answer = self._write(outcome.run, "record", keys, *written, *_noting(ended_event(outcome)))
        if answer[0] == "late":
            raise Conflict(f"another worker has taken over node {outcome.node}")
        if answer[0] == "kept":
            return outcome
        return self._opened_outcome(outcome.run, outcome.turn, place, answer[1])

    @override
    @reports_damage("outcome")
    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        place = _place(node, step)
        text = self._ask(lambda redis: redis.hget(self._of(run_id, "outcomes", turn), place))
        return None if text is None else self._opened_outcome(run_id, turn, place, text)

    @override
    @reports_damage("outcome")
    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        start = self._of(run_id, "outcomes", "")
        if turn is None:
            every = self._ask(lambda redis: redis.smembers(self._of(run_id, "index")))
            turns = [key.removeprefix(start) for key in every if key.startswith(start)]
        else:
            turns = [turn]
        found = self._pipe(lambda pipe: [pipe.hgetall(start + name) for name in turns])
        return in_order(
            self._opened_outcome(run_id, name, place, text)
            for name, texts in zip(turns, found, strict=True)
            for place, text in texts.items()
        )

    @override
    @reports_damage("history")
    def note(self, run_id: str, event: Event) -> Event:
        event_id, chain = self._write(run_id, "note", [self._of(run_id, "events")], *_noting(event))
        return event.model_copy(update={"id": event_id, "chain": chain})

    @override
    @reports_damage("history")
    def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
        start = "({}-{}".format(*event_position(after)) if after else "-"
        if limit < 1:
            return ()
        entries = self._ask(lambda redis: redis.xrange(self._of(run_id, "events"), min=start, count=limit))
        return tuple(
            Event.model_validate_json(fields["event"]).model_copy(update={"id": event_id, "chain": fields["chain"]})
            for event_id, fields in entries
        )

    @override
    @reports_damage("history")
    def chain(self, run_id: str) -> Chain:
        names = ("count", "dropped", "root", "head")
        values = self._ask(lambda redis: redis.hmget(self._of(run_id), names))
        return Chain.model_validate({name: value for name, value in zip(names, values, strict=True) if value})

    @override
    @reports_damage("document")
    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        text = self._seal.sealed(("document", run_id, kind, name), document)
        self._write(run_id, "put", [self._of(run_id, "documents", kind), self._of(run_id, "index")], name, text)

    @override
    @reports_damage("document")
    def document(self, run_id: str, kind: str, name: str) -> str | None:
        text = self._ask(lambda redis: redis.hget(self._of(run_id, "documents", kind), name))
        return None if text is None else self._seal.opened(("document", run_id, kind, name), text)

    @override
    @reports_damage("document")
    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        found = self._ask(lambda redis: redis.hgetall(self._of(run_id, "documents", kind)))
        return {name: self._seal.opened(("document", run_id, kind, name), text) for name, text in found.items()}
