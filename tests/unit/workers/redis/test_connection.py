"""The border to Redis: which URLs we take, how long we ask, what an error means."""

import contextlib
import socket
import ssl
import threading
import time

import pytest
import trustme
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from workers.errors import StoreUnavailable
from workers.records import Event, RunRecord
from workers.redis.connection import connect, patiently
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.settings import Secret
from workers.store import RedisStore

PLANTED = "Pl4nted-Passw0rd"
SEAL = Seal(new_seal_key())


def test_nobody_there_is_said_soon() -> None:
    """A refused connection is StoreUnavailable after the patience has run out, not before and not much later."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = RedisStore(
            connect(Secret(f"redis://:{PLANTED}@127.0.0.1:{closed.getsockname()[1]}/0")), SEAL, patience=0.4
        )
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            store.run("r1")
    assert 0.2 < time.monotonic() - start < 60
    assert PLANTED not in f"{caught.value!r}{caught.value.remedy}{caught.value.__cause__!r}"


def test_who_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be reached is named by host and port, and by the setting where there is one."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("ESYNC_STORE_URL", "set")
        for variable, named in (("ESYNC_STORE_URL", f"{address} (ESYNC_STORE_URL)"), ("ESYNC_BROKER_URL", address)):
            with pytest.raises(StoreUnavailable) as caught:
                patiently(connect(Secret(f"redis://:{PLANTED}@{address}/0"), variable).ping, 0.1)
            assert f"the run store at {named} cannot be reached" == caught.value.message


def test_a_server_that_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and never answers is named, too."""
    monkeypatch.setattr("workers.redis.connection.ANSWER_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="does not answer in time") as caught:
            patiently(connect(Secret(f"redis://:{PLANTED}@{address}/0")).ping, 0.1)
    assert address in caught.value.message


def test_a_server_whose_certificate_is_not_verified_is_said() -> None:
    """Over rediss to a server with a certificate of nobody we know, the message is about that."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake_hands() -> None:
            taken, _ = listening.accept()
            with taken, contextlib.suppress(OSError):
                context.wrap_socket(taken, server_side=True)

        server = threading.Thread(target=shake_hands)
        server.start()
        url = Secret(f"rediss://:{PLANTED}@127.0.0.1:{listening.getsockname()[1]}/0")
        with pytest.raises(StoreUnavailable, match=r"\(TLS\) cannot be reached over TLS: .*certificate") as caught:
            patiently(connect(url).ping, 0)
        server.join()
    assert "ssl_ca_certs" in caught.value.remedy


def test_a_database_that_is_not_there_is_said(valkey_url: Secret) -> None:
    """A database beyond the server's last is a sentence about the URL."""
    with pytest.raises(StoreUnavailable, match="has no database of that number"):
        patiently(connect(Secret(valkey_url.reveal().removesuffix("/0") + "/99999")).ping, 0.1)


def test_a_wrong_password_is_said_at_once(valkey_url: Secret) -> None:
    """A refused password is not tried again."""
    wrong = valkey_url.reveal().replace("redis://:", "redis://:not")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refuses the password"):
        RedisStore(connect(Secret(wrong)), SEAL, patience=600).runs()
    assert time.monotonic() - start < 60


def test_a_full_server_is_said(valkey: Redis) -> None:
    """A server out of memory is StoreUnavailable with the remedy."""
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    valkey.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="is full") as caught:
            store.note("r1", Event(kind="run.started"))
    finally:
        valkey.config_set("maxmemory", "0")
    assert "maxmemory" in caught.value.remedy


def test_broken_connections_are_not_noticed(valkey: Redis, valkey_url: Secret) -> None:
    """When the server closes our connections between two requests, the next request just works."""
    store = RedisStore(connect(valkey_url), SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    for _ in range(5):
        valkey.client_kill_filter(_type="normal", skipme=True)
        assert "r1" == store.run("r1").id
        assert store.claim("r1", "S1", "w1", 60)


def test_scripts_come_back_after_the_server_lost_them(valkey: Redis) -> None:
    """A server that has forgotten our scripts is given them again."""
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    valkey.script_flush()
    assert store.save(store.run("r1"))


def test_a_save_whose_reply_was_lost_has_won(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same write sent again after a lost reply is not mistaken for a slower writer."""
    store = RedisStore(valkey, SEAL)
    record = store.create(RunRecord(id="r1", cluster="shop", spec={}))
    store.save(record)
    script = store._scripts["save"]
    answers: list[object] = []

    def lose_the_first_reply(keys: list[str], args: list[str]) -> object:
        answers.append(script(keys=keys, args=args))
        if len(answers) == 1:
            raise NoConnection("reset")
        return answers[-1]

    monkeypatch.setitem(store._scripts, "save", lose_the_first_reply)
    saved = store.save(store.run("r1").model_copy(update={"summary": "ours"}))
    assert [1, 1] == answers
    assert saved == store.run("r1")
    assert store.save(record) is None


def test_many_threads_share_a_client(valkey_url: Secret) -> None:
    """More threads than connections wait for each other instead of failing."""
    client = connect(valkey_url)
    asked = threading.Barrier(150)
    failed: list[BaseException] = []

    def ask() -> None:
        asked.wait()
        try:
            patiently(client.ping, 5)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failed
    client.close()


def test_the_history_has_a_cap(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its cap a run's history loses its oldest events, never the newest."""
    monkeypatch.setattr("workers.store.redis_store.EVENT_CAP", 200)
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    for number in range(450):
        store.note("r1", Event(kind="step.ended", message=str(number)))
    kept = [int(event.message) for event in store.events("r1")]
    assert kept == list(range(kept[0], 450))
    assert 200 <= len(kept) < 400
