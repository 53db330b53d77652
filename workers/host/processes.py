"""Child processes: how they are started and ended, and how a process is recognised again.

Each runs in its own session with a private umask. A process is identified by its id and its start time, because the
kernel gives the id of an ended process to another one.
"""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from workers.host.private import file_trouble
from workers.host.signals import ENDING, Handler

if TYPE_CHECKING:  # loaded to end a process: commands that only look at one do without it
    import psutil

__all__ = [
    "end_process",
    "exit_text",
    "find_process",
    "interrupts_deferred",
    "interrupts_ignored",
    "is_running",
    "start_process",
    "start_ticks",
]

_UMASK = 0o077  #: of every process we start: the files it writes are private too
_KILLED_WAIT = 2.0  #: seconds that a killed process, no child of ours, may take to end


def start_process(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    log: IO[bytes],
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts one of our own programs in a new session, so that Ctrl-C in the terminal does not reach it before us.

    Raises:
        FileTrouble: it cannot be started.
    """
    try:
        return subprocess.Popen(  # noqa: S603 - callers start our own programs only
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output or log,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
            umask=_UMASK,
        )
    except OSError as error:  # it names the program or the folder
        raise file_trouble(error, action="started or used as a working folder") from error


def end_process(process: "subprocess.Popen[bytes] | psutil.Process", patience: float) -> None:
    """Asks a process to end, kills it after `patience` seconds, then kills the children that it left behind.

    Nothing happens when it has ended: psutil never signals another process that has the same id.

    Args:
        process: a child of ours, or any other process of this account.
        patience: seconds.
    """
    import psutil  # noqa: PLC0415 - see above

    if isinstance(process, subprocess.Popen) and process.poll() is not None:
        return
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        known = process if isinstance(process, psutil.Process) else psutil.Process(process.pid)
        children = known.children(recursive=True)
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a stopped process would not receive SIGTERM
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        except psutil.TimeoutExpired:
            process.kill()
            with contextlib.suppress(psutil.TimeoutExpired):  # a zombie, if its parent does not wait for it
                process.wait(_KILLED_WAIT)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            child.kill()


def start_ticks(pid: int) -> str:
    """Clock ticks between the start of the machine and the start of a process; empty when there is no such process.

    Counted from the start of the machine because a change of the system's clock does not change it. Together with the
    id it identifies the process.
    """
    with contextlib.suppress(OSError):  # the name of the program, in parentheses, may contain anything
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    return ""


def is_running(pid: int, ticks: str) -> bool:
    """Whether the process with this id and these `start_ticks` has not ended."""
    return bool(ticks) and start_ticks(pid) == ticks


def find_process(pid: int, ticks: str) -> "psutil.Process | None":
    """The process with this id and these `start_ticks`; None when it has ended."""
    import psutil  # noqa: PLC0415 - see above

    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(pid)
        return process if is_running(pid, ticks) else None
    return None


def exit_text(status: int | None) -> str:
    """How a process ended, as the end of a sentence. None: it was no child of ours, so its status is unknown."""
    if status is None:
        return "ended"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


@contextlib.contextmanager
def _handled(handler: Handler | signal.Handlers) -> Iterator[None]:
    """Handles interrupts so in the block. Elsewhere than in the main thread no signal interrupts anything."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in ENDING}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Delays what asks this command to end until the block has: its owner must know a process that just started."""
    received: list[int] = []
    try:
        with _handled(lambda number, _frame: received.append(number)):
            yield
    finally:
        for number in received[:1]:
            signal.raise_signal(number)


def interrupts_ignored() -> AbstractContextManager[None]:
    """Ignores what asks this command to end in the block: a second request must not leave processes running."""
    return _handled(signal.SIG_IGN)
