"""Problems of a server as a broker: judged from a real server's own words."""

import pytest
from redis import Redis

from workers.redis.condition import condition_of, judged
from workers.settings import Secret


def test_the_embedded_server_is_as_needed(valkey: Redis) -> None:
    """Nothing is wrong with the server that we configure ourselves."""
    assert condition_of(valkey) == ()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"maxmemory-policy": "volatile-lru"},
            ["deletes keys when its memory is full (maxmemory-policy volatile-lru)"],
        ),
        ({"appendonly": "no"}, ["has no append-only file: when it restarts, it has lost all runs and messages"]),
        ({"appendonly": "no", "save": "3600 1"}, ["it has lost what happened since its last snapshot"]),
        ({"appendonly": "no", "maxmemory-policy": "allkeys-lru"}, ["deletes keys", "no append-only file"]),
    ],
)
def test_a_wrong_setting_is_named(valkey: Redis, settings: dict[str, str], expected: list[str]) -> None:
    """Each wrong setting of a running server is a remark with what is lost, and its remedy names the setting."""
    usual = {name: str(valkey.config_get(name)[name] or "") for name in settings}
    for name, value in settings.items():
        valkey.config_set(name, value)
    try:
        found = condition_of(valkey)
    finally:
        for name, value in usual.items():
            valkey.config_set(name, value)
    assert len(found) == len(expected)
    assert all(words in remark.what for words, remark in zip(expected, found, strict=True))
    assert {remark.remedy for remark in found} <= {"set maxmemory-policy noeviction", "set appendonly yes"}


def test_a_replica_is_named(valkey: Redis) -> None:
    """A server that follows another one is a remark, even if that other one does not answer."""
    valkey.replicaof("127.0.0.1", "1")
    try:
        (remark,) = condition_of(valkey)
    finally:
        valkey.replicaof("NO", "ONE")
    assert "is a replica, where nothing can be written" in remark.what


def test_a_user_without_rights_gets_no_judgement(valkey: Redis, valkey_url: Secret) -> None:
    """Without INFO that is the one remark; without CONFIG the snapshots are unknown and the rest is judged."""
    for user, refused in (("blind", "-info"), ("guest", "-config")):
        valkey.acl_setuser(
            user, enabled=True, passwords="+x", keys=["*"], categories=["+@all"], commands=[refused], reset=True
        )
    address = valkey_url.reveal().rpartition("@")[2]
    try:
        valkey.config_set("appendonly", "no")
        with Redis.from_url(f"redis://blind:x@{address}", decode_responses=True) as blind:
            assert ["allow this user +info"] == [remark.remedy for remark in condition_of(blind)]
        with Redis.from_url(f"redis://guest:x@{address}", decode_responses=True) as guest:
            assert ["set appendonly yes"] == [remark.remedy for remark in condition_of(guest)]
    finally:
        valkey.config_set("appendonly", "yes")
        valkey.acl_deluser("blind", "guest")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"redis_version": "6.2.0"}, []),
        ({"redis_version": "10.0.1"}, []),
        ({"redis_version": "6.0.16"}, ["is Redis 6.0.16, which is too old"]),
        ({"redis_version": "5.0.7", "role": "slave"}, ["too old", "a replica"]),
        ({"redis_mode": "cluster"}, ["runs in cluster mode"]),
        ({"redis_version": "unknown"}, []),
        ({}, []),
    ],
)
def test_servers_that_are_not_here(info: dict[str, object], expected: list[str]) -> None:
    """Versions and kinds of servers that the tests cannot start; what a server does not say is not judged."""
    found = list(judged(info, None))
    assert len(found) == len(expected)
    assert all(words in remark.what for words, remark in zip(expected, found, strict=True))
