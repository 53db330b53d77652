"""A server that takes no writes for a while, each time for another reason, as brokers in production do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.waiting import wait_until

__all__ = ["Refusal", "refusing"]


class Refusal(StrEnum):
    """Why it takes none."""

    MEMORY = "full memory"
    DISK = "full disk"  #: it could not save its data
    REPLICA = "read-only replica"  #: another one is the primary now
    ALONE = "lost replicas"  #: `min-replicas-to-write`


@contextmanager
def refusing(client: Redis, why: Refusal) -> Iterator[None]:
    """Takes no writes during the block; reads, and `PING`, are answered all the same."""
    begin, end = _WAYS[why]
    begin(client)
    try:
        yield
    finally:
        end(client)


def _fill_disk(client: Redis) -> None:
    # A file cannot be put in the place of a folder that has something in it.
    (_saved(client) / "full").mkdir(parents=True)
    client.config_set("save", "1000000 1000000")
    _save(client, "err")


def _empty_disk(client: Redis) -> None:
    (_saved(client) / "full").rmdir()
    _saved(client).rmdir()
    _save(client, "ok")
    client.config_set("save", "")
    _saved(client).unlink()


def _save(client: Redis, result: str) -> None:
    def ended() -> bool:
        state = client.info("persistence")
        return bool(not state["rdb_bgsave_in_progress"] and state["rdb_last_bgsave_status"] == result)

    with suppress(RedisError):  # it saves already
        client.bgsave()
    wait_until(ended)


def _saved(client: Redis) -> Path:
    folder, name = (client.config_get(setting)[setting] for setting in ("dir", "dbfilename"))
    return Path(str(folder), str(name))


def _set(name: str, value: str) -> Callable[[Redis], object]:
    return lambda client: client.config_set(name, value)


def _follow(host: str, port: str) -> Callable[[Redis], object]:
    return lambda client: client.execute_command("REPLICAOF", host, port)  # type: ignore[no-untyped-call] # of redis


_WAYS: dict[Refusal, tuple[Callable[[Redis], object], Callable[[Redis], object]]] = {
    Refusal.MEMORY: (_set("maxmemory", "1"), _set("maxmemory", "0")),
    Refusal.DISK: (_fill_disk, _empty_disk),
    Refusal.REPLICA: (_follow("127.0.0.1", "1"), _follow("NO", "ONE")),
    Refusal.ALONE: (_set("min-replicas-to-write", "1"), _set("min-replicas-to-write", "0")),
}
