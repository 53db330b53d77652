"""A balancer behind a program of the operator: `PROGRAM... SERVER drain|undrain|state`, without a shell.

Exit status 0 says that it was done. For `state` it prints `{"state": "ready", "sessions": 3}`; the state may also be
`draining` or `down`, and without `sessions` it is not known how many are open. It gets only the variables that the
cluster file names, and PATH.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from workers.balancers.port import Balancer, Seen, ServerState
from workers.errors import BalancerFailed
from workers.masks import scrubbed
from workers.texts import cleaned

__all__ = ["Program"]

_LARGEST = 65_536  #: bytes that it may write to each of stdout and stderr
_SHOWN = 300  #: characters of its complaint


class Program(Balancer):
    """One pool, by a program.

    Args:
        argv: the program and its first arguments; server and verb are appended.
        env: the variables that it gets.
        deadline: seconds for each call; then it is killed with its children.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], deadline: float) -> None:
        self._argv = tuple(argv)
        self._hidden = sorted(env.values(), key=len, reverse=True)
        self._env = {"PATH": os.defpath, "LANG": "C.UTF-8", **env}
        self._deadline = deadline
        self._name = Path(self._argv[0]).name

    def drain(self, server: str) -> None:
        """Calls it with the verb `drain`."""
        self._call(server, "drain")

    def undrain(self, server: str) -> None:
        """Calls it with the verb `undrain`."""
        self._call(server, "undrain")

    def state(self, server: str) -> Seen:
        """Calls it with the verb `state`."""
        printed = self._call(server, "state")
        try:
            answer = json.loads(printed)
            sessions = answer.get("sessions")
            known = None if sessions is None else max(0, int(sessions))
            return Seen(ServerState(answer["state"]), known)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._failed(server, "state", "it did not print JSON with `state`: ready, draining or down") from None

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Asks for the state of each."""
        return frozenset(name for name in servers if self.state(name).state is ServerState.READY)

    def _call(self, server: str, verb: str) -> str:
        """What it printed.

        Raises:
            BalancerFailed: it cannot be started, failed, wrote too much, or did not end in time.
        """
        try:
            process = subprocess.Popen(  # noqa: S603 - a program that the operator named, without a shell
                [*self._argv, server, verb],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=self._env,
                start_new_session=True,
            )
        except OSError as error:
            raise self._failed(server, verb, f"it cannot be started: {error.strerror}") from error
        with process:
            try:
                until = time.monotonic() + self._deadline
                printed, complaint = _outputs(process, until)
                status = process.wait(max(0.1, until - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                raise self._failed(
                    server, verb, f"it did not end within {self._deadline:g} s, or wrote too much"
                ) from None
            finally:
                _kill(process)
        if status:
            raise self._failed(server, verb, f"it ended with status {status}{self._said(complaint)}")
        return printed.decode("utf-8", "replace")

    def _said(self, complaint: bytes) -> str:
        """Its complaint for people, without the values of its variables: they may be secrets."""
        text = complaint.decode("utf-8", "replace")
        for value in filter(None, self._hidden):
            text = text.replace(value, "***")
        text = scrubbed(text).strip()
        return f": {cleaned(text.splitlines()[0], _SHOWN)}" if text else ""

    def _failed(self, server: str, verb: str, why: str) -> BalancerFailed:
        return BalancerFailed(f"{self._name} {server} {verb}: {why}", remedy="call the program by hand on the worker")


def _outputs(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """What it writes to stdout and stderr until it closes both.

    Raises:
        TimeoutError: too late, or too much.
    """
    written: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as waiting:
        for stream in written:
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, until - time.monotonic()))
            if not ready or time.monotonic() > until:
                raise TimeoutError
            for key, _ in ready:
                _read(key.fileobj, written, waiting)  # type: ignore[arg-type] # the streams that were registered
    return bytes(written[process.stdout]), bytes(written[process.stderr])


def _read(stream: IO[bytes], written: dict[Any, bytearray], waiting: selectors.BaseSelector) -> None:
    chunk = os.read(stream.fileno(), _LARGEST)
    written[stream] += chunk
    if not chunk:
        waiting.unregister(stream)
    elif len(written[stream]) > _LARGEST:
        raise TimeoutError


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
