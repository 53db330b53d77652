"""The run store's access to Redis or Valkey: keys, commands and scripts, and the observer of holds."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, cast

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from workers.errors import RunUnknown
from workers.redis.connection import with_retries
from workers.store.holds import Observer

__all__ = ["RedisCommands"]

#: What comes before some of the scripts, in this order.
SHARED = {
    "chain": frozenset({"begin", "create", "finish", "flag", "note", "save"}),  #: they add to a run's history
    "lease": frozenset({"begin", "finish", "number", "reap", "release", "renew"}),
    "waiting": frozenset({"begin", "finish"}),
    "document": frozenset({"basis", "finish", "put"}),
}


@cache
def _source(name: str) -> str:
    folder = files("workers.store") / "lua"
    shared = ["prelude", *(part for part, scripts in SHARED.items() if name in scripts)]
    return "\n".join((folder / f"{part}.lua").read_text("ascii") for part in (*shared, name))


class RedisCommands:
    """The access of one process to one server.

    Args:
        client: from `connect`; shared by all threads.
        prefix: of every key.
        patience: seconds for which a request is repeated while the server does not answer.
        clock: monotonic seconds, for the lapse of holds.
    """

    def __init__(self, client: Redis, prefix: str, patience: float, clock: Callable[[], float]) -> None:
        self._redis = client
        self._prefix = prefix
        self._patience = patience
        self._clock = clock
        self._observer = Observer(clock)
        self._scripts: dict[str, Script] = {}

    def _key(self, *words: str) -> str:
        return self._prefix + ":".join(words)

    def _of(self, run_id: str, *words: str) -> str:
        return self._key("run", run_id, *words)

    def _ask(self, ask: Callable[[Redis], Any]) -> Any:  # noqa: ANN401 - the caller knows the type of the answer
        def attempt() -> Any:  # noqa: ANN401 - the same
            try:
                return ask(self._redis)
            except (NoConnection, NoAnswer):
                self._connection_lost()
                raise

        return with_retries(attempt, self._patience)

    def _connection_lost(self) -> None:
        """What this process has seen may be true no more: holds may have been renewed meanwhile."""
        self._observer.forget()

    def _call(self, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._redis.register_script(_source(name))
        return self._ask(lambda _: script(keys=keys, args=arguments))

    def _write(self, run_id: str, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        """Calls a script that returns nothing when there is no such run."""
        answer = self._call(name, [self._of(run_id), *keys], *arguments)
        if answer is None:
            raise RunUnknown(f"there is no run {run_id}")
        return answer

    def _pipe(self, fill: Callable[[Redis], object], *, raising: bool = True) -> list[Any]:
        """Sends the commands of `fill` in one pipeline. Without `raising`, an error is returned as a result."""

        def ask(redis: Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=False)
            fill(pipe)
            return pipe.execute(raise_on_error=raising)

        return cast("list[Any]", self._ask(ask))
