"""What this machine keeps between commands: which command runs the services, and secrets that were created once."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout

from pipelines.local.processes import Child
from workers.errors import EsyncError, FileTrouble, InputRefused
from workers.host.private import file_trouble, make_folder, open_private, process_lock, write_private
from workers.host.processes import end_process, find_process, start_ticks
from workers.settings import Secret

__all__ = [
    "briefly",
    "command_here",
    "exclusive",
    "forget_services",
    "machine_secret",
    "record_services",
    "state_folder",
]

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
) -> Iterator[None]:
    """Lets one command at a time run services from a state folder; first ends those that a killed one left running.

    Args:
        state: the folder.
        kind: this command.
        report: called with one sentence if this command has to wait.
        patience: seconds to wait while that command runs its services there; it is empty while none does: one is about
            to, or ends.

    Raises:
        InputRefused: another command runs services there.
    """
    lock = process_lock(state_folder(state) / "services.lock")
    _acquire(lock, state, report, patience)
    try:
        if kind != "look":
            for child in _recorded(state).get("children", []):
                _end_orphan(int(child["pid"]), str(child["started"]))
        yield
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


def _end_orphan(pid: int, ticks: str) -> None:
    orphan = find_process(pid, ticks)
    if orphan is not None:
        end_process(orphan, ORPHAN_PATIENCE)


def record_services(state: Path, kind: str, children: Sequence[Child]) -> None:
    """Records which command runs services here, and the processes that it started."""
    record = {"kind": kind, "pid": os.getpid(), "started": start_ticks(os.getpid())}
    record["children"] = [{"pid": child.pid, "started": start_ticks(child.pid)} for child in children]
    write_private(state / "services.json", json.dumps(record))


def _recorded(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((state / "services.json").read_text("utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def command_here(state: Path) -> str:
    """The command that runs the services of this folder now; empty when there is none."""
    record = _recorded(state)
    pid, ticks = record.get("pid"), record.get("started")
    running = isinstance(pid, int) and isinstance(ticks, str) and find_process(pid, ticks) is not None
    return str(record.get("kind", "")) if running else ""


def forget_services(state: Path) -> None:
    """Removes the record: no command runs services here."""
    (state / "services.json").unlink(missing_ok=True)


def machine_secret(file: Path, create: Callable[[], str]) -> Secret:
    """A secret of this machine, created at its first use, readable by its owner only.

    Raises:
        FileTrouble: its file cannot be read or written.
        EsyncError: its file is empty.
    """
    make_folder(file.parent)
    with contextlib.suppress(FileExistsError), open_private(file, os.O_EXCL) as new:
        try:
            new.write(create().encode())
        except OSError as error:
            file.unlink()
            raise file_trouble(error, file, "written") from error
    try:
        value = file.read_text("utf-8").strip()
    except OSError as error:
        raise file_trouble(error, file, "read") from error
    if not value:
        raise EsyncError(
            "a secret of this machine is empty", remedy="remove the file; esync creates a new one", file=str(file)
        )
    return Secret(value)


def state_folder(state: Path) -> Path:
    """The state folder, created when missing, for its owner only.

    Raises:
        FileTrouble: it cannot be created.
    """
    try:
        return make_folder(state)
    except FileTrouble as error:
        error.remedy = "set ESYNC_STATE to a folder that you may write to"
        raise
