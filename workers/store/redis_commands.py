"""How the run store asks a Redis or Valkey: keys, commands and scripts, and what it remembers of what it saw."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, cast

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from workers.errors import RunUnknown
from workers.redis.connection import patiently
from workers.store.holds import Watch

__all__ = ["Asking"]

CHAINED = frozenset({"create", "note", "record", "save"})  #: scripts that add to a run's history


@cache
def _source(name: str) -> str:
    folder = files("workers.store") / "lua"
    parts = ("prelude", "chain", name) if name in CHAINED else ("prelude", name)
    return "\n".join((folder / f"{part}.lua").read_text("ascii") for part in parts)


class Asking:
    """One server, as one process asks it.

    Args:
        client: from `connect`; shared by all threads.
        prefix: of every key.
        patience: seconds to go on asking a server that does not answer.
        clock: seconds that only go forwards; what leases lapse by.
    """

    def __init__(self, client: Redis, prefix: str, patience: float, clock: Callable[[], float]) -> None:
        self._redis = client
        self._prefix = prefix
        self._patience = patience
        self._clock = clock
        self._watch = Watch(clock)
        self._scripts: dict[str, Script] = {}

    def _key(self, *words: str) -> str:
        return self._prefix + ":".join(words)

    def _of(self, run_id: str, *words: str) -> str:
        return self._key("run", run_id, *words)

    def _ask(self, ask: Callable[[Redis], Any]) -> Any:  # noqa: ANN401 - what the server answers is typed by the caller
        def asked() -> Any:  # noqa: ANN401 - the same
            try:
                return ask(self._redis)
            except (NoConnection, NoAnswer):
                # What was not to be seen meanwhile may have been renewed meanwhile.
                self._watch.forget()
                raise

        return patiently(asked, self._patience)

    def _call(self, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._redis.register_script(_source(name))
        return self._ask(lambda _: script(keys=keys, args=arguments))

    def _write(self, run_id: str, name: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - the same
        """Calls a script that answers nothing when there is no such run."""
        answer = self._call(name, [self._of(run_id), *keys], *arguments)
        if answer is None:
            raise RunUnknown(f"there is no run {run_id}")
        return answer

    def _pipe(self, fill: Callable[[Redis], object], *, raising: bool = True) -> list[Any]:
        """Sends what `fill` asks of a pipeline in one go. Without `raising` a refusal stands in its place."""

        def ask(redis: Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=False)
            fill(pipe)
            return pipe.execute(raise_on_error=raising)

        return cast("list[Any]", self._ask(ask))
