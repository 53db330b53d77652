"""Every view says within ten seconds that a run has work and no worker answers, and how to get one."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.cli.entry import run
from pipelines.local.reading import start_of_worker
from pipelines.local.state import record_services
from pipelines.usecases import control
from pipelines.usecases.waiting import ANSWER, EVERY
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at
from tests.waiting import PATIENCE, wait_until
from workers.settings import Secret, Settings, load_settings

pytestmark = pytest.mark.integration

ESYNC = (sys.executable, "-c", "from pipelines.cli.entry import main; main()")
START = "start one: esync up; or with options of Celery: celery -A pipelines.worker worker --pool threads"
WAITING = re.compile(rf"waiting for a worker since \d\d:\d\d:\d\d UTC; {START}")


Shown = pytest.CaptureFixture[str]


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> Callable[[Harness, str], list[str]]:
    """What each view that ends by itself prints about a run: status and runs, as text and as JSON."""

    def printed(*arguments: str) -> tuple[str, str]:
        capsys.readouterr()
        assert run([*arguments]) == 0
        shown = capsys.readouterr()
        return shown.out, shown.err

    def of(harness: Harness, run_id: str) -> list[str]:
        for name, value in harness.environment.items():
            monkeypatch.setenv(name, value)
        load_settings.cache_clear()
        (row,) = [row for row in json.loads(printed("runs", "--json")[0]) if row["run"] == run_id]
        status = json.loads(printed("status", run_id, "--json")[0])
        return [printed("status", run_id)[0], "".join(printed("runs")), row["waiting"], status["waiting"]]

    return of


@contextmanager
def standing_still(lab: LabProcess) -> Iterator[None]:
    """No run ends during the block, however busy the machine is: each answer of a server takes seconds."""
    for node in FOUR:
        lab.break_node(node, latency_ms=5000)
    yield
    for node in FOUR:
        lab.heal(node)


def test_ten_seconds_are_enough_to_miss_a_worker() -> None:
    """The two times of the product leave a busy machine four seconds; how long it takes there is not measured."""
    assert EVERY + ANSWER <= 6


def test_every_view_says_that_no_worker_answers(
    tmp_path: Path, esync: Path, views: Callable[[Harness, str], list[str]]
) -> None:
    """Without a worker all views say it and how to start one; a paused run waits for no worker; a worker ends it."""
    with four_servers(tmp_path / "lab") as lab, harness_at(tmp_path, worker=False) as harness:
        started = harness.start(cluster_of(lab)).id
        given, shown = {**os.environ, **harness.environment}, tmp_path / "watch"
        with (
            shown.open("wb") as log,
            subprocess.Popen([esync, "watch", started], env=given, stdout=log, stderr=log) as watch,
        ):
            wait_until(lambda: WAITING.search(shown.read_text()), shown.read_text)
            assert all(WAITING.search(text) for text in views(harness, started))
            control.pause(harness.engine, started)
            assert not any("waiting for a worker" in text for text in views(harness, started))
            control.resume(harness.engine, started)
            harness.start_worker()
            harness.finished(started)
            assert watch.wait(PATIENCE) == 0
        before, _, after = shown.read_text().partition("waiting for a worker")
        assert "a worker answers" not in before
        assert "a worker answers" in after
        assert not any("waiting for a worker" in text for text in views(harness, started))


def test_a_dead_worker_is_missed(tmp_path: Path, esync: Path) -> None:
    """The worker is killed in mid-run: the command that follows the run says so, and that it answers again."""
    with four_servers(tmp_path / "lab") as lab, harness_at(tmp_path) as harness:
        for node in FOUR:
            lab.break_node(node, latency_ms=400)
        started = harness.start(cluster_of(lab)).id
        given, shown = {**os.environ, **harness.environment}, tmp_path / "watch"
        with (
            shown.open("wb") as log,
            subprocess.Popen([esync, "watch", started], env=given, stdout=log, stderr=log) as watch,
        ):
            harness.wait_for_step(started, "install_check")
            with standing_still(lab):
                wait_until(lambda: "observe" in shown.read_text(), lambda: "the command shows nothing")
                harness.kill_worker()
                wait_until(lambda: WAITING.search(shown.read_text()), lambda: "nothing is said")
            harness.start_worker()
            assert watch.wait(PATIENCE) == 0


def test_a_hung_worker_of_the_command_itself_is_missed(tmp_path: Path) -> None:
    """The worker that `esync rollout` started hangs: the command says so, and continues when it answers again."""
    given, shown = {**os.environ, "ESYNC_STATE": str(tmp_path / "state")}, tmp_path / "rollout"
    with four_servers(tmp_path / "lab") as lab:
        for node in FOUR:
            lab.break_node(node, latency_ms=200)
        command = [*ESYNC, "rollout", str(lab.cluster), "--yes"]
        with shown.open("wb") as log, subprocess.Popen(command, env=given, stdout=log, stderr=log) as rollout:
            wait_until(lambda: "observe" in shown.read_text(), shown.read_text)
            with standing_still(lab):
                (worker,) = json.loads((tmp_path / "state" / "services.json").read_text())["children"]
                os.kill(worker["pid"], signal.SIGSTOP)
                try:
                    wait_until(lambda: "waiting for a worker since" in shown.read_text(), shown.read_text)
                finally:
                    os.kill(worker["pid"], signal.SIGCONT)
            assert rollout.wait(PATIENCE) == 0, shown.read_text()
    assert re.search(r"UTC; this command restarts its worker when it ends; its log: .*worker\.log", shown.read_text())
    assert "a worker answers" in shown.read_text()


@pytest.mark.parametrize(
    ("broker", "here", "own", "stays", "expected"),
    [
        ("", "", False, False, "start one: esync up; or continue only this run: esync watch r1"),
        ("", "", False, True, "end this command, then start one: esync watch r1"),
        ("", "up", False, True, "`esync up` restarts it when it ends; its log: "),
        ("", "rollout", False, False, "`esync rollout` restarts it when it ends; its log: "),
        ("redis://:x@h/0", "", False, True, START),
        ("redis://:x@h/0", "up", False, False, START),
        ("", "rollout", True, True, "this command restarts its worker when it ends; its log: "),
    ],
)
def test_the_command_that_fits(
    *, broker: str, here: str, own: bool, stays: bool, expected: str, tmp_path: Path
) -> None:
    """How a worker comes back: by the command that runs it on this machine, or by the one for that broker."""
    settings = Settings(state=tmp_path, broker_url=Secret(broker) if broker else None)
    if here:
        record_services(tmp_path, here, [])
    assert start_of_worker(settings, "r1", tmp_path if own else None, stays=stays).startswith(expected)
