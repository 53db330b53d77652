"""Processes: started in their own session, ended completely, and never mistaken for another with the same id."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from workers.errors import FileTrouble
from workers.host.private import open_private
from workers.host.processes import (
    end_process,
    exit_text,
    find_process,
    interrupts_deferred,
    interrupts_ignored,
    start_process,
    start_ticks,
)
from workers.host.signals import ENDING

SLEEPS = "import time; print('runs', flush=True); time.sleep(60)"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
#: A process that ends at once, and whose child does not.
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {IGNORES!r}])\n{SLEEPS}"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended after the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        end_process(process, 0)
        if process.stdout:
            process.stdout.close()


def start(code: str, started: list[subprocess.Popen[bytes]], lines: int = 1) -> subprocess.Popen[bytes]:
    """A Python process that has printed so many lines."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    started.append(process)
    assert process.stdout is not None
    assert [b"runs\n"] * lines == [process.stdout.readline() for _ in range(lines)]
    return process


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    """The error names the program that cannot be started."""
    with (
        open_private(tmp_path / "log", 0) as log,
        pytest.raises(FileTrouble, match="/nowhere/program cannot be started"),
    ):
        start_process(["/nowhere/program"], folder=tmp_path, log=log)


def test_a_process_is_asked_first(started: list[subprocess.Popen[bytes]]) -> None:
    """A process that obeys SIGTERM is not killed."""
    process = start(SLEEPS, started)
    end_process(process, 20)
    assert process.returncode == -signal.SIGTERM


def test_a_process_that_ignores_the_request_is_killed(started: list[subprocess.Popen[bytes]]) -> None:
    """After the patience is over, it is killed."""
    process = start(IGNORES, started)
    end_process(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_stopped_process_gets_the_request(started: list[subprocess.Popen[bytes]]) -> None:
    """A process that was stopped by SIGSTOP continues, and so receives SIGTERM."""
    process = start(SLEEPS, started)
    process.send_signal(signal.SIGSTOP)
    end_process(process, 20)
    assert process.returncode == -signal.SIGTERM


def test_children_of_a_process_do_not_outlive_it(started: list[subprocess.Popen[bytes]]) -> None:
    """A child that ignores SIGTERM is killed after its parent ended."""
    process = start(PARENT, started, lines=2)
    (child,) = psutil.Process(process.pid).children()
    end_process(process, 20)
    assert process.returncode == -signal.SIGTERM
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_process_that_is_no_child_of_ours_is_ended(started: list[subprocess.Popen[bytes]]) -> None:
    """A process that is only known by its id and start is ended, also one that ignores SIGTERM."""
    process = start(IGNORES, started)
    found = find_process(process.pid, start_ticks(process.pid))
    assert found is not None
    end_process(found, 0.1)
    assert not psutil.pid_exists(process.pid) or found.status() == psutil.STATUS_ZOMBIE


def test_an_ended_process_is_not_signalled(started: list[subprocess.Popen[bytes]]) -> None:
    """Ending twice does nothing: the id may belong to another process."""
    process = start(SLEEPS, started)
    end_process(process, 20)
    end_process(process, 20)
    assert process.returncode == -signal.SIGTERM


def test_a_process_is_known_by_id_and_start(started: list[subprocess.Popen[bytes]]) -> None:
    """The same id with another start is another process; so is one that has ended."""
    process = start(SLEEPS, started)
    ticks = start_ticks(process.pid)
    assert find_process(process.pid, ticks) is not None
    assert find_process(process.pid, str(int(ticks) + 1)) is None
    assert find_process(process.pid, "") is None
    end_process(process, 20)
    assert find_process(process.pid, ticks) is None
    assert start_ticks(process.pid) == ""
    assert find_process(-1, "") is None


def test_the_start_is_the_number_of_the_kernel(started: list[subprocess.Popen[bytes]]) -> None:
    """Versions before wrote the kernel's own number: their records still identify a process."""
    process = start(SLEEPS, started)
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    assert start_ticks(process.pid) == stat.rpartition(")")[2].split()[19]


@pytest.mark.parametrize(
    ("status", "text"),
    [(None, "ended"), (0, "ended with status 0"), (3, "ended with status 3"), (-9, "was ended by SIGKILL")],
)
def test_how_a_process_ended(status: int | None, text: str) -> None:
    """Unknown, with a status, or by a signal."""
    assert exit_text(status) == text
    assert exit_text(-200) == "ended with status -200"


@pytest.mark.parametrize("number", ENDING)
def test_an_interrupt_is_delayed_to_the_end_of_the_block(number: signal.Signals) -> None:
    """The block runs to its end; then the signal is raised, once."""
    received: list[int] = []
    before = signal.signal(number, lambda number, _: received.append(number))
    try:
        with interrupts_deferred():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert received == []
        assert received == [number]
        with interrupts_ignored():
            os.kill(os.getpid(), number)
        assert received == [number]
        os.kill(os.getpid(), number)
        assert received == [number, number]
    finally:
        signal.signal(number, before)


def test_other_threads_need_no_delay() -> None:
    """Outside of the main thread the blocks do nothing: no handler may be changed there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with interrupts_deferred(), interrupts_ignored():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == []
