"""Who works on what, in a Redis or Valkey: leases, the numbers of runs on nodes, cluster locks, leadership."""

import re
from collections.abc import Callable

from redis import Redis
from typing_extensions import override

from workers.errors import ClusterLocked, Conflict
from workers.store.border import about, of_a_run
from workers.store.holds import hold, holder_of, next_number
from workers.store.port import Holds
from workers.store.redis_commands import Asking

__all__ = ["RedisHolds"]

LOOK_EVERY = 1.0  #: seconds between two looks at all leases of a run that holds as many nodes as it may
WAITED_FOR = 64  #: runs whose last look is remembered


_GIVEN = re.compile(r"([0-9]{1,18}) (.+)", re.DOTALL)  #: a number and its run; a larger one is no number of ours


def _given(text: str) -> tuple[int, str]:
    match = _GIVEN.fullmatch(text)
    return (int(match[1]), match[2]) if match else (0, "")


class RedisHolds(Asking, Holds):
    """The part of the store that is about holding."""

    def __init__(self, client: Redis, prefix: str, patience: float, clock: Callable[[], float]) -> None:
        super().__init__(client, prefix, patience, clock)
        self._looked: dict[str, float] = {}

    @override
    @of_a_run
    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        keys = [self._of(run_id, "leases"), self._of(run_id, "fences")]
        arguments = (run_id, node, holder, hold(holder, ttl), limit, self._key("lock", ""))
        fence, *why = self._write(run_id, "claim", keys, *arguments)
        if fence or why == ["astray"]:
            return fence or None
        lapsed = self._lapsed(run_id, {node: why[1]} if why[0] == "held" else self._looked_over(run_id))
        if not lapsed:
            return None
        named = [text for pair in lapsed.items() for text in pair]
        return self._write(run_id, "claim", keys, *arguments, *named)[0] or None

    def _looked_over(self, run_id: str) -> dict[str, str]:
        """All leases of a run, now and then: whoever waits asks several times a second."""
        time = self._clock()
        if time - self._looked.get(run_id, time - LOOK_EVERY) < LOOK_EVERY:
            return {}
        if len(self._looked) > WAITED_FOR:
            self._looked.clear()
        self._looked[run_id] = time
        return self._held(run_id)

    def _held(self, run_id: str) -> dict[str, str]:
        return dict(self._ask(lambda redis: redis.hgetall(self._of(run_id, "leases"))))

    def _lapsed(self, run_id: str, held: dict[str, str]) -> dict[str, str]:
        return {node: text for node, text in held.items() if self._watch.lapsed(self._of(run_id, "lease", node), text)}

    @override
    @of_a_run
    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        keys = [self._of(run_id), self._of(run_id, "leases")]
        return bool(self._call("renew", keys, node, holder, hold(holder, ttl)))

    @override
    @of_a_run
    def release(self, run_id: str, node: str, holder: str) -> None:
        self._call("release", [self._of(run_id, "leases")], node, holder)

    @override
    @of_a_run
    def leases(self, run_id: str) -> dict[str, str]:
        held = self._held(run_id)
        lapsed = self._lapsed(run_id, held)
        return {node: holder_of(text) or "" for node, text in held.items() if node not in lapsed}

    @override
    @of_a_run
    def reap(self, run_id: str) -> tuple[str, ...]:
        lapsed = self._lapsed(run_id, self._held(run_id))
        if not lapsed:
            return ()
        named = [text for pair in lapsed.items() for text in pair]
        return tuple(sorted(self._call("reap", [self._of(run_id, "leases")], *named)))

    @override
    @of_a_run
    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        # Whoever has the cluster between the two calls is the only one who may make the second.
        given, whose = _given(self._number(run_id, node, fence))
        number = next_number(given, whose, run_id, seen)
        if number and (number, run_id) != (given, whose):
            self._number(run_id, node, fence, f"{number} {run_id}")
        return number

    def _number(self, run_id: str, node: str, fence: int, noted: str = "") -> str:
        arguments = (run_id, node, fence, noted, self._key("lock", ""), self._key("numbers", ""))
        answer: str = self._write(run_id, "number", [self._of(run_id, "fences")], *arguments)
        if answer == "late":
            raise Conflict(f"another worker has taken over node {node}")
        if answer == "astray":
            raise ClusterLocked(f"run {run_id} does not have its cluster for itself")
        return answer

    @override
    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        keys = [self._key("lock", cluster), self._key("active"), self._of(run_id)]
        with about(run_id):
            return self._taken("lock", keys, run_id, ttl)

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        return self._taken("hold", [self._key("leader", name)], holder, ttl) is None

    def _taken(self, script: str, keys: list[str], holder: str, ttl: float) -> str | None:
        """Takes a lock, also from whom this process has seen lose it: None; or who else holds it."""
        kept = hold(holder, ttl) if ttl > 0 else ""
        standing = self._call(script, keys, holder, kept, "")
        if standing is not None and self._watch.lapsed(keys[0], standing):
            standing = self._call(script, keys, holder, kept, standing)
        return None if standing is None else holder_of(standing)
