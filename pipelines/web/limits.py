"""How often a caller may ask: counted in the run store, so that all servers share the counts."""

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from workers.errors import TooManyRequests
from workers.redis.address import STORE
from workers.redis.connection import connect, errors_mapped
from workers.settings import Settings

__all__ = ["Limit", "limit_for"]

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


def limit_for(settings: Settings, what: str, most: int) -> Limit:
    """A limit that is counted in the run store of these settings; in this process if there is none."""
    url = settings.store_url or settings.broker_url
    if url is None:
        return Limit(MemoryStorage(), what, most)
    pool = connect(url, STORE).connection_pool
    return Limit(RedisStorage("redis://", connection_pool=pool, key_prefix=PREFIX), what, most)
