"""Other programs on the broker: they neither steer nor disturb our workers, and are named."""

import contextlib
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from pipelines.engine import connect_engine
from pipelines.usecases import runs
from tests.integration.harness import Harness, cluster_of, four_servers, harness_at
from tests.places import ROOT
from tests.ports import kept_ports
from tests.waiting import PATIENCE, wait_until
from workers.broker.neighbours import neighbours_on
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.errors import StoreUnavailable
from workers.records import Verdict
from workers.redis.connection import connect
from workers.settings import Secret

pytestmark = pytest.mark.integration

#: A worker of another application, with Celery's own settings, and with tasks that are named as ours.
STRANGER = """
import sys
from celery import Celery, chord
app = Celery("shop", broker=sys.argv[1], backend=sys.argv[1])
app.conf.broker_transport_options = {"visibility_timeout": 1, "unacked_restore_interval": 1}

@app.task(name="esync.install_check")
def check(number):
    return f"goods {number}"

@app.task(name="esync.join_and_verify")
def join(goods):
    return sorted(goods)

@app.task(name="shop.sell")
def sell():
    return chord(check.s(number) for number in range(3))(join.s()).id

app.worker_main(["worker", "--pool", "solo", "--loglevel", "ERROR"])
"""


@pytest.fixture(scope="module")
def client(harness: Harness) -> Iterator[Redis]:
    """A client of the broker."""
    with connect(Secret(harness.environment["ESYNC_BROKER_URL"])) as one:
        yield one


@pytest.fixture
def stranger(harness: Harness) -> Celery:
    """An application of another program that has the address of our broker and no setting of ours."""
    harness.wait_for_worker()
    url = harness.environment["ESYNC_BROKER_URL"]
    return Celery("shop", broker=url, backend=url)


def answers(harness: Harness) -> bool:
    """Whether the worker that was started first answers a program without our settings."""
    url = harness.environment["ESYNC_BROKER_URL"]
    asked = Celery(broker=url, backend=url).send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE)
    answer = asked.get(timeout=PATIENCE)
    return bool(harness.worker and harness.worker.poll() is None and answer["error"] == "run_unknown")


@contextlib.contextmanager
def shop_at(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A living worker of another application; it logs to `log`."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", STRANGER, url], stdout=log, stderr=log)
        with process:
            try:
                yield process
            finally:
                process.terminate()


def test_the_control_commands_of_others_do_not_reach_our_workers(harness: Harness, stranger: Celery) -> None:
    """After `shutdown` and other broadcasts of another application the worker runs, answers, and takes messages."""
    stranger.control.shutdown()
    stranger.control.cancel_consumer(CONTROL_QUEUE)
    stranger.control.purge()
    stranger.control.broadcast("pool_shrink", arguments={"n": 100})
    assert not stranger.control.ping(timeout=1)
    assert answers(harness)
    assert harness.engine.app.control.ping(timeout=PATIENCE, limit=1)


def test_messages_in_work_are_not_returned_by_others(harness: Harness, client: Redis, stranger: Celery) -> None:
    """Messages that our worker has taken are in a list that another application does not know, and the reverse."""
    with stranger.connection_for_read() as connection:
        theirs = connection.default_channel
        ours = harness.engine.app.connection_for_read().default_channel
        names = [{one.unacked_key, one.unacked_index_key, one.unacked_mutex_key} for one in (ours, theirs)]
    assert names[0].isdisjoint(names[1])
    assert not client.exists("unacked", "unacked_index")


def test_a_run_continues_beside_everything_that_another_application_does(tmp_path: Path) -> None:
    """It runs chords of tasks with our names, empties its queue, deletes all results and ends all its workers."""
    with four_servers(tmp_path / "lab") as lab, harness_at(tmp_path) as harness, connect(harness.broker.url) as client:
        url = harness.environment["ESYNC_BROKER_URL"]
        shop = Celery("shop", broker=url, backend=url)

        def disturb() -> None:
            chord = shop.send_task("shop.sell").get(timeout=PATIENCE)
            assert shop.AsyncResult(chord).get(timeout=PATIENCE) == ["goods 0", "goods 1", "goods 2"]
            shop.send_task("esync.install_check", [1], countdown=3600)
            shop.control.purge()
            for key in client.scan_iter("celery-task-meta-*"):
                client.delete(key)

        with shop_at(url, tmp_path) as worker:
            disturb()
            run = harness.start(cluster_of(lab))
            for step in ("install_check", "config_edit", "service_restart"):
                harness.wait_for_step(run.id, step)
                disturb()
            shop.control.shutdown()
            assert worker.wait(PATIENCE) == 0
        assert harness.finished(run.id).record.verdict is Verdict.JOINED
        assert harness.worker
        assert harness.worker.poll() is None


def test_another_application_is_named(harness: Harness, client: Redis, tmp_path: Path) -> None:
    """A living worker of another application is named with its keys, and so is a key that is not even text."""
    harness.wait_for_worker()
    assert answers(harness)
    client.delete("_kombu.binding.celery", "_kombu.binding_permanent.celery")  # of the other tests
    assert neighbours_on(client) == ()
    url = harness.environment["ESYNC_BROKER_URL"]
    with shop_at(url, tmp_path):
        wait_until(lambda: neighbours_on(client), lambda: (tmp_path / "log").read_text()[-2000:])
    (application,) = map(str, neighbours_on(client))
    assert "another Celery application uses the database of the broker (celery); " in application
    assert "ESYNC_BROKER_URL" in application
    client.set(b"\xff\x1b[31m", "1")
    left = " ".join(map(str, neighbours_on(client)))
    assert "xff" in left
    assert "\x1b" not in left


def test_worker_and_doctor_warn(tmp_path: Path, esync: Path) -> None:
    """A broker that evicts, keeps nothing on disk and has a stranger's keys: worker and doctor say it."""
    with (
        four_servers(tmp_path / "lab") as lab,
        harness_at(tmp_path, worker=False) as harness,
        connect(harness.broker.url) as client,
    ):
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.set("shop:basket", "1")
        harness.start_worker()
        harness.wait_for_worker()
        command = [str(esync), "doctor", str(lab.cluster)]
        given = {**os.environ, **harness.environment}
        told = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120, check=False).stderr
        for words in ("maxmemory-policy allkeys-lru", "no append-only file", "1 key of other programs (shop:basket)"):
            assert words in harness.log()
            assert words in told


def test_the_documented_rights_are_enough(tmp_path: Path) -> None:
    """With a user that has only the rights of the documentation, a run reaches its end; with one less, none exists."""
    (rules,) = re.findall(r"ACL SETUSER esync (.*)", (ROOT / "docs/operating.md").read_text())
    with four_servers(tmp_path / "lab") as lab, harness_at(tmp_path, worker=False) as harness:
        with connect(harness.broker.url) as client:
            client.execute_command("ACL", "SETUSER", "esync", *rules.replace(">PASSWORD", ">own").split())
            client.execute_command("ACL", "SETUSER", "less", *rules.replace(">PASSWORD", ">own").split(), "-publish")
        limited = re.sub(r"//:.*@", "//esync:own@", harness.broker.url.reveal())
        harness.environment["ESYNC_BROKER_URL"] = limited
        settings = harness.engine.settings
        harness.engine = connect_engine(settings.model_copy(update={"broker_url": Secret(limited)}))
        harness.start_worker()
        assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
        assert not harness.engine.unserved({CONTROL_QUEUE, NODES_QUEUE}, 10)
        assert harness.engine.remarks() == ()
        less = Secret(limited.replace("esync:", "less:"))
        with pytest.raises(StoreUnavailable, match="does not allow the user of the URL to run PUBLISH") as caught:
            runs.start(connect_engine(settings.model_copy(update={"broker_url": less})), cluster_of(lab))
        assert "docs/operating.md" in caught.value.remedy
        assert len(harness.engine.store.runs()) == 1


def test_a_plain_flower_with_the_documented_settings_sees_our_workers(harness: Harness, tmp_path: Path) -> None:
    """Flower without our code, with the two names from the documentation, shows the worker and a task."""
    harness.wait_for_worker()
    names = re.findall(
        r"^    ((?:control|event)_exchange = .*)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE
    )
    (tmp_path / "flower_settings.py").write_text("\n".join(names))
    url = harness.environment["ESYNC_BROKER_URL"]
    own = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_UNAUTHENTICATED_API": "true"}
    command = [sys.executable, "-m", "celery", "--broker", url, "--config", "flower_settings", "flower"]
    shown: list[str] = []

    def sees() -> bool:
        assert answers(harness)
        shown[:] = [_page(port, path) for path in ("/api/workers?refresh=1", "/api/tasks")]
        return "celery@" in shown[0] and "esync.status" in shown[1]

    with kept_ports() as (port,), (tmp_path / "log").open("wb") as log:
        given = {**os.environ, **own, "FLOWER_PORT": str(port)}
        process = subprocess.Popen(command, cwd=tmp_path, env=given, stdout=log, stderr=log)
        try:
            wait_until(sees, lambda: f"{shown}{(tmp_path / 'log').read_text()[-2000:]}")
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _page(port: int, path: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
        return str(reply.read().decode())
    return ""
