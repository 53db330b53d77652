"""Child processes of a command: each with its own log, and secrets in its environment only."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.errors import EsyncError
from workers.host.private import make_folder, open_private
from workers.host.processes import end_process, exit_text, interrupts_deferred, start_process
from workers.masks import scrubbed

__all__ = ["READY", "Child", "environment"]

READY = "ready"  #: the line that a worker prints when it takes messages

#: Variables of the operator's shell that would change how Celery or Flower work in the children, or lead the worker of
#: the demo to another run store.
_NOT_INHERITED = ("CELERY_", "FLOWER_", "ESYNC_STORE_URL", "ESYNC_TOKEN", "ESYNC_SERVER")

_LOG_END = 2000  #: bytes at the end of a log that are searched for the reason of an end


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: this process's without those variables, then `own`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **own}


def _event(line: str) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["event"])
    return line


class Child:
    """One child process. Ctrl-C in the terminal does not reach it: the command ends its children in order.

    Args:
        name: for messages.
        arguments: of the Python interpreter; nothing secret, every user of the machine can read them.
        folder: its working directory. Not the operator's: Python would import modules from there.
        log: where its output goes, readable by its owner only.
        own: environment variables besides ours.
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
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self.exit_status is None

    def start(self) -> Self:
        """Starts it, also again after it has ended.

        Raises:
            FileTrouble: its log cannot be written, or its folder does not exist.
        """
        make_folder(self.log.parent)
        with contextlib.ExitStack() as files:
            log = files.enter_context(open_private(self.log, os.O_APPEND))
            output = files.enter_context(open_private(self._output, os.O_TRUNC)) if self._output else log
            with interrupts_deferred():
                self._process = start_process(
                    self._arguments, folder=self._folder, log=log, output=output, environment=environment(self._own)
                )
        return self

    def stop(self, patience: float = 20.0) -> None:
        """Asks it to end, and kills it after `patience` seconds. It has ended when this returns."""
        if self._process is not None:
            end_process(self._process, patience)

    def start_error(self) -> EsyncError:
        """The error for a child that ended by itself, or does not get ready, with the last line of its log."""
        how = "did not get ready" if self.alive else exit_text(self.exit_status)
        line = self.last_log_line()
        return EsyncError(
            f"the {self.name} {how}" + (f": {line}" if line else ""), remedy="see its log", file=str(self.log)
        )

    def has_printed(self, line: str) -> bool:
        """Whether the running process has printed that line to `output`."""
        return self.alive and line in self._lines()

    def printed(self) -> str:
        """The first line that the running process has printed to `output`; empty until it has."""
        return next(iter(self._lines()), "") if self.alive else ""

    def _lines(self) -> list[str]:
        with contextlib.suppress(OSError):
            return self._output.read_text("utf-8").splitlines() if self._output else []
        return []

    def trouble(self) -> str:
        """The problem of a running process: none that is visible from outside."""
        return ""

    def last_log_line(self) -> str:
        """The last line of its log, secrets masked; of a line in JSON only the event."""
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[-_LOG_END:].decode("utf-8", "replace").splitlines()
            return next((scrubbed(_event(line.strip())) for line in reversed(lines) if line.strip()), "")
        return ""

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
