"""Starts workers and labs as real processes without loading their packages each time.

A process that has loaded the packages forks the program (`multiprocessing`'s fork server): it has its own environment,
signals and exit status as if Python had started anew, for a fifth of the CPU time.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from lab.control.remote import LabProcess
from lab.machine.errors import LabError

__all__ = ["WarmProcess", "warm_lab"]

_CONTEXT = multiprocessing.get_context("forkserver")
# Nothing that reads the environment or starts a thread when it is imported. `celery` loads the commands of Flower and
# the packages behind them at each start. The last one keeps all of it out of the garbage collections of the programs.
_CONTEXT.set_forkserver_preload(
    [
        *("celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.thread"),
        *("celery.fixups.django", "celery.app.amqp", "celery.app.control", "celery.app.events", "celery.app.log"),
        *("celery.backends.redis", "celery.worker.autoscale", "celery.worker.components", "celery.worker.strategy"),
        *("celery.worker.consumer.delayed_delivery", "kombu.pidbox", "kombu.transport.redis", "billiard.dummy"),
        *(
            "click_repl",
            "flower.command",
            "cryptography.hazmat.primitives.serialization.pkcs12",
            "xml.dom.expatbuilder",
        ),
        *("pipelines.prober", "pipelines.reconcile", "pipelines.usecases.control", "pipelines.usecases.groups"),
        *("pipelines.usecases.runs", "tasks.celery_tasks", "tasks.execution.runner", "workers.broker.consumer"),
        *("workers.celery_app", "workers.host.memory", "workers.host.open_files", "workers.winrm.pool"),
        *("workers.broker.chords", "workers.broker.neighbours", "workers.broker.rights", "workers.redis.condition"),
        *("billiard.pool", "cryptography.hazmat.backends.openssl.backend", "pipelines.run.planning"),
        *("tasks.ektron.certificates.files", "tasks.ektron.rules.invariants", "tasks.ektron.cluster_facts"),
        *("lab.control.api", "lab.control.running", "tests.frozen"),
    ]
)

_START_SECONDS = 120.0
_STOP_SECONDS = 15.0


def _run(module: str, arguments: tuple[str, ...], environment: Mapping[str, str], output: Connection) -> None:
    """Becomes the program, in the forked process."""
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a forked process ends without them
        sys.stdout.flush()


class WarmProcess:
    """A Python module run as a program (`python -m MODULE ARGUMENT ...`); the interface of `subprocess.Popen`.

    Args:
        environment: all of it; nothing is inherited.
        output: file descriptor of its standard output and error output.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str], output: int) -> None:
        self.args = (module, *arguments)
        handed = Connection(os.dup(output))
        self._process = _CONTEXT.Process(target=_run, args=(module, arguments, dict(environment), handed))
        self._process.start()
        handed.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        pid = self._process.pid
        assert pid is not None
        return pid

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


@contextmanager
def warm_lab(folder: Path, *arguments: str) -> Iterator[LabProcess]:
    """A lab (`python -m lab --dir FOLDER ARGUMENT ...`) whose nodes all listen.

    Raises:
        LabError: it ended, or did not print in time that it is ready.
    """
    ready, output = _CONTEXT.Pipe(duplex=False)
    process = WarmProcess("lab", "--dir", str(folder), *arguments, environment=os.environ, output=output.fileno())
    output.close()
    try:
        if not ready.poll(_START_SECONDS):
            raise LabError("the lab printed nothing in time")
        printed = os.read(ready.fileno(), 65536).decode()
        if not printed.startswith("{"):
            raise LabError(f"the lab did not start: {printed}")
        yield LabProcess(folder)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()
        ready.close()
