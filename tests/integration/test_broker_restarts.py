"""The broker restarts during runs: the same worker process continues, and every run ends joined."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at
from tests.refusing import Refusal, refusing
from tests.sampling import examples, in_turn
from tests.waiting import PATIENCE, wait_until
from workers.broker.set_aside import SET_ASIDE
from workers.celery_app import CONTROL_QUEUE, make_app
from workers.records import Verdict
from workers.redis.connection import connect

pytestmark = pytest.mark.integration

HARD, GRACEFUL = signal.SIGKILL, signal.SIGTERM


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """An own broker, and a worker that answers."""
    with harness_at(tmp_path / "harness") as started:
        started.wait_for_worker()
        yield started


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four servers, slow enough for a restart during a run."""
    with four_servers(tmp_path / "lab") as running:
        for node in FOUR:
            running.break_node(node, latency_ms=60)
        yield running


def restart(harness: Harness, how: signal.Signals, away: float) -> None:
    """Ends the server, and starts it again with its data after some seconds."""
    os.kill(harness.broker.pid, how)
    harness.broker.wait()
    time.sleep(away)
    harness.broker.start()


def same_worker(harness: Harness) -> bool:
    """Whether the first worker still runs, and its log has no unexpected error."""
    unexpected = ("Unrecoverable", "the consumer failed", "could not be closed")
    return (
        harness.worker is not None
        and harness.worker.poll() is None
        and not any(words in harness.log() for words in unexpected)
    )


def answers(harness: Harness) -> bool:
    """Whether the worker answers a new connection."""
    app = make_app(harness.engine.settings)
    try:
        asked = app.send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE)
        return bool(asked.get(timeout=PATIENCE)["error"] == "run_unknown")
    finally:
        app.close()


def twice(harness: Harness, run_id: str) -> list[tuple[str, str, str]]:
    """Steps of a run that began more than once."""
    events = harness.engine.store.events(run_id)
    began = Counter((event.turn, event.node, event.step) for event in events if event.kind == "step.started")
    return [step for step, times in began.items() if times > 1]


@pytest.mark.timeout(900)
def test_every_run_ends_joined(
    harness: Harness, lab: LabProcess, record_property: Callable[[str, object], None]
) -> None:
    """Restarts at any moment of a run, by SIGKILL and SIGTERM in turn: every run joins, in one worker."""
    chance, took, again, times = random.Random(11), [], 0, examples(20, 2)  # noqa: S311 - moments, no secrets
    for number in range(times):
        run = harness.start(cluster_of(lab))
        time.sleep(chance.uniform(0.1, 2.5))
        restart(harness, HARD if number % 2 else GRACEFUL, away=chance.uniform(0.2, 6 if times > 4 else 2))
        back = time.monotonic()
        assert harness.finished(run.id).record.verdict is Verdict.JOINED
        took.append(time.monotonic() - back)
        again += len(twice(harness, run.id))
        assert same_worker(harness), harness.log()[-3000:]
        if number < times - 1:  # what the next run has to do again
            for node in FOUR:
                web = lab.disk(node) / "inetpub" / "wwwroot" / "CMS400" / "AssetManagement.config"
                web.write_bytes(web.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    told = (
        f"{times} restarts: all runs joined, at most {max(took):.1f} s after the broker was back, {again} steps twice"
    )
    record_property("measured", told)


def test_several_restarts_during_one_run(harness: Harness, lab: LabProcess) -> None:
    """A run with four restarts of the broker joins."""
    run = harness.start(cluster_of(lab))
    for how in (HARD, GRACEFUL, HARD, GRACEFUL):
        time.sleep(1)
        restart(harness, how, 0.3)
    assert harness.finished(run.id).record.verdict is Verdict.JOINED
    assert same_worker(harness), harness.log()[-3000:]


def test_an_idle_worker_survives_restarts(harness: Harness) -> None:
    """A worker without work survives restarts, and answers afterwards."""
    for how in (GRACEFUL, HARD, GRACEFUL, HARD):
        restart(harness, how, 0.2)
        assert answers(harness)
    assert same_worker(harness), harness.log()[-3000:]


def test_a_run_continues_after_a_long_outage(harness: Harness, lab: LabProcess) -> None:
    """The broker is away for a minute during a run: the worker waits for it, and the run joins."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, examples(60, 12))
    assert harness.finished(run.id).record.verdict is Verdict.JOINED
    assert same_worker(harness), harness.log()[-3000:]


@pytest.mark.parametrize(
    "why", [pytest.param(why, marks=in_turn(place, len(Refusal), "refusals")) for place, why in enumerate(Refusal)]
)
def test_a_run_continues_when_the_broker_takes_writes_again(harness: Harness, lab: LabProcess, why: Refusal) -> None:
    """No step or message was lost, nothing was taken for damaged, and the log of the worker is not flooded."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "config_edit")
    with connect(harness.engine.settings.store()) as client:
        with refusing(client, why):
            time.sleep(5)
        assert harness.finished(run.id).record.verdict is Verdict.JOINED
        wait_until(lambda: not client.hlen("esync.v1.unacked"))
        assert not client.exists(SET_ASIDE)
    assert same_worker(harness), harness.log()[-3000:]
    assert "cannot be read" not in harness.log()
    assert "Frequent restarts" not in harness.log()
    assert 5 > harness.log().count("Cannot connect")


def test_a_run_joins_although_the_broker_lost_the_last_moments(
    harness: Harness, lab: LabProcess, tmp_path: Path
) -> None:
    """As a replica may that becomes the primary: changes whose outcomes are lost are known as those of this run."""
    run = harness.start(cluster_of(lab, waves="all")).id
    wait_until(lambda: (turn := harness.engine.store.run(run).turn) is not None and turn.stage == "wave")
    data, kept = harness.broker.folder / "data", tmp_path / "kept"
    shutil.copytree(data, kept)
    harness.wait_for_step(run, "config_edit")
    os.kill(harness.broker.pid, HARD)
    harness.broker.wait()
    shutil.rmtree(data)
    kept.rename(data)
    harness.broker.start()
    done = harness.finished(run).record
    assert done.verdict is Verdict.JOINED, done.summary


def test_steps_that_end_after_a_restart_are_acknowledged(harness: Harness, lab: LabProcess) -> None:
    """They are acknowledged over the new connection: no message waits for its timeout."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, 0.2)
    assert harness.finished(run.id).record.verdict is Verdict.JOINED
    with connect(harness.engine.settings.store()) as client:
        wait_until(lambda: not client.hlen("esync.v1.unacked"))


def test_a_worker_that_ends_returns_its_messages(harness: Harness, lab: LabProcess) -> None:
    """A worker that ends after a restart leaves no unacknowledged message: the next worker continues at once."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, 0.2)
    harness.end_worker()
    with connect(harness.engine.settings.store()) as client:
        assert 0 == client.hlen("esync.v1.unacked")
    harness.start_worker()
    assert harness.finished(run.id).record.verdict is Verdict.JOINED
