"""Small texts that belong to no run, in both adapters."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from tests.conftest import Clock
from tests.waiting import wait_until
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.store.memory import MemoryStore
from workers.store.port import RunStore
from workers.store.redis_store import RedisStore


def test_a_text_without_an_end_is_kept_listed_replaced_and_removed(store: RunStore) -> None:
    """Kinds are apart."""
    store.keep("token", "a", "one")
    store.keep("token", "b", "two")
    store.keep("other", "a", "three")
    store.keep("token", "a", "four")
    assert ("four", "") == (store.kept("token", "a"), store.kept("token", "c"))
    assert {"a": "four", "b": "two"} == store.all_kept("token")
    store.keep("token", "a", "")
    assert {"b": "two"} == store.all_kept("token")


def test_the_first_of_several_texts_with_an_end_stays(store: RunStore) -> None:
    """All callers learn which one it is; a replacement says so."""
    with ThreadPoolExecutor(8) as threads:
        kept = set(threads.map(lambda number: store.remember("request", "k", f"text {number}", 60), range(40)))
    assert 1 == len(kept)
    assert kept == {store.remembered("request", "k")}
    assert "new" == store.remember("request", "k", "new", 60, replace=True) == store.remembered("request", "k")


def test_a_text_with_an_end_is_taken_once(store: RunStore) -> None:
    """By one caller, however many try at the same time."""
    store.remember("openid", "state", "attempt", 60)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: store.take("openid", "state"), range(20)))
    assert ["attempt"] == [text for text in taken if text]
    assert "" == store.remembered("openid", "state")


def test_a_text_vanishes_at_its_end(clock: Clock, valkey: Redis) -> None:
    """In one process by its clock, in the shared store by that of the server; then another one may come."""
    memory = MemoryStore(clock)
    memory.remember("session", "s", "text", 60)
    clock.passes(59)
    assert "text" == memory.remembered("session", "s")
    clock.passes(2)
    assert "" == memory.remembered("session", "s")
    assert "other" == memory.remember("session", "s", "other", 60)
    shared = RedisStore(valkey, Seal(new_seal_key()))
    shared.remember("session", "s", "text", 0.05)
    wait_until(lambda: not shared.remembered("session", "s"))
    assert "other" == shared.remember("session", "s", "other", 60)


@pytest.mark.parametrize("place", ["kept", "lent"])
def test_what_another_installation_wrote_opens_nothing(valkey: Redis, place: str) -> None:
    """Nor does a text that was moved from one name to another: a token cannot be given to another id."""
    ours, theirs = (RedisStore(valkey, Seal(new_seal_key())) for _ in range(2))
    for store in (theirs, ours):
        name = "t" if store is theirs else "own"
        store.keep("token", name, "text")
        store.remember("session", name, "text", 60)
    if place == "kept":
        moved = valkey.hget("esync:kept:token", "own")
        valkey.hset("esync:kept:token", "moved", str(moved))
        assert ("", "", "text") == tuple(ours.kept("token", name) for name in ("t", "moved", "own"))
        assert {"own": "text"} == ours.all_kept("token")
        return
    valkey.rename("esync:lent:session:own", "esync:lent:session:moved")
    assert ("", "") == tuple(ours.remembered("session", name) for name in ("t", "moved"))
    assert "new" == ours.remember("session", "t", "new", 60)
