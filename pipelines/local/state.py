"""What this machine keeps for esync between commands: who runs services here, and secrets made once."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.local.processes import Child, end_orphan, started_at
from workers.errors import EsyncError, FileTrouble, InputRefused
from workers.host.private import as_trouble, make_folder, open_private, write_private
from workers.settings import Secret

__all__ = ["alone", "forget", "kept", "private", "remember", "who_runs"]

LOCK_PATIENCE = 10.0  #: seconds to wait for another command that is about to end


@contextlib.contextmanager
def alone(state: Path, kind: str) -> Iterator[None]:
    """One command at a time runs services from a state folder; what a killed one left behind is ended first."""
    private(state)
    with open_private(state / "services.lock", 0) as lock:
        until = time.monotonic() + LOCK_PATIENCE
        while not _taken(lock.fileno()):
            if time.monotonic() > until:
                raise InputRefused(
                    f"another esync command ({who_runs(state) or 'unknown'}) runs its own broker and worker here",
                    remedy="let it end, or start `esync up` once and run any number of commands beside it",
                    file=str(state),
                )
            time.sleep(0.1)
        if kind != "look":
            for child in _remembered(state).get("children", []):
                end_orphan(int(child["pid"]), str(child["started"]))
        yield


def _taken(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def remember(state: Path, kind: str, children: Sequence[Child]) -> None:
    """Writes down which command runs services here, and the processes it started."""
    known = {"kind": kind, "pid": os.getpid(), "started": started_at(os.getpid())}
    known["children"] = [{"pid": child.pid, "started": started_at(child.pid)} for child in children]
    write_private(state / "services.json", json.dumps(known))


def _remembered(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((state / "services.json").read_text("utf-8"))
        return known if isinstance(known, dict) else {}
    return {}


def who_runs(state: Path) -> str:
    """The command that runs the services of this folder now; empty when none does."""
    known = _remembered(state)
    pid, started = known.get("pid"), known.get("started")
    return str(known.get("kind", "")) if isinstance(pid, int) and _lives(pid) and started_at(pid) == started else ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def forget(state: Path) -> None:
    """Nobody runs services here any more."""
    (state / "services.json").unlink(missing_ok=True)


def kept(file: Path, make: Callable[[], str]) -> Secret:
    """A secret of this machine, made when first asked for, readable by its owner only."""
    make_folder(file.parent)
    with contextlib.suppress(FileExistsError), open_private(file, os.O_EXCL) as new:
        try:
            new.write(make().encode())
        except OSError as error:
            file.unlink()
            raise as_trouble(error, file, "written") from error
    try:
        value = file.read_text("utf-8").strip()
    except OSError as error:
        raise as_trouble(error, file, "read") from error
    if not value:
        raise EsyncError("a secret of this machine is empty", remedy="remove the file; it is made anew", file=str(file))
    return Secret(value)


def private(state: Path) -> Path:
    """The state folder, made when missing, for its owner only.

    Raises:
        FileTrouble: it cannot be made.
    """
    try:
        return make_folder(state)
    except FileTrouble as error:
        error.remedy = "set ESYNC_STATE to a folder you may write to"
        raise
