"""The run store in Redis or Valkey: every transition is one small script on the server.

Durability: with `appendfsync everysec` (in the embedded server and the compose file) an acknowledged write survives the
end of the server process; when its machine fails, the last second is lost. That is enough: after a lost outcome the
step runs again, and observes before it acts. docs/decisions has the measurements of the alternative.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis
from typing_extensions import override

from workers.errors import Conflict, RecordRefused, RunUnknown
from workers.records import Event, RunRecord, RunState, Status, StepOutcome
from workers.redis.connection import connections_made
from workers.remembered import Remembered
from workers.secrets.seal import Seal
from workers.store.chain import Chain, created_event, digested, ended_event, without_link
from workers.store.damage import damage_reported, reports_damage
from workers.store.holds import hold
from workers.store.port import (
    EVENT_CAP,
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
from workers.store.redis_documents import BASES, RedisDocuments
from workers.store.redis_holds import RedisHolds
from workers.store.redis_kept import RedisKept
from workers.store.sealed_outcomes import SealedOutcomes

__all__ = ["RedisStore"]

#: Characters of the records that this process keeps, so that reading a run again is one small request: 1,000 runs of
#: four nodes, or ten of a thousand.
REMEMBERED = 4_000_000


_BETWEEN = "\x1f"  #: no name contains it
_ENDS_NODE = f" {' '.join(status for status in Status if status.ends_node)} "


def _place(*words: str) -> str:
    """A field of a hash from several words."""
    return _BETWEEN.join(words)


def _places(beginning: Beginning) -> tuple[str, str]:
    """The places of the step and of the one before it; empty when there is none."""
    earlier = _place(beginning.node, beginning.earlier) if beginning.earlier else ""
    return _place(beginning.node, beginning.step), earlier


def _noting(*events: Event) -> list[str | int]:
    """The arguments of a script for noting these events; each with its time in milliseconds, which begins its id."""
    return [EVENT_CAP, *(part for event in events for part in (_milliseconds(event), *digested(without_link(event))))]


def _milliseconds(event: Event) -> int:
    return max(0, int(event.at.timestamp() * 1000))


def _active(record: RunRecord) -> str:
    return "0" if record.state is RunState.CONCLUDED else "1"


def _counted(places: Iterable[str]) -> dict[str, int]:
    """Node -> how many of these places are its own."""
    return dict(Counter(place.rpartition(_BETWEEN)[0] for place in places))


class RedisStore(RedisHolds, RedisKept, RedisDocuments, RunStore):
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
        self._remembered: Remembered[tuple[str, RunRecord]] = Remembered(REMEMBERED)
        self._bases: Remembered[str] = Remembered(BASES)
        self._outcomes = SealedOutcomes(seal)

    # Seals

    def _sealed_run(self, record: RunRecord) -> str:
        return self._seal.sealed(("run", record.id), record.to_json())

    def _opened_run(self, run_id: str, text: str) -> RunRecord:
        with damage_reported(run_id):
            return RunRecord.model_validate_json(self._seal.opened(("run", run_id), text))

    # Runs

    @override
    @reports_damage("record")
    def create(self, record: RunRecord) -> RunRecord:
        stored = record.model_copy(update={"version": 0})
        keys = [self._of(record.id), self._key("runs"), self._key("active"), self._key("sequence")]
        keys.append(self._of(record.id, "events"))
        if record.key:
            keys.append(self._key("key", record.scope, record.key))
        arguments = (record.id, uuid.uuid4().hex, self._sealed_run(stored), record.cluster, _active(record))
        present = self._call("create", keys, *arguments, self._of(""), *_noting(created_event(stored)))
        if present is None:
            return stored
        found = self._opened_run(*present)
        if found.id != record.id and (found.scope, found.key) != (record.scope, record.key):
            raise RecordRefused(found.id, f"the key {record.key!r} of cluster {record.scope} names another run")
        return found

    @override
    def keyed(self, scope: str, key: str) -> str:
        return str(self._ask(lambda redis: redis.get(self._key("key", scope, key))) or "")

    @override
    @reports_damage("record")
    def run(self, run_id: str) -> RunRecord:
        # The token identifies one write. A record is large (the cluster as data, 1,000 nodes), a token is small.
        token = self._ask(lambda redis: redis.hget(self._of(run_id), "token"))
        known = self._remembered.get(run_id)
        if known is not None and known[0] == token:
            return known[1]
        return self._read_run(run_id)

    def _read_run(self, run_id: str) -> RunRecord:
        with damage_reported(run_id):
            token, text = self._ask(lambda redis: redis.hmget(self._of(run_id), ["token", "record"]))
        if text is None:
            raise RunUnknown(f"there is no run {run_id}")
        record = self._opened_run(run_id, text)
        self._remembered.put(run_id, (token, record), len(text))
        return record

    @override
    @reports_damage("record")
    def look(self, run_id: str) -> Look:
        known = self._remembered.get(run_id)
        turn = known[1].turn if known is not None else None
        places_of_turn = self._of(run_id, "outcomes", turn.name if turn else "")
        (token, flags, pulse), places = self._pipe(
            lambda pipe: (pipe.hmget(self._of(run_id), ["token", "flags", "pulse"]), pipe.hkeys(places_of_turn))
        )
        opened, idle = self._opened_flags(run_id, flags), self._idle(run_id, pulse)
        if known is not None and known[0] == token:
            return Look(known[1], opened, _counted(places), idle)
        record = self._read_run(run_id)
        return Look(record, opened, self.counts(run_id, record.turn.name) if record.turn else {}, idle)

    @override
    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = ignore_refused) -> tuple[RunRecord, ...]:
        names = self.names(limit)
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

    @override
    def names(self, limit: int = 1000) -> tuple[str, ...]:
        if limit < 1:
            return ()
        return tuple(self._ask(lambda redis: redis.zrevrange(self._key("runs"), 0, limit - 1)))

    def _texts(self, names: Sequence[str]) -> list[Any]:
        """The stored texts of these runs in one pipeline; an exception in place of one that cannot be read so."""
        try:
            return self._pipe(lambda pipe: [pipe.hget(self._of(name), "record") for name in names], raising=False)
        except UnicodeDecodeError as error:
            return [error] * len(names)

    @override
    def time_of_day(self) -> datetime:
        seconds, microseconds = self._ask(lambda redis: redis.time())
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)

    @override
    def active(self) -> tuple[str, ...]:
        return tuple(sorted(self._ask(lambda redis: redis.smembers(self._key("active")))))

    @override
    @reports_damage("record")
    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        stored = record.model_copy(update={"version": record.version + 1})
        token = uuid.uuid4().hex
        keys = [self._of(record.id), self._key("active"), self._of(record.id, "events")]
        text = self._sealed_run(stored)
        written = (record.id, record.version, token, text, _active(record))
        kept = self._call("save", keys, *written, self._key("lock", ""), *_noting(*events))
        if kept == -1:
            raise RunUnknown(f"there is no run {record.id}")
        if not kept:
            return None
        self._remembered.put(record.id, (token, stored), len(text))
        return stored

    @override
    @reports_damage("record")
    def forget(self, run_id: str) -> None:
        own = [self._of(run_id, part) for part in ("index", "claims", "events", "waiting")]
        keys = [self._of(run_id), self._key("runs"), self._key("active"), *own]
        self._call("forget", keys, run_id, self._key("lock", ""))
        self._remembered.forget(run_id)

    @override
    @reports_damage("record")
    def progress(self, run_id: str) -> float:
        known, pulse = self._ask(lambda redis: redis.hmget(self._of(run_id), ["version", "pulse"]))
        if known is None:
            raise RunUnknown(f"there is no run {run_id}")
        return self._idle(run_id, pulse)

    def _idle(self, run_id: str, pulse: str | None) -> float:
        return self._observer.unchanged(self._of(run_id), pulse or "")

    @override
    @reports_damage("flag")
    def flag(self, run_id: str, name: str, value: str = "1", *events: Event) -> None:
        text = self._seal.sealed(("flag", run_id, name), value) if value else ""
        self._write(run_id, "flag", [self._of(run_id, "events")], name, text, *_noting(*events))

    @override
    @reports_damage("flag")
    def flags(self, run_id: str) -> dict[str, str]:
        return self._opened_flags(run_id, self._ask(lambda redis: redis.hget(self._of(run_id), "flags")))

    def _opened_flags(self, run_id: str, stored: str | None) -> dict[str, str]:
        with damage_reported(run_id, "flag"):
            found = dict(json.loads(stored)) if stored else {}
            return {name: self._seal.opened(("flag", run_id, name), text) for name, text in found.items()}

    # History

    @override
    @reports_damage("outcome")
    def begin(self, beginning: Beginning) -> Begun | None:
        run, node = beginning.run, beginning.node
        parts = (("outcomes", beginning.turn), ("claims",), ("events",), ("waiting",))
        keys = [self._of(run, *words) for words in parts]
        keys += [self._of(run, "documents", kind) for kind, _ in beginning.documents]
        places = _places(beginning)
        arguments = (
            *(run, beginning.version, node, *places),
            *(beginning.holder, hold(beginning.holder, beginning.ttl), beginning.limit),
            *(beginning.waiting, beginning.ending, int(beginning.always), _ENDS_NODE),
            *_noting(beginning.event),
            *(name for _, name in beginning.documents),
        )
        answer = self._write(run, "begin", keys, *arguments)
        lapsed = self._lapsed_for(run, node, *answer[1:3]) if answer[0] == 0 else {}
        if lapsed:
            answer = self._write(run, "begin", keys, *arguments, *(text for pair in lapsed.items() for text in pair))
        return None if answer[0] < 0 else self._begun(beginning, answer)

    def _begun(self, beginning: Beginning, answer: list[Any]) -> Begun:
        run, (claim, reason, _, number, own, before, flags, *texts) = beginning.run, answer
        outcome, earlier = (
            self._outcomes.opened(run, beginning.turn, place, text) if text else None
            for place, text in zip(_places(beginning), (own, before), strict=True)
        )
        documents = {
            place: self._opened_document(run, *place, text) if text else None
            for place, text in zip(beginning.documents, texts, strict=True)
        }
        return Begun(
            flags=self._opened_flags(run, flags),
            before=earlier,
            outcome=outcome,
            claim=claim or None,
            waits=reason == "full",
            number=int(number),
            documents=documents,
        )

    @override
    def finish(self, finishing: Finishing) -> Finished:
        outcome, documents = finishing.outcome, finishing.documents
        with damage_reported(outcome.run, "outcome"):
            place = _place(outcome.node, outcome.step)
            parts = (("outcomes", outcome.turn), ("claims",), ("index",), ("events",), ("waiting",))
            keys = [self._of(outcome.run, *words) for words in parts]
            keys += [self._of(outcome.run, "documents", kind) for kind, _ in documents]
            digest, text = self._outcomes.sealed(outcome, place)
            written = (place, outcome.node, finishing.fence, text)
            ended = (*_noting(ended_event(outcome, digest)), finishing.holder, finishing.of, int(finishing.more))
            made = connections_made(self._redis)
            sealed = [(*at, self._sealed_document(outcome.run, *at, kept)) for at, kept in documents.items()]
            answer = self._write(
                outcome.run, "finish", keys, *written, *ended, *(part for parts in sealed for part in parts)
            )
            if answer[0] == "late":
                raise Conflict(f"another worker has taken over node {outcome.node}")
            if answer[0] == "exists":
                outcome = self._outcomes.opened(outcome.run, outcome.turn, place, answer[3])
            if made != connections_made(self._redis) and outcome == finishing.outcome:
                for at, kept in documents.items():  # another server may not have their basis
                    self.put(outcome.run, *at, kept)
            return Finished(outcome, complete=bool(answer[1]), following=answer[2])

    @override
    @reports_damage("outcome")
    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        place = _place(node, step)
        text = self._ask(lambda redis: redis.hget(self._of(run_id, "outcomes", turn), place))
        return None if text is None else self._outcomes.opened(run_id, turn, place, text)

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
            self._outcomes.opened(run_id, name, place, text)
            for name, texts in zip(turns, found, strict=True)
            for place, text in texts.items()
        )

    @override
    @reports_damage("outcome")
    def counts(self, run_id: str, turn: str) -> dict[str, int]:
        return _counted(self._ask(lambda redis: redis.hkeys(self._of(run_id, "outcomes", turn))))

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
