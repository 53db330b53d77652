"""Who looks after services: a death is told and mended, many deaths are given up, a mistake is not tried again."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.local import supervisor
from pipelines.local.processes import Child
from pipelines.local.supervisor import DEATHS, Supervisor
from workers.errors import ServiceLost

Watch = tuple[Child, Supervisor]
STAYS = "import time; print('I work', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "_LOOK", 0.01)


@contextlib.contextmanager
def watched(folder: Path, code: str, told: list[str], *, ready: bool = True, spared: bool = False) -> Iterator[Watch]:
    """A process that is looked after, ended afterwards."""
    child = Child("thing", ["-c", code], folder=folder, log=folder / "thing.log")
    guard = Supervisor([child], told.append, lambda: None, spared=["thing"] if spared else [])
    with child:
        if ready:
            guard.is_ready(child)
        guard.start()
        try:
            yield child, guard
        finally:
            guard.stop()


def until(true: Callable[[], object]) -> None:
    """Waits for something that must come."""
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
def test_one_that_is_killed_is_started_again(tmp_path: Path, number: signal.Signals) -> None:
    """By whatever signal it ends, there is a new one, and one line about it."""
    told: list[str] = []
    with watched(tmp_path, STAYS, told) as (child, guard):
        before = child.pid
        os.kill(before, number)
        until(lambda: child.alive and child.pid != before)
        guard.check()
    how = f"was ended by {number.name}"
    assert told == [f"the thing {how} and is started again (1 of {DEATHS - 1}); its log: {tmp_path / 'thing.log'}"]


def test_one_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    """After the last try there is a clear error: how it ended, how often, its last words, its log."""
    told: list[str] = []
    with watched(tmp_path, "print('no more memory'); raise SystemExit(0)", told) as (child, guard):
        error = _lost(guard)
        assert not child.alive
    assert len(told) == DEATHS - 1
    assert error.message == f"the thing ended with status 0, {DEATHS} times within 60 seconds: no more memory"
    assert (error.file, error.exit_code) == (str(tmp_path / "thing.log"), 1)


def test_deaths_that_lie_far_apart_are_not_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of the window earlier deaths are forgotten."""
    monkeypatch.setattr(supervisor, "WINDOW", 0.0)
    told: list[str] = []
    with watched(tmp_path, "raise SystemExit(1)", told) as (_, guard):
        until(lambda: len(told) > DEATHS)
        guard.check()
    assert all("(1 of" in text for text in told)


def test_a_mistake_at_the_start_is_not_tried_again(tmp_path: Path) -> None:
    """One that was never ready and ends with a status would do so again: given up at once."""
    told: list[str] = []
    with watched(tmp_path, "raise SystemExit('no such setting')", told, ready=False) as (_, guard):
        error = _lost(guard)
    assert (error.message, told) == ("the thing ended with status 1: no such setting", [])


def test_one_killed_at_its_start_is_started_again(tmp_path: Path) -> None:
    """A signal is nobody's mistake: also one that was never ready is started again."""
    told: list[str] = []
    with watched(tmp_path, STAYS, told, ready=False) as (child, guard):
        before = child.pid
        os.kill(before, signal.SIGKILL)
        until(lambda: child.alive and child.pid != before)
        guard.check()


def test_the_rest_goes_on_without_one_that_is_not_needed(tmp_path: Path) -> None:
    """One that is spared is given up with a word, and nobody is stopped by that."""
    told: list[str] = []
    with watched(tmp_path, "raise SystemExit(3)", told, spared=True) as (_, guard):
        until(lambda: len(told) == DEATHS)
        guard.check()
    assert "it is not started any more, the rest goes on" in told[-1]


def test_one_that_cannot_be_started_is_told_and_given_up(tmp_path: Path) -> None:
    """When even the start fails, for want of a place for its log, that is told each time and counts as a death."""
    told: list[str] = []
    with watched(tmp_path, STAYS, told) as (child, guard):
        until(child.log.exists)
        child.log.unlink()
        child.log.mkdir()
        os.kill(child.pid, signal.SIGKILL)
        error = _lost(guard)
    assert f"{DEATHS} times" in error.message
    assert any("could not be started again" in text and "Is a directory" in text for text in told)


def test_one_that_is_of_no_use_for_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs and cannot do its work is told about once, then given up with what is wrong."""
    monkeypatch.setattr(supervisor, "ILL", 0.3)
    monkeypatch.setattr(supervisor, "_EXAMINED", 0.01)
    told: list[str] = []
    with watched(tmp_path, STAYS, told) as (child, guard):
        monkeypatch.setattr(child, "trouble", lambda: "cannot write its data to disk")
        error = _lost(guard)
    assert error.message.startswith("the thing cannot write its data to disk for 0 seconds")
    assert len(told) == 1


def test_one_that_gets_well_again_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble that passes, space that was freed, is told and forgotten."""
    monkeypatch.setattr(supervisor, "ILL", 0.5)
    monkeypatch.setattr(supervisor, "_EXAMINED", 0.01)
    told: list[str] = []
    with watched(tmp_path, STAYS, told) as (child, guard):
        monkeypatch.setattr(child, "trouble", lambda: "is ill")
        until(lambda: told)
        monkeypatch.setattr(child, "trouble", lambda: "")
        time.sleep(0.8)
        guard.check()


def test_a_stopped_process_is_ended_without_a_wait(tmp_path: Path) -> None:
    """One that somebody stopped (SIGSTOP) hears that it has to end."""
    with watched(tmp_path, STAYS, []) as (child, guard):
        until(lambda: "I work" in child.last_words())
        os.kill(child.pid, signal.SIGSTOP)
        guard.stop()
        begun = time.monotonic()
        child.stop(100)
    assert time.monotonic() - begun < 60
