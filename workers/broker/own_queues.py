"""The own queues of workers: steps on a node go to the worker that has a session with it.

A session costs a logon and a start of PowerShell, and what a worker knows of a node is only in its memory. So each
worker has a queue of its own beside the common one of all workers of its site, and says so in the broker. Nothing
depends on it: what a worker does not take from its own queue goes to the common one.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from kombu.transport.redis import PRIORITY_STEPS, Channel
from redis import Redis

from workers.broker.names import OWN, common_queue, holder_of
from workers.host.holders import has_ended

__all__ = ["STUCK", "OwnQueues"]

STUCK = 4.0  #: seconds for which the next message of a queue may wait while its worker takes none
SAID_EVERY = 5.0  #: seconds
#: The own queues -> when their worker said last that it takes from it, in seconds since 1970; the negative of the time
#: when it stopped, since who sends may have looked before.
_WORKERS = f"{OWN}.workers"
_STOPPED, _SILENT = 600.0, 86_400.0  #: seconds after which a queue is forgotten; by clocks that may disagree


class OwnQueues:
    """All of them, as one process sees them.

    Args:
        client: of the broker.
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self, client: Redis, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._redis: Any = client
        self._clock = clock
        self._wall = wall
        self._waiting: dict[str, tuple[tuple[object, ...], float]] = {}  #: queue -> its next messages, and since when
        self._said = self._released = -math.inf

    def serve(self, queue: str) -> None:
        """Says that the worker of that queue takes from it; to be called every few seconds.

        Raises:
            RedisError: the broker does not answer.
        """
        now = self._clock()
        if now - self._said >= SAID_EVERY:
            self._redis.zadd(_WORKERS, {queue: self._wall()})
            self._said = now

    def leave(self, queue: str) -> None:
        """The worker takes no more from its queue: all workers may take what is left there.

        Raises:
            RedisError: the broker does not answer.
        """
        self._redis.zadd(_WORKERS, {queue: -self._wall()})
        for own, common in _lists(queue):
            while self._redis.lmove(own, common, "RIGHT", "LEFT"):
                pass

    def served(self) -> frozenset[str]:
        """The queues whose workers are thought to live.

        Raises:
            RedisError: the broker does not answer.
        """
        served = self._redis.zrangebyscore(_WORKERS, 0, "+inf")
        return frozenset(queue for queue in served if not has_ended(holder_of(queue)))

    def release(self, *, at_most_every: float = 0.0) -> bool:
        """Gives to all workers what a worker does not take: it has ended, was cut off, or all its threads wait.

        To be called every few seconds, by one process at least.

        Args:
            at_most_every: seconds; nothing is done if the last time was later.

        Returns:
            Whether a worker of this machine has died since the last time, of all processes that ask.

        Raises:
            RedisError: the broker does not answer.
        """
        now = self._clock()
        if now - self._released < at_most_every:
            return False
        self._released = now
        known = dict(self._redis.zrange(_WORKERS, 0, -1, withscores=True))
        dead = {queue for queue, said in known.items() if said >= 0 and has_ended(holder_of(queue))}
        waiting = self._next_messages(known)
        self._waiting = {queue: self._since(queue, items, now) for queue, items in waiting.items()}
        for queue, (_, since) in self._waiting.items():
            if known[queue] < 0 or queue in dead or now - since >= STUCK:
                self.leave(queue)
        self._forget(known.keys() - waiting.keys(), known, dead)
        return bool(dead)

    def with_messages(self, queues: Collection[str]) -> frozenset[str]:
        """Which of these queues, own or common ones, hold messages that no worker has taken.

        Raises:
            RedisError: the broker does not answer.
        """
        return frozenset(self._next_messages(queues))

    def _next_messages(self, queues: Iterable[str]) -> dict[str, tuple[object, ...]]:
        """Queue -> the next message of each priority, for the queues that have any."""
        keys = [own for queue in queues for own, _ in _lists(queue)]
        if not keys or not self._redis.exists(*keys):
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.lindex(key, -1)
            found = dict(zip(keys, pipe.execute(), strict=True))
        items = {queue: tuple(found[own] for own, _ in _lists(queue)) for queue in queues}
        return {queue: some for queue, some in items.items() if any(some)}

    def _since(self, queue: str, items: tuple[object, ...], now: float) -> tuple[tuple[object, ...], float]:
        before = self._waiting.get(queue)
        return before if before is not None and before[0] == items else (items, now)

    def _forget(self, empty: Collection[str], known: Mapping[str, float], dead: Collection[str]) -> None:
        now = self._wall()
        if ended := [queue for queue in empty if queue in dead]:
            self._redis.zadd(_WORKERS, dict.fromkeys(ended, -now))
        old = [queue for queue in empty if now - abs(known[queue]) > (_STOPPED if known[queue] < 0 else _SILENT)]
        if old:
            self._redis.zrem(_WORKERS, *old)


def _lists(queue: str) -> Iterator[tuple[str, str]]:
    """The lists of a queue, one for each priority as kombu has them, each with that of the common queue."""
    for priority in PRIORITY_STEPS:
        end = f"{Channel.sep}{priority}" if priority else ""
        yield queue + end, common_queue(queue) + end
