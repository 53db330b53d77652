"""Whether a server is set up as a broker and run store needs it: its problems, each with its remedy."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from workers.redis.connection import errors_mapped

__all__ = ["OLDEST", "Remark", "condition_of", "judged"]

OLDEST = (6, 2)  #: kombu sends ZRANGE ... BYSCORE REV and ZADD GT


class Remark(NamedTuple):
    """Something about a server that works for now: a sentence without its end, and what to do."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def condition_of(client: Redis) -> tuple[Remark, ...]:
    """Problems of the server: eviction, persistence, role, version. Reads only.

    Raises:
        StoreUnavailable: it does not answer, or refuses the logon.
    """
    with errors_mapped():
        try:
            info = {section: client.info(section) for section in ("server", "memory", "persistence", "replication")}
        except NoPermissionError:
            return (Remark("the broker does not allow INFO, so its settings are unknown", "allow this user +info"),)
        saves = None
        with suppress(ResponseError):  # not allowed, or renamed: as usual with a hosted server
            saves = str(client.config_get("save").get("save", ""))
    return tuple(judged({name: value for part in info.values() for name, value in part.items()}, saves))


def judged(info: Mapping[str, object], saves: str | None) -> Iterator[Remark]:
    """The problems, from the server's own words.

    Args:
        info: the fields of INFO; a missing field is not judged.
        saves: the setting `save`, empty when the server writes no snapshots; None when it is unknown.
    """
    version = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        yield Remark(f"the broker is Redis {version[:20]}, which is too old", f"use Valkey, or Redis {needed} or newer")
    if info.get("redis_mode") in {"cluster", "sentinel"}:
        yield Remark(f"the broker runs in {info['redis_mode']} mode", "use a server that is neither")
    if info.get("role") == "slave":
        yield Remark("the broker is a replica, where nothing can be written", "point the URL at the primary")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield Remark(
            f"the broker deletes keys when its memory is full (maxmemory-policy {policy[:30]}): runs and messages can "
            "be lost",
            "set maxmemory-policy noeviction",
        )
    if str(info.get("aof_enabled", "1")) == "0":
        lost = {None: "what happened since its last snapshot, if it makes any", "": "all runs and messages"}
        yield Remark(
            "the broker has no append-only file: when it restarts, it has lost "
            + lost.get(saves, "what happened since its last snapshot"),
            "set appendonly yes",
        )
