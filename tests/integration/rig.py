"""A whole esync for a test: lab, broker and worker as real processes, and a way to break the lab."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import commands
from pipelines.commands import RunSummary
from pipelines.engine import Engine, connect_engine
from pipelines.inventory import load_cluster
from tasks.cluster import Cluster
from workers.embedded import EmbeddedBroker
from workers.records import RunRecord, RunState, StepOutcome
from workers.settings import Secret, Settings
from workers.vault import new_seal_key

#: Short times, so that a test of a recovery takes seconds.
QUICK = {
    "ESYNC_LEASE": "2",
    "ESYNC_STALL_AFTER": "2",
    "ESYNC_RECONCILE_EVERY": "0.5",
    "ESYNC_CONCURRENCY": "8",
}


@dataclass
class LabProcess:
    """A running lab and its control."""

    folder: Path
    process: subprocess.Popen[str]
    control: str
    token: str

    @property
    def cluster_file(self) -> Path:
        """The cluster file the lab wrote."""
        return self.folder / "cluster.yaml"

    def disk(self, node: str, path: str) -> Path:
        r"""Where a node's `C:\...` lies on this machine."""
        return self.folder / node / "C" / Path(*path.split("\\")[1:])

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """One request to the lab's control."""
        request = urllib.request.Request(  # noqa: S310 - the lab's own address
            self.control + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the lab's own address
            return json.load(answer)

    def break_node(self, node: str, **faults: object) -> None:
        """Makes exactly these faults hold on a node; none heals it."""
        self.ask("PUT", f"/nodes/{node}/faults", faults)

    def node(self, node: str) -> Any:  # noqa: ANN401 - JSON
        """Counters and service history of a node."""
        return self.ask("GET", f"/nodes/{node}")


@contextmanager
def lab_process(folder: Path, *arguments: str) -> Iterator[LabProcess]:
    """Starts `python -m lab` and ends it."""
    log = folder.with_suffix(".log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "--dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"the lab did not start: {Path(log.name).read_text()}")
        ready = json.loads(line)
        token = json.loads((folder / "lab.json").read_text())["token"]
        yield LabProcess(folder, process, ready["control"], token)
    finally:
        _end(process)
        if process.stdout:
            process.stdout.close()
        log.close()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@dataclass
class Rig:
    """Lab, broker, worker, and the engine to ask them with."""

    lab: LabProcess
    engine: Engine
    environment: dict[str, str]
    folder: Path
    worker: subprocess.Popen[str] | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def start_worker(self) -> None:
        """Starts a worker process; its log lies in `worker.log`."""
        log = self.stack.enter_context((self.folder / "worker.log").open("a"))
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "pipelines.worker", "worker", "--pool", "threads"]
            + ["--concurrency", self.environment["ESYNC_CONCURRENCY"], "-E"]
            + ["-Q", "esync.v1.control,esync.v1.nodes"],
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=log,
            text=True,
        )

    def kill_worker(self) -> None:
        """Ends the worker as a power cut would."""
        if self.worker:
            self.worker.send_signal(signal.SIGKILL)
            self.worker.wait(5)

    def end_worker(self) -> None:
        """Ends the worker as an operator would."""
        if self.worker and self.worker.poll() is None:
            _end(self.worker)

    def cluster(self) -> Cluster:
        """The lab's cluster."""
        return load_cluster(self.lab.cluster_file)

    def start(self, cluster: Cluster | None = None, **more: Any) -> RunRecord:  # noqa: ANN401 - passed on
        """Starts a run."""
        return commands.start(self.engine, cluster or self.cluster(), **more)

    def finished(self, run_id: str, timeout: float = 60) -> RunSummary:
        """Waits for the verdict."""
        until = time.monotonic() + timeout
        while self.engine.store.run(run_id).state is not RunState.CONCLUDED:
            if time.monotonic() > until:
                log = (self.folder / "worker.log").read_text()[-3000:]
                raise TimeoutError(f"no verdict after {timeout} s: {self.engine.store.run(run_id)}\n{log}")
            time.sleep(0.05)
        return commands.summary(self.engine, run_id)

    def rollout(self, cluster: Cluster | None = None, **more: Any) -> RunSummary:  # noqa: ANN401 - passed on
        """Starts a run and waits for the verdict."""
        return self.finished(self.start(cluster, **more).id)


def steps_of(summary: RunSummary, node: str) -> dict[str, StepOutcome]:
    """A node's outcomes in its wave, by step."""
    return {o.step: o for o in summary.outcomes if o.node == node and o.turn.startswith("wave")}


@contextmanager
def rig_at(folder: Path, *lab_arguments: str, worker: bool = True, **environment: str) -> Iterator[Rig]:
    """Everything started, everything ended."""
    with ExitStack() as stack:
        lab = stack.enter_context(lab_process(folder / "lab", *lab_arguments))
        broker = EmbeddedBroker(folder / "broker")
        stack.enter_context(broker)
        key = new_seal_key()
        env = {
            **QUICK,
            "ESYNC_BROKER_URL": broker.url.reveal(),
            "ESYNC_SEAL_KEY": key.reveal(),
            "ESYNC_STATE": str(folder / "state"),
            **environment,
        }
        settings = Settings(broker_url=Secret(broker.url.reveal()), seal_key=key, state=folder / "state")
        rig = Rig(lab, connect_engine(settings), env, folder, stack=stack)
        stack.callback(rig.end_worker)
        if worker:
            rig.start_worker()
        yield rig
