"""The Celery configuration with a real worker process and a real server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from celery import Celery
from redis import Redis

from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE, make_app
from workers.redis.connection import connect
from workers.redis.embedded import EmbeddedBroker
from workers.settings import Secret, Settings

pytestmark = pytest.mark.integration


class Worker:
    """A worker process and its output."""

    def __init__(self, url: Secret, log: Path, **environment: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.integration.sample_worker", "worker"],
                stdout=out,
                stderr=out,
                env={**os.environ, "ESYNC_BROKER_URL": url.reveal(), **environment},
            )

    def stop(self) -> None:
        """Ends the process."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def working(url: Secret, folder: Path, **environment: str) -> Iterator[Worker]:
    """A worker during the `with` block."""
    worker = Worker(url, folder / "worker.log", **environment)
    try:
        yield worker
    finally:
        worker.stop()


def soon(look: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether a condition becomes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not (so := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return so


def publish_wave(app: Celery, steps: int, seconds: float) -> None:
    """Sends a worker the task to publish a wave of steps with a join and an errback."""
    app.send_task("sample.wave", args=(steps, seconds), queue=CONTROL_QUEUE)


@pytest.fixture
def app(valkey_url: Secret, valkey: Redis) -> Iterator[Celery]:
    """The publisher's app, on an empty server."""
    del valkey
    made = make_app(Settings(broker_url=valkey_url))
    yield made
    made.close()


def test_control_messages_come_first(app: Celery, valkey: Redis, valkey_url: Secret, tmp_path: Path) -> None:
    """A control message that is sent last is taken first; the worker reads both queues by default."""
    for number in range(3):
        app.send_task("sample.step", args=(number, 0), queue=NODES_QUEUE)
    app.send_task("sample.control", queue=CONTROL_QUEUE)
    with working(valkey_url, tmp_path, ESYNC_CONCURRENCY="1"):
        assert soon(lambda: valkey.llen("ended") == 4)
    assert ["control", "step 0", "step 1", "step 2"] == valkey.lrange("ended", 0, -1)


def test_the_password_is_in_no_process_and_no_output(
    app: Celery, valkey: Redis, valkey_url: Secret, tmp_path: Path
) -> None:
    """Neither the worker's command line, nor its log at DEBUG, nor `celery report` has the broker's password."""
    password = valkey_url.reveal().split(":")[2].split("@")[0]
    with working(valkey_url, tmp_path, ESYNC_LOG_LEVEL="DEBUG") as worker:
        app.send_task("sample.control", queue=CONTROL_QUEUE)
        assert soon(lambda: valkey.llen("ended") == 1)
        assert password not in " ".join(psutil.Process(worker.process.pid).cmdline())
    report = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.integration.sample_worker", "report"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ESYNC_BROKER_URL": valkey_url.reveal()},
    )
    said = worker.log.read_text()
    assert "sample.control" in said
    assert password not in said
    assert "esync.v1.nodes" in report.stdout
    assert password not in report.stdout + report.stderr


def test_a_wave_joins_after_broken_connections(app: Celery, valkey: Redis, valkey_url: Secret, tmp_path: Path) -> None:
    """All the worker's connections are closed while steps run: no step is lost and the wave joins once."""
    # Closed while no message is on its way: kombu can lose one that is, which is the reconciler's business.
    with working(valkey_url, tmp_path, ESYNC_CONCURRENCY="8", ESYNC_VISIBILITY_TIMEOUT="10"):
        publish_wave(app, steps=8, seconds=1)
        assert soon(lambda: valkey.llen("began") == 8)
        valkey.client_kill_filter(_type="normal", skipme=True)
        assert soon(lambda: valkey.llen("joined") == 1)
        assert 8 == len(set(valkey.lrange("ended", 0, -1)))
        time.sleep(1)
        assert ["8"] == valkey.lrange("joined", 0, -1)


def test_a_wave_joins_after_the_server_was_killed(tmp_path: Path) -> None:
    """The server is killed while steps run and starts again 2 s later: the same worker process ends the wave."""
    broker = EmbeddedBroker(tmp_path / "valkey")
    url = broker.start()
    app = make_app(Settings(broker_url=url))
    try:
        with working(url, tmp_path, ESYNC_CONCURRENCY="4", ESYNC_VISIBILITY_TIMEOUT="5") as worker:
            with connect(url) as client:
                publish_wave(app, steps=8, seconds=1)
                assert soon(lambda: client.llen("began") == 4)
            os.kill(broker.pid, signal.SIGKILL)
            broker.wait()
            time.sleep(2)
            broker.start()
            with connect(url) as client:
                assert soon(lambda: client.llen("joined") == 1, 60), worker.log.read_text()[-3000:]
                assert 8 == len(set(client.lrange("ended", 0, -1)))
            assert worker.process.poll() is None
    finally:
        app.close()
        broker.stop()
