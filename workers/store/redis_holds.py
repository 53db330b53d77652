"""Holds in Redis or Valkey: leases, the numbers of runs on nodes, locks on servers, leadership."""

import re
from collections.abc import Callable, Collection, Sequence

from redis import Redis
from typing_extensions import override

from workers.errors import ClusterLocked, Conflict
from workers.store.damage import damage_reported, reports_damage
from workers.store.holds import hold, holder_of
from workers.store.port import Holds
from workers.store.redis_commands import RedisCommands

__all__ = ["RedisHolds"]

LOOK_EVERY = 1.0  #: seconds between two reads of all leases of a run whose limit is reached
REMEMBERED_LOOKS = 64  #: runs whose last read is remembered

#: Fence, number and hold, or the place of a node between two of its steps, `- ...`; `lua/lease.lua` writes it.
_LEASE = re.compile(r"[0-9]+ [0-9]+ (?!- )(.*)", re.DOTALL)


def _holds(leases: dict[str, str]) -> dict[str, str]:
    """Node -> hold of the leases that a worker has."""
    found = {node: match[1] if (match := _LEASE.fullmatch(text)) else "" for node, text in leases.items()}
    return {node: text for node, text in found.items() if text}


class RedisHolds(RedisCommands, Holds):
    """The part of the store for holds."""

    def __init__(self, client: Redis, prefix: str, patience: float, clock: Callable[[], float]) -> None:
        super().__init__(client, prefix, patience, clock)
        self._looked: dict[str, float] = {}

    def _lapsed_for(self, run_id: str, node: str, reason: str, held: str = "") -> dict[str, str]:
        """The lapsed leases that were in the way of a claim: that of the node, or any when the limit is reached."""
        if reason == "held":
            return self._lapsed(run_id, {node: held})
        return self._lapsed(run_id, self._all_leases_sometimes(run_id)) if reason == "full" else {}

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
        return _holds(self._ask(lambda redis: redis.hgetall(self._of(run_id, "claims"))))

    def _lapsed(self, run_id: str, held: dict[str, str]) -> dict[str, str]:
        return {
            node: text for node, text in held.items() if self._observer.lapsed(self._of(run_id, "lease", node), text)
        }

    @override
    @reports_damage("lease")
    def renew(self, run_id: str, nodes: Collection[str], holder: str, ttl: float) -> frozenset[str]:
        keys = [self._of(run_id), self._of(run_id, "claims")]
        named = [text for node in nodes for text in (node, hold(holder, ttl))]
        return frozenset(self._call("renew", keys, holder, *named)) if named else frozenset()

    @override
    @reports_damage("lease")
    def release(self, run_id: str, node: str, holder: str) -> None:
        self._call("release", [self._of(run_id), self._of(run_id, "claims")], node, holder)

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
        return tuple(sorted(self._call("reap", [self._of(run_id), self._of(run_id, "claims")], *named)))

    @override
    @reports_damage("lease")
    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        number, owner = self._number(run_id, node, fence, "" if seen is None else str(seen + 1))
        if owner != run_id and seen is not None:  # another run got a larger one
            number, owner = self._number(run_id, node, fence, str(number + 1))
        return number if owner == run_id else 0

    def _number(self, run_id: str, node: str, fence: int, wanted: str) -> tuple[int, str]:
        """The last number given for a node, and its run."""
        arguments = (run_id, node, fence, wanted, self._key("numbers", ""))
        answer = self._write(run_id, "number", [self._of(run_id, "claims")], *arguments)
        if answer == "late":
            raise Conflict(f"another worker has taken over node {node}")
        if answer == "lost_servers":
            raise ClusterLocked(f"run {run_id} does not have the locks on its servers")
        return int(answer[0]), answer[1]

    @override
    def lock_servers(self, servers: Sequence[str], run_id: str, ttl: float) -> str | None:
        keys = [self._of(run_id), self._key("active")]
        arguments: list[str | int] = [run_id, hold(run_id, ttl), self._key("lock", ""), self._of(""), len(servers)]
        arguments += servers
        with damage_reported(run_id):
            present = self._call("lock", keys, *arguments) or ()
            held = dict(zip(present[::2], present[1::2], strict=True))
            lapsed = [run for run, text in held.items() if self._observer.lapsed(self._of(run, "lock"), text)]
            if held and len(lapsed) == len(held):
                present = self._call("lock", keys, *arguments, *present) or ()
                lapsed = []
            return next((run for run in present[::2] if run not in lapsed), None)

    @override
    def has_servers(self, run_id: str) -> bool:
        with damage_reported(run_id):
            present = self._ask(lambda redis: redis.hget(self._of(run_id), "lock")) or ""
            return holder_of(present) == run_id and not self._observer.lapsed(self._of(run_id, "lock"), present)

    @override
    def elect(self, name: str, holder: str, ttl: float) -> bool:
        keys, kept = [self._key("leader", name)], hold(holder, ttl) if ttl > 0 else ""
        present = self._call("hold", keys, holder, kept, "")
        if present is not None and self._observer.lapsed(keys[0], present):
            present = self._call("hold", keys, holder, kept, present)
        return present is None
