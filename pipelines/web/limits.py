"""How often a caller may ask: counted in the run store, so that all servers share the counts.

How many streams a caller may have open is counted by each server.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from workers.errors import TooManyRequests
from workers.redis.address import STORE
from workers.redis.connection import PROMPT, connect, errors_mapped
from workers.settings import Settings

__all__ = ["Limit", "Open", "limit_for"]

PREFIX = "esync:limits"


class Limit:
    """So many requests of one kind in a minute, for each caller.

    Args:
        storage: where they are counted.
        what: is limited, as the end of "too many ...".
        most: in a minute.
    """

    def __init__(self, storage: Storage, what: str, most: int) -> None:
        self._limiter = FixedWindowRateLimiter(storage)
        self._item = RateLimitItemPerMinute(most)
        self._what = what

    def count(self, who: str) -> None:
        """Counts one request.

        Raises:
            TooManyRequests: it is one too many.
            StoreUnavailable: the store does not answer.
        """
        with errors_mapped():
            counted = self._limiter.hit(self._item, self._what, who)
        if not counted:
            raise self._error

    def check(self, who: str) -> None:
        """Passes while another request would be allowed. Errors as `count`."""
        with errors_mapped():
            left = self._limiter.test(self._item, self._what, who)
        if not left:
            raise self._error

    @property
    def _error(self) -> TooManyRequests:
        return TooManyRequests(
            f"too many {self._what}: {self._item.amount} in a minute are allowed", remedy="wait a minute"
        )


class Open:
    """So many streams at the same time, for each caller. They begin and end in the thread of the event loop.

    Args:
        most: of one caller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, who: str) -> None:
        """Passes while another stream would be allowed, from any thread.

        Raises:
            TooManyRequests: the caller has as many.
        """
        if self._open[who] >= self._most:
            raise TooManyRequests(
                f"too many streams: {self._most} of one caller may be open", remedy="close some of them"
            )

    @contextmanager
    def one(self, who: str) -> Iterator[None]:
        """Counts one during the block. Errors as `check`: others may have begun since."""
        self.check(who)
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


def limit_for(settings: Settings, what: str, most: int) -> Limit:
    """A limit that is counted in the run store of these settings; in this process if there is none."""
    url = settings.store_url or settings.broker_url
    if url is None:
        return Limit(MemoryStorage(), what, most)
    pool = connect(url, STORE, PROMPT).connection_pool
    return Limit(RedisStorage("redis://", connection_pool=pool, key_prefix=PREFIX), what, most)
