"""The supervisor restarts services, gives up after many ends, and does not repeat a misconfigured start."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.local import supervisor
from pipelines.local.processes import Child
from pipelines.local.supervisor import FAILURES, Supervisor
from workers.errors import FileTrouble, ServiceLost

Supervised = tuple[Child, Supervisor]
STAYS = "import time; print('runs', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "_LOOK_EVERY", 0.01)


@contextlib.contextmanager
def supervised(
    folder: Path, code: str, reported: list[str], *, ready: bool = True, optional: bool = False
) -> Iterator[Supervised]:
    """A supervised process, ended after the block."""
    child = Child("thing", ["-c", code], folder=folder, log=folder / "thing.log")
    guard = Supervisor([child], reported.append, lambda: None, optional=["thing"] if optional else [])
    with child:
        if ready:
            guard.is_ready(child)
        guard.start()
        try:
            yield child, guard
        finally:
            guard.stop()


def until(true: Callable[[], object]) -> None:
    """Waits until a condition is true."""
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit, "waited for too long"
        time.sleep(0.01)


def _lost(guard: Supervisor) -> ServiceLost:
    found: list[ServiceLost] = []

    def lost() -> bool:
        try:
            guard.check()
        except ServiceLost as error:
            found.append(error)
        return bool(found)

    until(lost)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_service_is_restarted(tmp_path: Path, number: signal.Signals) -> None:
    """After any signal there is a new process, and one reported line."""
    reported: list[str] = []
    with supervised(tmp_path, STAYS, reported) as (child, guard):
        before = child.pid
        os.kill(before, number)
        until(lambda: child.alive and child.pid != before)
        guard.check()
    how = f"was ended by {number.name}"
    assert reported == [f"the thing {how}; restarting it (1 of {FAILURES - 1}); its log: {tmp_path / 'thing.log'}"]


def test_a_service_that_ends_repeatedly_is_given_up(tmp_path: Path) -> None:
    """After the last restart the error has: how it ended, how often, the last line of its log, and its log."""
    reported: list[str] = []
    with supervised(tmp_path, "print('no more memory'); raise SystemExit(0)", reported) as (child, guard):
        error = _lost(guard)
        assert not child.alive
    assert len(reported) == FAILURES - 1
    assert error.message == f"the thing ended with status 0, {FAILURES} times within 60 seconds: no more memory"
    assert (error.file, error.exit_code) == (str(tmp_path / "thing.log"), 1)


def test_ends_outside_the_window_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ends within the window lead to giving up."""
    monkeypatch.setattr(supervisor, "WINDOW", 0.0)
    reported: list[str] = []
    with supervised(tmp_path, "raise SystemExit(1)", reported) as (_, guard):
        until(lambda: len(reported) > FAILURES)
        guard.check()
    assert all("(1 of" in text for text in reported)


def test_a_misconfigured_service_is_not_restarted(tmp_path: Path) -> None:
    """A service that was never ready and ends with an exit status would do so again: it is given up at once."""
    reported: list[str] = []
    with supervised(tmp_path, "raise SystemExit('no such setting')", reported, ready=False) as (_, guard):
        error = _lost(guard)
    assert (error.message, reported) == ("the thing ended with status 1: no such setting", [])


def test_a_service_killed_during_its_start_is_restarted(tmp_path: Path) -> None:
    """A signal is no misconfiguration: a service that was never ready is restarted too."""
    reported: list[str] = []
    with supervised(tmp_path, STAYS, reported, ready=False) as (child, guard):
        before = child.pid
        os.kill(before, signal.SIGKILL)
        until(lambda: child.alive and child.pid != before)
        guard.check()


def test_everything_else_continues_without_an_optional_service(tmp_path: Path) -> None:
    """An optional service is given up with a report, and the check still passes."""
    reported: list[str] = []
    with supervised(tmp_path, "raise SystemExit(3)", reported, optional=True) as (_, guard):
        until(lambda: len(reported) == FAILURES)
        guard.check()
    assert "it is not restarted any more, everything else continues" in reported[-1]


def test_a_failed_restart_is_reported_and_counted(tmp_path: Path) -> None:
    """Its log cannot be written: that is reported each time, counts as an end, and says at the end what to do."""
    reported: list[str] = []
    with supervised(tmp_path, STAYS, reported) as (child, guard):
        until(child.log.exists)
        child.log.unlink()
        child.log.mkdir()
        os.kill(child.pid, signal.SIGKILL)
        error = _lost(guard)
        with pytest.raises(FileTrouble) as refused:
            child.start()
    assert f"{FAILURES} times" in error.message
    assert error.remedy == refused.value.remedy
    assert any("could not be restarted" in text and "Is a directory" in text for text in reported)


def test_a_service_that_is_unusable_for_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running service that cannot do its work is reported once, then given up with the reason."""
    monkeypatch.setattr(supervisor, "UNUSABLE", 0.3)
    monkeypatch.setattr(supervisor, "_EXAMINE_EVERY", 0.01)
    reported: list[str] = []
    with supervised(tmp_path, STAYS, reported) as (child, guard):
        monkeypatch.setattr(child, "trouble", lambda: "cannot write its data to disk")
        error = _lost(guard)
    assert error.message.startswith("the thing cannot write its data to disk for 0 seconds")
    assert len(reported) == 1


def test_a_service_that_recovers_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble that passes, freed disk space for example, is reported and forgotten."""
    monkeypatch.setattr(supervisor, "_EXAMINE_EVERY", 0.0)
    reported, examined = list[str](), list[float]()

    def healthy() -> str:
        examined.append(time.monotonic())
        return ""

    with supervised(tmp_path, STAYS, reported) as (child, guard):
        monkeypatch.setattr(child, "trouble", lambda: "does not answer")
        until(lambda: reported)
        monkeypatch.setattr(child, "trouble", healthy)
        until(lambda: examined[1:])
        monkeypatch.setattr(supervisor, "UNUSABLE", 0.0)
        count = len(examined)
        until(lambda: len(examined) > count + 5)
        guard.check()


def test_a_stopped_process_is_ended_without_waiting(tmp_path: Path) -> None:
    """A process stopped by SIGSTOP still receives the request to end."""
    with supervised(tmp_path, STAYS, []) as (child, guard):
        until(lambda: "runs" in child.last_log_line())
        os.kill(child.pid, signal.SIGSTOP)
        guard.stop()
        begun = time.monotonic()
        child.stop(100)
    assert time.monotonic() - begun < 60
