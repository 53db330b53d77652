"""The run store in Redis or Valkey: every transition is one small script on the server.

Durability: with `appendfsync everysec` (what our own server and compose file use) an acknowledged write survives the
death of the server process, and all but the last second survives the death of its machine. That is enough: a lost
outcome makes its step run again, which observes before it acts. docs/decisions has the numbers of the alternative.
"""

import uuid
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Any, TypeVar, cast

from redis import Redis
from redis.commands.core import Script
from typing_extensions import override

from workers.connection import patiently
from workers.errors import Conflict, RunUnknown
from workers.records import Event, RunRecord, RunState, StepOutcome
from workers.store.chain import Chain, asked, bared, digest_of, ended
from workers.store.port import EVENT_CAP, RunStore, event_position, in_order

__all__ = ["RedisStore"]

T = TypeVar("T")

CHAINED = frozenset({"create", "note", "record", "save"})  #: scripts that add to a run's history
REMEMBERED_RUNS = 32  #: records this process keeps parsed, so that reading a run again costs one small request


@cache
def _source(name: str) -> str:
    folder = files("workers.store") / "lua"
    parts = ("prelude", "chain", name) if name in CHAINED else ("prelude", name)
    return "\n".join((folder / f"{part}.lua").read_text("ascii") for part in parts)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _place(*words: str) -> str:
    """A field of a hash made of several words; the separator is in no name of ours."""
    return "\x1f".join(words)


def _noting(*events: Event) -> list[str | int]:
    """The arguments of a script that notes these events."""
    bare = [bared(event) for event in events]
    return [EVENT_CAP, *(text for event in bare for text in (digest_of(event), event.to_json()))]


def _active(record: RunRecord) -> str:
    return "0" if record.state is RunState.CONCLUDED else "1"


class RedisStore(RunStore):
    """A RunStore that all processes share.

    Args:
        client: from `connect`; shared by all threads.
        prefix: of every key.
        patience: seconds to go on asking a server that does not answer.
    """

    def __init__(self, client: Redis, prefix: str = "esync:", patience: float = 10.0) -> None:
        self._redis = client
        self._prefix = prefix
        self._patience = patience
        self._scripts: dict[str, Script] = {}
        self._remembered: OrderedDict[str, tuple[str, RunRecord]] = OrderedDict()
        self._lock = Lock()

    # Keys, and the two ways to ask

    def _key(self, *words: str) -> str:
        return self._prefix + ":".join(words)

    def _of(self, run_id: str, *words: str) -> str:
        return self._key("run", run_id, *words)

    def _ask(self, ask: Callable[[Redis], Any]) -> Any:  # noqa: ANN401 - what the server answers is typed by the caller
        return patiently(lambda: ask(self._redis), self._patience)

    def _call(self, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._redis.register_script(_source(name))
        return patiently(lambda: script(keys=keys, args=arguments), self._patience)

    def _write(self, run_id: str, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        """Calls a script that answers nothing when there is no such run."""
        answer = self._call(name, [self._of(run_id), *keys], *arguments)
        if answer is None:
            raise RunUnknown(f"there is no run {run_id}")
        return answer

    # Runs

    @override
    def create(self, record: RunRecord) -> RunRecord:
        stored = record.model_copy(update={"version": 0})
        keys = [self._of(record.id), self._key("runs"), self._key("active"), self._key("sequence")]
        keys.append(self._of(record.id, "events"))
        if record.key:
            keys.append(self._key("key", record.cluster, record.key))
        arguments = (record.id, uuid.uuid4().hex, stored.to_json(), record.cluster, _active(record), self._of(""))
        standing = self._call("create", keys, *arguments, *_noting(asked(stored)))
        return stored if standing is None else RunRecord.model_validate_json(standing)

    @override
    def keyed(self, cluster: str, key: str) -> str:
        return str(self._ask(lambda redis: redis.get(self._key("key", cluster, key))) or "")

    @override
    def run(self, run_id: str) -> RunRecord:
        # The token names one write. A record is large (1,000 nodes: the cluster as data), a token is not.
        token = self._ask(lambda redis: redis.hget(self._of(run_id), "token"))
        with self._lock:
            known = self._remembered.get(run_id)
            if known and known[0] == token:
                self._remembered.move_to_end(run_id)
                return known[1]
        return self._read_run(run_id)

    def _read_run(self, run_id: str) -> RunRecord:
        token, text = self._ask(lambda redis: redis.hmget(self._of(run_id), ["token", "record"]))
        if text is None:
            raise RunUnknown(f"there is no run {run_id}")
        return self._remember(token, RunRecord.model_validate_json(text))

    def _remember(self, token: str, record: RunRecord) -> RunRecord:
        with self._lock:
            self._remembered[record.id] = (token, record)
            self._remembered.move_to_end(record.id)
            while len(self._remembered) > REMEMBERED_RUNS:
                self._remembered.popitem(last=False)
        return record

    @override
    def runs(self, limit: int = 20) -> tuple[RunRecord, ...]:
        if limit < 1:
            return ()
        names = self._ask(lambda redis: redis.zrevrange(self._key("runs"), 0, limit - 1))
        texts = self._pipe(lambda pipe: [pipe.hget(self._of(name), "record") for name in names])
        return tuple(RunRecord.model_validate_json(text) for text in texts if text is not None)

    def _pipe(self, fill: Callable[[Redis], object]) -> list[Any]:
        """Sends what `fill` asks of a pipeline in one go."""

        def ask(redis: Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=False)
            fill(pipe)
            return pipe.execute()

        return cast("list[Any]", self._ask(ask))

    @override
    def active(self) -> tuple[str, ...]:
        return tuple(sorted(self._ask(lambda redis: redis.smembers(self._key("active")))))

    @override
    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        stored = record.model_copy(update={"version": record.version + 1})
        token = uuid.uuid4().hex
        keys = [self._of(record.id), self._key("active"), self._of(record.id, "events")]
        keys.append(self._key("lock", record.cluster))
        written = (record.id, record.version, token, stored.to_json(), _active(record))
        kept = self._call("save", keys, *written, *_noting(*events))
        if kept == -1:
            raise RunUnknown(f"there is no run {record.id}")
        return self._remember(token, stored) if kept else None

    @override
    def forget(self, run_id: str) -> None:
        own = [self._of(run_id, part) for part in ("index", "leases", "fences", "events", "flags")]
        keys = [self._of(run_id), self._key("runs"), self._key("active"), *own]
        self._call("forget", keys, run_id, self._key("lock", ""))
        with self._lock:
            self._remembered.pop(run_id, None)

    @override
    def progress(self, run_id: str) -> float:
        pulse, (seconds, micros) = self._pipe(lambda pipe: (pipe.hget(self._of(run_id), "pulse"), pipe.time()))
        if pulse is None:
            raise RunUnknown(f"there is no run {run_id}")
        age: float = seconds + micros / 1e6 - int(pulse) / 1e3
        return max(0.0, age)

    @override
    def flag(self, run_id: str, name: str, value: str = "1") -> None:
        self._write(run_id, "flag", [self._of(run_id, "flags")], name, value)

    @override
    def flags(self, run_id: str) -> dict[str, str]:
        return dict(self._ask(lambda redis: redis.hgetall(self._of(run_id, "flags"))))

    # History

    @override
    def record(self, outcome: StepOutcome, fence: int) -> StepOutcome:
        place = _place(outcome.node, outcome.step)
        parts = (("outcomes", outcome.turn), ("fences",), ("index",), ("events",))
        keys = [self._of(outcome.run, *words) for words in parts]
        written = (place, outcome.node, fence, outcome.to_json())
        answer = self._write(outcome.run, "record", keys, *written, *_noting(ended(outcome)))
        if answer[0] == "late":
            raise Conflict(f"another worker has taken over node {outcome.node}")
        return outcome if answer[0] == "kept" else StepOutcome.model_validate_json(answer[1])

    @override
    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        text = self._ask(lambda redis: redis.hget(self._of(run_id, "outcomes", turn), _place(node, step)))
        return None if text is None else StepOutcome.model_validate_json(text)

    @override
    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        if turn is None:
            every = self._ask(lambda redis: redis.smembers(self._of(run_id, "index")))
            keys = [key for key in every if key.startswith(self._of(run_id, "outcomes", ""))]
        else:
            keys = [self._of(run_id, "outcomes", turn)]
        texts = self._pipe(lambda pipe: [pipe.hvals(key) for key in keys])
        return in_order(StepOutcome.model_validate_json(text) for values in texts for text in values)

    @override
    def note(self, run_id: str, event: Event) -> Event:
        event_id, chain = self._write(run_id, "note", [self._of(run_id, "events")], *_noting(event))
        return event.model_copy(update={"id": event_id, "chain": chain})

    @override
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
    def chain(self, run_id: str) -> Chain:
        names = ("count", "dropped", "root", "head")
        values = self._ask(lambda redis: redis.hmget(self._of(run_id), names))
        return Chain.model_validate({name: value for name, value in zip(names, values, strict=True) if value})

    @override
    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        self._write(run_id, "put", [self._of(run_id, "documents", kind), self._of(run_id, "index")], name, document)

    @override
    def document(self, run_id: str, kind: str, name: str) -> str | None:
        return cast("str | None", self._ask(lambda redis: redis.hget(self._of(run_id, "documents", kind), name)))

    @override
    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        return dict(self._ask(lambda redis: redis.hgetall(self._of(run_id, "documents", kind))))

    # Leases and locks

    @override
    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        keys = [self._of(run_id, "leases"), self._of(run_id, "fences")]
        return self._write(run_id, "claim", keys, node, holder, _milliseconds(ttl), limit) or None

    @override
    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        keys = [self._of(run_id), self._of(run_id, "leases")]
        return bool(self._call("renew", keys, node, holder, _milliseconds(ttl)))

    @override
    def release(self, run_id: str, node: str, holder: str) -> None:
        self._call("release", [self._of(run_id, "leases")], node, holder)

    @override
    def leases(self, run_id: str) -> dict[str, str]:
        flat = self._call("leases", [self._of(run_id, "leases")])
        return dict(zip(flat[::2], flat[1::2], strict=True))

    @override
    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        keys = [self._key("lock", cluster), self._key("active")]
        return cast("str | None", self._call("lock", keys, run_id, _milliseconds(ttl)))

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        return bool(self._call("hold", [self._key("leader", name)], holder, _milliseconds(ttl)) == holder)
