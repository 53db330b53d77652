"""Holds in Redis or Valkey: leases, the numbers of runs on nodes, cluster locks, leadership."""

import re
from collections.abc import Callable

from redis import Redis
from typing_extensions import override

from workers.errors import ClusterLocked, Conflict
from workers.store.damage import damage_reported, reports_damage
from workers.store.holds import hold, holder_of, next_number
from workers.store.port import Holds
from workers.store.redis_commands import RedisCommands

__all__ = ["RedisHolds"]

LOOK_EVERY = 1.0  #: seconds between two reads of all leases of a run whose limit is reached
REMEMBERED_LOOKS = 64  #: runs whose last read is remembered

_GIVEN = re.compile(r"([0-9]{1,18}) (.+)", re.DOTALL)  #: a number and its run; a larger number was not written by esync


def _given(text: str) -> tuple[int, str]:
    match = _GIVEN.fullmatch(text)
    return (int(match[1]), match[2]) if match else (0, "")


class RedisHolds(RedisCommands, Holds):
    """The part of the store for holds."""

    def __init__(self, client: Redis, prefix: str, patience: float, clock: Callable[[], float]) -> None:
        super().__init__(client, prefix, patience, clock)
        self._looked: dict[str, float] = {}

    @override
    @reports_damage("lease")
    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        keys = [self._of(run_id, "leases"), self._of(run_id, "fences")]
        arguments = (run_id, node, holder, hold(holder, ttl), limit, self._key("lock", ""))
        fence, *reason = self._write(run_id, "claim", keys, *arguments)
        if fence or reason == ["lost_cluster"]:
            return fence or None
        lapsed = self._lapsed(run_id, {node: reason[1]} if reason[0] == "held" else self._all_leases_sometimes(run_id))
        if not lapsed:
            return None
        named = [text for pair in lapsed.items() for text in pair]
        return self._write(run_id, "claim", keys, *arguments, *named)[0] or None

    def _all_leases_sometimes(self, run_id: str) -> dict[str, str]:
        """All leases of a run, at most once per LOOK_EVERY: a waiting worker claims several times a second."""
        time = self._clock()
        if time - self._looked.get(run_id, time - LOOK_EVERY) < LOOK_EVERY:
            return {}
        if len(self._looked) > REMEMBERED_LOOKS:
            self._looked.clear()
        self._looked[run_id] = time
        return self._held(run_id)

    def _held(self, run_id: str) -> dict[str, str]:
        return dict(self._ask(lambda redis: redis.hgetall(self._of(run_id, "leases"))))

    def _lapsed(self, run_id: str, held: dict[str, str]) -> dict[str, str]:
        return {
            node: text for node, text in held.items() if self._observer.lapsed(self._of(run_id, "lease", node), text)
        }

    @override
    @reports_damage("lease")
    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        keys = [self._of(run_id), self._of(run_id, "leases")]
        return bool(self._call("renew", keys, node, holder, hold(holder, ttl)))

    @override
    @reports_damage("lease")
    def release(self, run_id: str, node: str, holder: str) -> None:
        self._call("release", [self._of(run_id, "leases")], node, holder)

    @override
    @reports_damage("lease")
    def leases(self, run_id: str) -> dict[str, str]:
        held = self._held(run_id)
        lapsed = self._lapsed(run_id, held)
        return {node: holder_of(text) or "" for node, text in held.items() if node not in lapsed}

    @override
    @reports_damage("lease")
    def reap(self, run_id: str) -> tuple[str, ...]:
        lapsed = self._lapsed(run_id, self._held(run_id))
        if not lapsed:
            return ()
        named = [text for pair in lapsed.items() for text in pair]
        return tuple(sorted(self._call("reap", [self._of(run_id, "leases")], *named)))

    @override
    @reports_damage("lease")
    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        # Only the run that has the cluster lock at the second call succeeds there.
        given, owner = _given(self._number(run_id, node, fence))
        number = next_number(given, owner, run_id, seen)
        if number and (number, run_id) != (given, owner):
            self._number(run_id, node, fence, f"{number} {run_id}")
        return number

    def _number(self, run_id: str, node: str, fence: int, noted: str = "") -> str:
        arguments = (run_id, node, fence, noted, self._key("lock", ""), self._key("numbers", ""))
        answer: str = self._write(run_id, "number", [self._of(run_id, "fences")], *arguments)
        if answer == "late":
            raise Conflict(f"another worker has taken over node {node}")
        if answer == "lost_cluster":
            raise ClusterLocked(f"run {run_id} does not have the lock on its cluster")
        return answer

    @override
    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        keys = [self._key("lock", cluster), self._key("active"), self._of(run_id)]
        with damage_reported(run_id):
            return self._taken("lock", keys, run_id, ttl)

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        return self._taken("hold", [self._key("leader", name)], holder, ttl) is None

    def _taken(self, script: str, keys: list[str], holder: str, ttl: float) -> str | None:
        """Takes a hold, also one that this process has seen lapse: None; or the other holder."""
        kept = hold(holder, ttl) if ttl > 0 else ""
        present = self._call(script, keys, holder, kept, "")
        if present is not None and self._observer.lapsed(keys[0], present):
            present = self._call(script, keys, holder, kept, present)
        return None if present is None else holder_of(present)
