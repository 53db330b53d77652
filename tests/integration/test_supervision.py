"""Services that end during a command: the run continues, or the command ends and reports how to continue."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from pipelines.cli.follow import start_and_follow
from pipelines.local.provided import Running
from pipelines.local.reading import engine_only
from pipelines.local.services import DRAIN, engine_with_worker
from pipelines.usecases import runs as commands
from tests.integration.harness import cluster_of, four_servers
from tests.waiting import wait_until
from workers.errors import ServiceLost
from workers.records import RunState
from workers.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumes the work of a killed worker after seconds; the worker inherits these settings."""
    for name, value in {"LEASE": "2", "STALL_AFTER": "2", "RECONCILE_EVERY": "0.5"}.items():
        monkeypatch.setenv(f"ESYNC_{name}", value)
    monkeypatch.setattr("pipelines.local.supervisor.PAUSE", 0.05)


def _ours(folder: Path, word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(str(folder)) and word in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextlib.contextmanager
def meanwhile(action: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs an action in parallel, until the end of the block."""
    over = threading.Event()
    thread = threading.Thread(target=action, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _when_writing(services: Running, over: threading.Event) -> bool:
    """Waits until a wave of the newest run has started."""
    while not over.wait(0.05):
        runs = services.engine.store.runs(1)
        if runs and runs[0].turn and runs[0].turn.stage == "wave":
            return True
    return False


def _people() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.parametrize("victim", ["celery", "valkey"])
def test_a_run_continues_after_a_service_was_killed(tmp_path: Path, victim: str) -> None:
    """Worker or broker, killed during a wave: the command restarts it, and the run ends joined."""
    reported: list[str] = []
    settings = Settings(state=tmp_path / "state")
    with (
        four_servers(tmp_path / "lab") as lab,
        engine_with_worker(settings, reported.append) as services,
    ):
        for node in ("S1", "S2", "P1", "P2"):
            lab.break_node(node, latency_ms=60)

        def kill(over: threading.Event) -> None:
            if _when_writing(services, over):
                for process in _ours(settings.state, victim):
                    process.kill()

        with meanwhile(kill):
            report = start_and_follow(services, cluster_of(lab), _people())
    assert report.verdict == "joined"
    assert any("was ended by SIGKILL; restarting it" in text for text in reported)
    assert _ours(tmp_path, "") == []


def test_a_worker_that_always_ends_stops_the_command_and_not_the_run(tmp_path: Path) -> None:
    """A worker that is killed after each restart: the command ends with a remedy, and with that the run continues."""
    reported: list[str] = []
    settings = Settings(state=tmp_path / "state")
    with four_servers(tmp_path / "lab") as lab:
        for node in ("S1", "S2", "P1", "P2"):
            lab.break_node(node, latency_ms=60)

        def kill(over: threading.Event) -> None:
            while not over.wait(0.05):
                for process in _ours(settings.state, "celery"):
                    if any(one.turn for one in first.engine.store.runs(1)):
                        with contextlib.suppress(psutil.Error):
                            process.kill()

        with (
            pytest.raises(ServiceLost, match="the worker was ended by SIGKILL, 5 times") as caught,
            engine_with_worker(settings, reported.append) as first,
            meanwhile(kill),
        ):
            start_and_follow(first, cluster_of(lab), _people())
        assert _ours(settings.state, "") == []
        with engine_only(settings) as engine:
            (run,) = engine.store.runs()
        assert run.state is not RunState.CONCLUDED
        assert f"esync watch {run.id}" in caught.value.remedy
        with engine_with_worker(settings, reported.append, kind="watch") as second:
            wait_until(lambda: second.engine.store.run(run.id).state is RunState.CONCLUDED)
            assert commands.status(second.engine, run.id).verdict == "joined"


def test_a_worker_that_is_stopped_is_ended_with_the_command(tmp_path: Path) -> None:
    """A worker stopped by SIGSTOP is ended without waiting, and no process remains."""
    settings = Settings(state=tmp_path / "state")
    with engine_with_worker(settings, lambda _: None):
        (worker,) = _ours(settings.state, "celery")
        worker.suspend()
        begun = time.monotonic()
    assert time.monotonic() - begun < DRAIN
    assert _ours(tmp_path, "") == []
