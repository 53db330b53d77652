"""One command at a time runs services from a state folder: taking turns."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, Timeout

from pipelines.local.state import command_here, recorded_children, state_folder
from workers.errors import InputRefused
from workers.host.locks import process_lock
from workers.host.processes import end_process, find_process

__all__ = ["briefly", "exclusive"]

LOCK_PATIENCE = 10.0  #: seconds to wait for another command that is about to end
_LOOK_EVERY = 0.2  #: seconds between two looks at which command is in the way
_POLL = 0.02  #: seconds between two tries to be the next
_TOLD_AFTER = 1.0  #: seconds of waiting without a word
ORPHAN_PATIENCE = 10.0  #: seconds that a process of a killed command has to end


def briefly(command: str) -> float:
    """Seconds to wait for any command that is about to end."""
    del command
    return LOCK_PATIENCE


@contextlib.contextmanager
def exclusive(
    state: Path,
    kind: str,
    report: Callable[[str], None] = lambda _: None,
    patience: Callable[[str], float] = briefly,
) -> Iterator[Callable[[], bool]]:
    """Lets one command at a time run services from a state folder; first ends those that a killed one left running.

    Args:
        state: the folder.
        kind: this command.
        report: called with one sentence if this command has to wait.
        patience: seconds to wait while that command runs its services there; it is empty while none does: one is about
            to, or ends.

    Yields:
        Whether the folder is still the same one, and with it the turn: where it was removed, the next command makes a
        new one.

    Raises:
        InputRefused: another command runs services there.
    """
    file = state_folder(state) / "services.lock"
    lock = process_lock(file)
    _acquire(lock, state, report, patience)
    taken = _identity(file)
    try:
        if kind != "look":
            for pid, ticks in recorded_children(state).items():
                _end_orphan(pid, ticks)
        yield lambda: _identity(file) == taken
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, state: Path, report: Callable[[str], None], patience: Callable[[str], float]) -> None:
    """Takes its turn after the other commands."""
    began, told = time.monotonic(), False
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=_LOOK_EVERY, poll_interval=_POLL)
            return
        command, waited = command_here(state), time.monotonic() - began
        if waited > patience(command):
            raise InputRefused(
                f"another esync command ({command or 'unknown'}) runs its own services here",
                remedy="wait until it ends; or start `esync up` once: any number of commands can use its services, "
                "with the same ESYNC_BROKER_URL if it has one",
                file=str(state),
            )
        if command and not told and waited > _TOLD_AFTER:
            report(f"waiting for another esync command ({command}) to end; `esync up` would serve both at once")
            told = True


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from one of the same name that takes its place; None without one."""
    try:
        known = file.stat()
    except FileNotFoundError:
        return None
    return known.st_dev, known.st_ino


def _end_orphan(pid: int, ticks: str) -> None:
    orphan = find_process(pid, ticks)
    if orphan is not None:
        end_process(orphan, ORPHAN_PATIENCE)
