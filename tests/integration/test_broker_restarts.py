"""The broker restarts in the middle of runs: the same worker process goes on, and every run ends joined."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at
from tests.sampling import examples
from workers.celery_app import CONTROL_QUEUE, make_app
from workers.records import Verdict
from workers.redis.connection import connect

pytestmark = pytest.mark.integration

HARD, GRACEFUL = signal.SIGKILL, signal.SIGTERM


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A broker of its own, and a worker that answers."""
    with harness_at(tmp_path / "harness") as started:
        started.wait_for_worker()
        yield started


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four servers, slow enough for a run to be met in its middle."""
    with four_servers(tmp_path / "lab") as running:
        for node in FOUR:
            running.break_node(node, latency_ms=60)
        yield running


def restart(harness: Harness, how: signal.Signals, away: float) -> None:
    """Ends the server, and starts it again on its file after so many seconds."""
    os.kill(harness.broker.pid, how)
    harness.broker.wait()
    time.sleep(away)
    harness.broker.start()


def same_worker(harness: Harness) -> bool:
    """Whether the worker that was started still runs, and has not had to be saved from anything unforeseen."""
    unforeseen = ("Unrecoverable", "the consumer broke", "could not be closed")
    return (
        harness.worker is not None
        and harness.worker.poll() is None
        and not any(words in harness.log() for words in unforeseen)
    )


def answers(harness: Harness) -> bool:
    """Whether the worker answers somebody who has only just connected."""
    app = make_app(harness.engine.settings)
    try:
        asked = app.send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE)
        return bool(asked.get(timeout=30)["error"] == "run_unknown")
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
    """Restart after restart, killed and ended in turn, at any moment of a run: every run joins, in one worker."""
    chance, took, again, times = random.Random(11), [], 0, examples(20, 4)  # noqa: S311 - moments, no secrets
    for number in range(times):
        run = harness.start(cluster_of(lab))
        time.sleep(chance.uniform(0.1, 2.5))
        restart(harness, HARD if number % 2 else GRACEFUL, away=chance.uniform(0.2, 6 if times > 4 else 2))
        back = time.monotonic()
        assert harness.finished(run.id, 90).record.verdict is Verdict.JOINED
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


def test_restarts_in_the_middle_of_one_run(harness: Harness, lab: LabProcess) -> None:
    """Four restarts while one run goes on: it joins."""
    run = harness.start(cluster_of(lab))
    for how in (HARD, GRACEFUL, HARD, GRACEFUL):
        time.sleep(1)
        restart(harness, how, 0.3)
    assert harness.finished(run.id, 90).record.verdict is Verdict.JOINED
    assert same_worker(harness), harness.log()[-3000:]


def test_an_idle_worker_outlives_restarts(harness: Harness) -> None:
    """With nothing to do, too; and what it then is asked, it answers."""
    for how in (GRACEFUL, HARD, GRACEFUL, HARD):
        restart(harness, how, 0.2)
        assert answers(harness)
    assert same_worker(harness), harness.log()[-3000:]


def test_a_run_goes_on_after_a_long_outage(harness: Harness, lab: LabProcess) -> None:
    """The broker is away for a minute in the middle of a run: the worker waits for it, and the run joins."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, examples(60, 12))
    assert harness.finished(run.id, 90).record.verdict is Verdict.JOINED
    assert same_worker(harness), harness.log()[-3000:]


def test_nothing_is_left_of_what_was_in_hand(harness: Harness, lab: LabProcess) -> None:
    """A step that ends after the restart is acknowledged over the new connection: nothing waits for its timeout."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, 0.2)
    assert harness.finished(run.id, 90).record.verdict is Verdict.JOINED
    with connect(harness.engine.settings.store()) as client:
        until = time.monotonic() + 20
        while (left := client.hlen("unacked")) and time.monotonic() < until:
            time.sleep(0.1)
    assert 0 == left


def test_the_worker_gives_back_what_it_had_when_it_ends(harness: Harness, lab: LabProcess) -> None:
    """A worker that was ended after a restart leaves nothing unacknowledged: its successor goes on at once."""
    run = harness.start(cluster_of(lab))
    harness.wait_for_step(run.id, "install_check")
    restart(harness, HARD, 0.2)
    harness.end_worker()
    with connect(harness.engine.settings.store()) as client:
        assert 0 == client.hlen("unacked")
    harness.start_worker()
    assert harness.finished(run.id, 90).record.verdict is Verdict.JOINED
