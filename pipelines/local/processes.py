"""Processes that we start and end: each in its own session, with its own log, secrets in its environment only."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workers.errors import EsyncError
from workers.host.private import end_process, in_words, make_folder, open_private, start_process, undisturbed
from workers.logs import scrubbed

__all__ = ["Child", "Shield", "end_orphan", "environment", "started_at"]

#: Variables of the operator's shell that would change what the children do behind our back.
_NOT_INHERITED = ("CELERY_", "FLOWER_")

_LAST_WORDS = 2000  #: bytes of a log that are looked at for the reason of an end


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: this process's, without what would misguide Celery or Flower, and `own`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return {**kept, "PYTHONUNBUFFERED": "1", **own}


def _event(line: str) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["event"])
    return line


class Child:
    """One process of ours, ended by its id. Ctrl-C in the terminal does not reach it: we end it in order.

    Args:
        name: for messages.
        arguments: of the Python interpreter; nothing secret, everybody on the machine can read them.
        folder: its working directory. Not the operator's: Python would import modules from there.
        log: what it says, readable by its owner only.
        own: variables it gets besides ours.
        output: where its stdout goes instead of into the log; emptied at each start.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        log: Path,
        own: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._arguments = [sys.executable, *arguments]
        self._folder = folder
        self._own = dict(own or {})
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it was not started."""
        return self._process.pid if self._process else 0

    @property
    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self.ended is None

    def start(self) -> Self:
        """Starts it, also again after it has ended.

        Raises:
            FileTrouble: its log cannot be written, or its folder is gone.
        """
        make_folder(self.log.parent)
        with contextlib.ExitStack() as files:
            log = files.enter_context(open_private(self.log, os.O_APPEND))
            output = files.enter_context(open_private(self._output, os.O_TRUNC)) if self._output else log
            with undisturbed():
                self._process = start_process(
                    self._arguments, folder=self._folder, log=log, output=output, environment=environment(self._own)
                )
        return self

    def stop(self, patience: float = 20.0) -> None:
        """Asks it to end, waits `patience` seconds, then ends it; it is gone afterwards."""
        if self._process is None:
            return
        end_process(self._process, patience)

    def broke(self) -> EsyncError:
        """What to raise when it has ended by itself, or does not get ready: with the last thing it said."""
        how = "did not get ready" if self.alive else in_words(self.ended)
        said = self.last_words()
        return EsyncError(
            f"the {self.name} {how}" + (f": {said}" if said else ""), remedy="see its log", file=str(self.log)
        )

    def trouble(self) -> str:
        """What is wrong with it while it runs: nothing that can be seen from here."""
        return ""

    def last_words(self) -> str:
        """The last line of its log, masked as logs are; of a line in JSON only what happened."""
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").splitlines()
            return next((scrubbed(_event(line.strip())) for line in reversed(lines) if line.strip()), "")
        return ""

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def started_at(pid: int) -> str:
    """When a process started, as the kernel counts; with the id it names a process for ever. Empty when unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def end_orphan(pid: int, started: str, patience: float = 10.0) -> bool:
    """Ends a process that an earlier command of ours left behind when it was killed; says whether there was one.

    Only the very process is ended: the kernel may have given its id to another since.
    """
    if not started or started_at(pid) != started:
        return False
    until = time.monotonic() + patience
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # one that is stopped would not hear it
        while started_at(pid) == started and time.monotonic() < until:
            time.sleep(0.05)
        if started_at(pid) == started:
            os.kill(pid, signal.SIGKILL)
    return True


class Shield:
    """Once it is up, Ctrl-C and SIGTERM are ignored until the `with` block it belongs to has been left."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def up(self) -> None:
        """Ignores both from now on. Only the main thread can; elsewhere nobody is interrupted anyway."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
