"""How long documents are stored."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.claiming import claim
from tests.contract.test_store import a_run, an_outcome
from tests.sampling import examples
from workers.errors import RecordRefused, StoreUnavailable
from workers.records import DocumentKind
from workers.redis.connection import connect
from workers.redis.embedded import EmbeddedBroker
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.settings import Secret
from workers.store.packed import LONG, packed, unpacked
from workers.store.port import ANY_CLAIM, Finishing
from workers.store.redis_store import RedisStore


@settings(max_examples=examples(whole=500, sample=25))
@given(text=st.text(max_size=40), times=st.integers(0, 60), basis=st.text(max_size=40))
def test_every_text_is_unpacked_as_it_was(text: str, times: int, basis: str) -> None:
    """Short and long ones, also one that looks packed."""
    for whole in (text * times, packed(text * times), "\x1fz" + text, "\x1fb" + text):
        assert whole == unpacked(packed(whole))
        assert whole == unpacked(packed(whole, basis), lambda: basis)


def test_a_long_document_takes_less_memory(redis_store: RedisStore, valkey: Redis) -> None:
    """A text of 100 kB that repeats itself takes a tenth at most; a short one is stored as it is."""
    redis_store.create(a_run())
    long, short = '{"path": "C:\\\\inetpub"}' * 4000, "x" * LONG
    for name, text in (("long", long), ("short", short)):
        redis_store.put("r1", "facts", name, text)
    assert {"long": long, "short": short} == redis_store.documents("r1", "facts")
    assert valkey.hstrlen("esync:run:r1:documents:facts", "long") < len(long) / 10
    assert str(valkey.hget("esync:run:r1:documents:facts", "short")).endswith(f" {short}")


def test_facts_of_a_run_are_stored_as_what_differs(redis_store: RedisStore, valkey: Redis) -> None:
    """The first facts of a run are the basis of all others, in every process; each is read as it was."""
    redis_store.create(a_run())
    texts = {
        f"S{node}": " ".join(f"{node if fact == 7 else hash((fact, 1))}" for fact in range(400)) for node in range(4)
    }
    other = RedisStore(valkey, redis_store._seal)
    for node, text in texts.items():
        (redis_store if node in {"S0", "S2"} else other).put("r1", DocumentKind.OBSERVED, node, text)
    for reading in (redis_store, other, RedisStore(valkey, redis_store._seal)):
        assert texts == reading.documents("r1", DocumentKind.OBSERVED)
        assert texts["S3"] == reading.document("r1", DocumentKind.OBSERVED, "S3")
    assert all(valkey.hstrlen("esync:run:r1:documents:observed", node) < 500 for node in texts)
    redis_store.forget("r1")
    assert not [*valkey.scan_iter("esync:run:r1*")]


def test_facts_can_be_read_although_the_server_lost_their_basis(tmp_path: Path) -> None:
    """It did not keep what was written last; a process that had seen the basis writes another one."""
    with EmbeddedBroker(tmp_path / "broker") as broker, connect(broker.url) as client:
        store = RedisStore(client, Seal(new_seal_key()), patience=0)
        store.create(a_run())
        shutil.copytree(broker.folder / "data", tmp_path / "kept")
        store.put("r1", DocumentKind.OBSERVED, "S1", "first " * LONG)
        os.kill(broker.pid, signal.SIGKILL)
        broker.wait()
        shutil.rmtree(broker.folder / "data")
        (tmp_path / "kept").rename(broker.folder / "data")
        with pytest.raises(StoreUnavailable):
            store.run("r1")
        broker.start()
        store.put("r1", DocumentKind.OBSERVED, "S2", "second " * LONG)
        other = RedisStore(client, store._seal)
        assert {"S2": "second " * LONG} == other.documents("r1", DocumentKind.OBSERVED)


def _put(store: RedisStore, text: str) -> None:
    store.put("r1", DocumentKind.OBSERVED, "S2", text)


def _finish(store: RedisStore, text: str) -> None:
    documents: dict[tuple[str, str], str] = {(DocumentKind.OBSERVED, "S2"): text}
    store.finish(
        Finishing(outcome=an_outcome(node="S2"), fence=ANY_CLAIM, holder="w1", documents=documents, of=1, more=False)
    )


@pytest.mark.parametrize("written", [_put, _finish])
def test_a_repeated_request_does_not_rely_on_a_basis_that_the_server_lost(
    written: Callable[[RedisStore, str], None], redis_store: RedisStore, valkey: Redis, valkey_url: Secret
) -> None:
    """Its first attempt finds that the server was replaced: the text is packed again, so that others can read it."""
    redis_store.create(a_run())
    store = RedisStore(connect(valkey_url), redis_store._seal)
    store.put("r1", DocumentKind.OBSERVED, "S1", "first " * LONG)
    assert claim(store, "r1", "S2", "w1", 60)
    valkey.hdel("esync:run:r1:documents:observed", "S1")
    valkey.delete("esync:run:r1:documents:basis")
    valkey.client_kill_filter(_type="normal", skipme=True)
    written(store, "second " * LONG)
    assert {"S2": "second " * LONG} == redis_store.documents("r1", DocumentKind.OBSERVED)


@pytest.mark.parametrize("damaged", ["\x1fz", "\x1fz%%%", "\x1fzAAAA", "\x1fb", "\x1fb%%%", "\x1fbAAAA"])
def test_a_sealed_text_that_was_not_packed_is_refused(damaged: str, redis_store: RedisStore, valkey: Redis) -> None:
    """It is reported for its run, as other damage is."""
    redis_store.create(a_run())
    text = redis_store._seal.sealed(("document", "r1", "facts", "S1"), damaged)
    valkey.hset("esync:run:r1:documents:facts", "S1", text)
    with pytest.raises(RecordRefused, match="document of run r1"):
        redis_store.document("r1", "facts", "S1")
