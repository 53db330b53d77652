"""Small texts that belong to no run, in Redis or Valkey: sealed, because they decide something."""

from redis import Redis
from redis.exceptions import ResponseError
from typing_extensions import override

from workers.secrets.seal import InvalidSeal, Seal
from workers.store.kept import Kept
from workers.store.redis_commands import RedisCommands

__all__ = ["RedisKept"]


class RedisKept(RedisCommands, Kept):
    """The part of the store for small texts: a hash for each kind, and a key for each text with an end."""

    _seal: Seal

    @override
    def keep(self, kind: str, name: str, text: str) -> None:
        key = self._key("kept", kind)
        if text:
            sealed = self._seal.sealed(("kept", kind, name), text)
            self._ask(lambda redis: redis.hset(key, name, sealed))
        else:
            self._ask(lambda redis: redis.hdel(key, name))

    @override
    def kept(self, kind: str, name: str) -> str:
        return self._opened_kept("kept", kind, name, self._ask(lambda redis: redis.hget(self._key("kept", kind), name)))

    @override
    def all_kept(self, kind: str) -> dict[str, str]:
        found = self._ask(lambda redis: _fields(redis, self._key("kept", kind)))
        opened = {name: self._opened_kept("kept", kind, name, text) for name, text in found.items()}
        return {name: text for name, text in opened.items() if text}

    @override
    def remember(self, kind: str, name: str, text: str, seconds: float, *, replace: bool = False) -> str:
        key, sealed = self._key("lent", kind, name), self._seal.sealed(("lent", kind, name), text)
        milliseconds = max(1, round(seconds * 1000))
        if not replace:
            if self._ask(lambda redis: redis.set(key, sealed, nx=True, px=milliseconds)):
                return text
            if present := self.remembered(kind, name):
                return present
        self._ask(lambda redis: redis.set(key, sealed, px=milliseconds))
        return text

    @override
    def remembered(self, kind: str, name: str) -> str:
        key = self._key("lent", kind, name)
        return self._opened_kept("lent", kind, name, self._ask(lambda redis: redis.get(key)))

    @override
    def take(self, kind: str, name: str) -> str:
        key = self._key("lent", kind, name)
        return self._opened_kept("lent", kind, name, self._ask(lambda redis: redis.getdel(key)))

    def _opened_kept(self, use: str, kind: str, name: str, stored: object) -> str:
        """The text; empty for one that this installation did not write there."""
        if not isinstance(stored, str):
            return ""
        try:
            return self._seal.opened((use, kind, name), stored)
        except InvalidSeal:
            return ""


def _fields(redis: Redis, key: str) -> dict[str, str]:
    """The fields of a hash; none when another program wrote something else there."""
    try:
        return {str(name): str(text) for name, text in redis.hgetall(key).items()}
    except (ResponseError, UnicodeDecodeError):
        return {}
