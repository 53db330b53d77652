"""Access to Redis: how long requests are repeated, and the error for each problem."""

import contextlib
import http.server
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
import trustme
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from tests.claiming import claim
from tests.refusing import Refusal, refusing
from workers.celery_app import make_app
from workers.errors import StoreUnavailable
from workers.records import Event, RunRecord
from workers.redis.connection import Waits, connect, with_retries
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings
from workers.store.redis_store import RedisStore

PLANTED = "Pl4nted-Passw0rd"
SEAL = Seal(new_seal_key())


def test_a_missing_server_is_reported_after_the_patience() -> None:
    """A refused connection is StoreUnavailable when the patience is over, not before and not much later."""
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


def test_a_missing_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has host and port, and the setting when it is set."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("ESYNC_STORE_URL", "set")
        for variable, named in (("ESYNC_STORE_URL", f"{address} (ESYNC_STORE_URL)"), ("ESYNC_BROKER_URL", address)):
            with pytest.raises(StoreUnavailable) as caught:
                with_retries(connect(Secret(f"redis://:{PLANTED}@{address}/0"), variable).ping, 0.1)
            assert f"the run store at {named} cannot be reached" == caught.value.message


def test_a_silent_server_is_named() -> None:
    """The error for a server that accepts the connection and never answers has its address."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="does not answer in time") as caught:
            with_retries(connect(Secret(f"redis://:{PLANTED}@{address}/0"), waits=Waits(0.2, 0)).ping, 0.1)
    assert address in caught.value.message


@pytest.mark.parametrize(("new", "times"), [(True, 1), (False, 2)])
def test_a_silent_server_costs_one_wait_and_a_lost_connection_a_second_one(*, new: bool, times: int) -> None:
    """A server that takes a new connection without a word is not asked again; where an old one was lost, it is."""
    asked = []

    def silent() -> None:
        asked.append(new)
        time.sleep(0.2)
        error = NoAnswer()
        if new:
            vars(error)["server"] = None
        raise error

    with pytest.raises(StoreUnavailable):
        with_retries(silent, 0.1)
    assert times == len(asked)


def test_an_unverified_certificate_is_reported() -> None:
    """With rediss:// and a certificate of an unknown authority, the error is about the certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def handshake() -> None:
            taken, _ = listening.accept()
            with taken, contextlib.suppress(OSError):
                context.wrap_socket(taken, server_side=True)

        server = threading.Thread(target=handshake)
        server.start()
        url = Secret(f"rediss://:{PLANTED}@127.0.0.1:{listening.getsockname()[1]}/0")
        with pytest.raises(StoreUnavailable, match=r"\(TLS\) cannot be reached over TLS: .*certificate") as caught:
            with_retries(connect(url).ping, 0)
        server.join()
    assert "ssl_ca_certs" in caught.value.remedy


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    """The port of a server on loopback with that handler."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class OverTls(socketserver.BaseRequestHandler):
    """Begins TLS, and ends the connection of a client that does not."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def handle(self) -> None:
        """One connection."""
        with contextlib.suppress(OSError), self.context.wrap_socket(self.request, server_side=True):
            pass


class Web(http.server.BaseHTTPRequestHandler):
    """Answers every request with an error, as web servers do."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("server", ["redis", "tls", "web"])
def test_the_wrong_kind_of_port_is_named(scheme: str, server: str, valkey_url: Secret) -> None:
    """TLS to a port without it, the reverse, and a web server: the error says so, and never has the password."""
    expected = {
        ("redis", "tls"): "requires TLS, and the URL begins with redis://",
        ("rediss", "redis"): "has no TLS, and the URL begins with rediss://",
        ("redis", "web"): "is a web server and no broker",
        ("rediss", "web"): "is a web server and no broker",
        ("rediss", "tls"): "cannot be reached over TLS: .*certificate",
        ("redis", "redis"): "refused the password",
    }[scheme, server]
    with contextlib.ExitStack() as stack:
        port = int(valkey_url.reveal().rpartition(":")[2].partition("/")[0])
        port = stack.enter_context(serving({"tls": OverTls, "web": Web}[server])) if server != "redis" else port
        with pytest.raises(StoreUnavailable, match=expected) as caught:
            with_retries(connect(Secret(f"{scheme}://:{PLANTED}@127.0.0.1:{port}/0"), waits=Waits(1.0, 0)).ping, 0)
    assert PLANTED not in f"{caught.value!r}{caught.value.remedy}"
    assert caught.value.remedy


def test_a_missing_database_is_reported(valkey_url: Secret) -> None:
    """The error for a database number that the server does not have is about the URL."""
    with pytest.raises(StoreUnavailable, match="has no database with this number"):
        with_retries(connect(Secret(valkey_url.reveal().removesuffix("/0") + "/99999")).ping, 0.1)


def test_a_wrong_password_is_reported_at_once(valkey_url: Secret) -> None:
    """A refused password is not retried."""
    wrong = valkey_url.reveal().replace("redis://:", "redis://:not")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refused the password"):
        RedisStore(connect(Secret(wrong)), SEAL, patience=600).runs()
    assert time.monotonic() - start < 300


@pytest.mark.parametrize(
    ("why", "message", "remedy"),
    [
        (Refusal.MEMORY, "is out of memory", "maxmemory"),
        (Refusal.DISK, "cannot write its data to disk", "free space"),
        (Refusal.REPLICA, "is a read-only replica", "the primary"),
        (Refusal.ALONE, "has lost its replicas", "min-replicas-to-write"),
    ],
)
def test_a_server_that_takes_no_writes_is_reported(valkey: Redis, why: Refusal, message: str, remedy: str) -> None:
    """The error has the reason and the remedy, and no run is called damaged; afterwards it works again."""
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    claim(store, "r1", "S1", "w1", 60)
    with refusing(valkey, why):
        for write in (
            lambda: store.note("r1", Event(kind="run.started")),
            lambda: store.renew("r1", ["S1"], "w1", 60),
            lambda: store.lock_servers(["S1"], "r1", 60),
        ):
            with pytest.raises(StoreUnavailable, match=message) as caught:
                write()
            assert remedy in caught.value.remedy
    assert {"S1"} == store.renew("r1", ["S1"], "w1", 60)


def test_broken_connections_are_replaced(valkey: Redis, valkey_url: Secret) -> None:
    """After the server closed our connections between two requests, the next request succeeds."""
    store = RedisStore(connect(valkey_url), SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    for _ in range(5):
        valkey.client_kill_filter(_type="normal", skipme=True)
        assert "r1" == store.run("r1").id
        assert claim(store, "r1", "S1", "w1", 60)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux lets a program set this")
def test_no_connection_outlives_its_network_for_hours(valkey_url: Secret) -> None:
    """The system ends a connection of any kind over which nothing has arrived for ten seconds."""
    app = make_app(Settings(broker_url=valkey_url))
    with app.connection_for_write() as broker, connect(valkey_url) as store:
        pools = [broker.default_channel.pool, app.backend.client.connection_pool, store.connection_pool]
        for pool in pools:
            connection = pool.get_connection()
            known = [
                connection._sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE)
            ]
            assert [10_000, 4] == known
            assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            pool.release(connection)
    app.close()


def test_scripts_are_loaded_again(valkey: Redis) -> None:
    """A server that lost our scripts gets them again."""
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    valkey.script_flush()
    assert store.save(store.run("r1"))


def test_a_save_whose_reply_was_lost_counts(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same write, repeated after a lost reply, is not refused as the write of a slower process."""
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
    """When there are more threads than connections, they wait and do not fail."""
    client = connect(valkey_url)
    asked = threading.Barrier(150)
    failed: list[BaseException] = []

    def ask() -> None:
        asked.wait()
        try:
            with_retries(client.ping, 5)
        except BaseException as error:  # noqa: BLE001 - the test shows any error
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failed
    client.close()


def test_the_history_has_a_cap(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap the oldest events are removed, never the newest."""
    monkeypatch.setattr("workers.store.redis_store.EVENT_CAP", 200)
    store = RedisStore(valkey, SEAL)
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    for number in range(450):
        store.note("r1", Event(kind="step.ended", message=str(number)))
    kept = [int(event.message) for event in store.events("r1")]
    assert kept == list(range(kept[0], 450))
    assert 200 <= len(kept) < 400
