"""The border to Redis: which URLs we take, how long we ask, what an error means."""

import socket
import threading
import time

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from workers.connection import connect, patiently, verified
from workers.errors import InputRefused, StoreUnavailable
from workers.records import Event, RunRecord
from workers.seal import Seal
from workers.settings import Secret
from workers.store import RedisStore
from workers.vault import new_seal_key

PLANTED = "Pl4nted-Passw0rd"
SEAL = Seal(new_seal_key())


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://:{PLANTED}@h/0",
        f"unix://:{PLANTED}@/tmp/s",
        f"{PLANTED}",
        "",
        f"rediss://:{PLANTED}@h/0?ssl_cert_reqs=none",
        f"rediss://:{PLANTED}@h/0?ssl_cert_reqs=optional",
        f"rediss://:{PLANTED}@h/0?ssl_check_hostname=False",
        f"redis://:{PLANTED}@h:port/0",
    ],
)
def test_an_unusable_url_is_refused(url: str) -> None:
    """Another scheme, an unverified certificate or an unreadable URL is refused without showing the password."""
    with pytest.raises(InputRefused) as caught:
        connect(Secret(url))
    assert PLANTED not in f"{caught.value!r}{caught.value.remedy}"


def test_tls_is_always_verified() -> None:
    """Over rediss the certificate is required by name, other options stay."""
    url = verified(Secret("rediss://:p%40ss@h:6380/2?ssl_ca_certs=/etc/ca.pem")).reveal()
    assert "rediss://:p%40ss@h:6380/2?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_cert_reqs=required" == url
    pool = connect(Secret(url)).connection_pool
    assert ("required", "/etc/ca.pem", "p@ss") == tuple(
        pool.connection_kwargs[name] for name in ("ssl_cert_reqs", "ssl_ca_certs", "password")
    )


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
    assert 0.2 < time.monotonic() - start < 3
    assert PLANTED not in f"{caught.value!r}{caught.value.remedy}{caught.value.__cause__!r}"


def test_a_wrong_password_is_said_at_once(valkey_url: Secret) -> None:
    """A refused password is not tried again."""
    wrong = valkey_url.reveal().replace("redis://:", "redis://:not")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refuses the password"):
        RedisStore(connect(Secret(wrong)), SEAL, patience=30).runs()
    assert time.monotonic() - start < 5


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
