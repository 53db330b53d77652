"""What this machine keeps between commands: which command runs the services, and secrets that were created once."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.local.processes import Child
from workers.errors import EsyncError, FileTrouble
from workers.host.private import file_trouble, make_folder, open_private, write_private
from workers.host.processes import is_running, start_ticks
from workers.settings import Secret

__all__ = [
    "command_here",
    "forget_services",
    "in_words_of",
    "machine_secret",
    "record_services",
    "recorded_children",
    "require_readable",
    "state_folder",
]


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


def recorded_children(state: Path) -> dict[int, str]:
    """The processes that the last command started there: process id -> `start_ticks`. They may have ended."""
    return {int(child["pid"]): str(child["started"]) for child in _recorded(state).get("children", [])}


def command_here(state: Path) -> str:
    """The command that runs the services of this folder now; empty when there is none."""
    record = _recorded(state)
    pid, ticks = record.get("pid"), record.get("started")
    running = isinstance(pid, int) and isinstance(ticks, str) and is_running(pid, ticks)
    return str(record.get("kind", "")) if running else ""


def forget_services(state: Path) -> None:
    """Removes the record of this command: it runs no services here any more. One of another command stays."""
    if _recorded(state).get("pid") in {None, os.getpid()}:
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
        FileTrouble: it cannot be created, or this account may not write there.
    """
    try:
        make_folder(state)
    except FileTrouble as error:
        error.remedy = "set ESYNC_STATE to a folder that you may write to"
        raise
    _require(state, os.R_OK | os.W_OK | os.X_OK)
    return state


def require_readable(state: Path) -> None:
    """Passes unless this account may not look into the state folder: what runs from it would not be found.

    Raises:
        FileTrouble: it may not.
    """
    if state.is_dir():
        _require(state, os.R_OK | os.X_OK)


def in_words_of(state: Path, error: FileTrouble) -> FileTrouble:
    """The error with the setting that moves its file, if that is in the state folder: no command names the file."""
    if Path(error.file).is_relative_to(state):
        for words, ours in _IN_STATE.items():
            error.remedy = error.remedy.replace(words, ours)
    return error


_IN_STATE = {
    "name another place": "set ESYNC_STATE to another folder",
    "name a place": "set ESYNC_STATE to a folder",
}


def _require(state: Path, access: int) -> None:
    if os.access(state, access, effective_ids=os.access in os.supports_effective_ids):
        return
    known = state.stat()
    of_other = known.st_uid != os.geteuid() and _account(known.st_uid)
    why = (
        f"it belongs to the account {of_other}" if of_other else "it is read-only, or its mode leaves this account out"
    )
    raise FileTrouble(
        f"the state folder {state} cannot be used: {why}",
        remedy="run esync as that account, or set ESYNC_STATE to a folder of yours"
        if of_other
        else "correct that, or set ESYNC_STATE to another folder",
        file=str(state),
    )


def _account(uid: int) -> str:
    with contextlib.suppress(ImportError, KeyError):  # Windows has no such table; a container may lack the entry
        import pwd  # noqa: PLC0415 - see above

        return pwd.getpwuid(uid).pw_name
    return str(uid)
