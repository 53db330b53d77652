"""The own queues of workers: steps on a node go to the worker that has a session with it.

A session costs a logon and a start of PowerShell, and what a worker knows of a node is only in its memory. So each
worker has a queue of its own beside the common one of all workers of its site, and says so in the broker. Nothing
depends on it: what a worker does not take from its own queue goes to the common one.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from kombu.transport.redis import PRIORITY_STEPS, Channel
from redis import Redis

from workers.broker.names import OWN, common_queue, holder_of
from workers.host.holders import has_ended

__all__ = ["STUCK", "OwnQueues"]

STUCK = 4.0  #: seconds for which the next message of a queue may wait while its worker takes none
_WORKERS = f"{OWN}.workers"  #: the queues that are served -> when their worker said so last, in seconds since 1970
_FORGOTTEN = 86_400.0  #: seconds after which a worker that says nothing is forgotten; by clocks that may disagree


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

    def serve(self, queue: str) -> None:
        """Says that the worker of that queue takes from it; said again every few seconds.

        Raises:
            RedisError: the broker does not answer.
        """
        self._redis.zadd(_WORKERS, {queue: self._wall()})

    def leave(self, queue: str) -> None:
        """The worker takes no more from its queue: all workers may take what is left there.

        Raises:
            RedisError: the broker does not answer.
        """
        self._redis.zrem(_WORKERS, queue)
        for own, common in _lists(queue):
            while self._redis.lmove(own, common, "RIGHT", "LEFT"):
                pass

    def served(self) -> frozenset[str]:
        """The queues whose workers are thought to live.

        Raises:
            RedisError: the broker does not answer.
        """
        return frozenset(queue for queue in self._all() if not has_ended(holder_of(queue)))

    def release(self) -> None:
        """Gives to all workers what a worker does not take: it has ended, was cut off, or all its threads wait.

        One process calls it every few seconds while runs are active.

        Raises:
            RedisError: the broker does not answer.
        """
        self._redis.zremrangebyscore(_WORKERS, "-inf", self._wall() - _FORGOTTEN)
        queues = self._all()
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                for own, _ in _lists(queue):
                    pipe.lindex(own, -1)
            answers = iter(pipe.execute())
        waiting = {queue: tuple(next(answers) for _ in PRIORITY_STEPS) for queue in queues}
        now = self._clock()
        self._waiting = {queue: self._since(queue, items, now) for queue, items in waiting.items()}
        for queue, (items, since) in self._waiting.items():
            if has_ended(holder_of(queue)) or (any(items) and now - since >= STUCK):
                self.leave(queue)

    def _since(self, queue: str, items: tuple[object, ...], now: float) -> tuple[tuple[object, ...], float]:
        before = self._waiting.get(queue)
        return before if before is not None and before[0] == items else (items, now)

    def _all(self) -> list[str]:
        return list(self._redis.zrange(_WORKERS, 0, -1))


def _lists(queue: str) -> Iterator[tuple[str, str]]:
    """The lists of a queue, one for each priority as kombu has them, each with that of the common queue."""
    for priority in PRIORITY_STEPS:
        end = f"{Channel.sep}{priority}" if priority else ""
        yield queue + end, common_queue(queue) + end
