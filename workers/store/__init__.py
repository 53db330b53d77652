"""The run store: what every process knows of a run. The port, and its two adapters."""

from workers.redis.connection import connect
from workers.store.memory import MemoryStore
from workers.store.port import RunStore
from workers.store.redis_store import RedisStore

__all__ = ["MemoryStore", "RedisStore", "RunStore", "connect"]
