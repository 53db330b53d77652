"""A complete installation of esync for a test: labs, a broker and a worker as real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.control.remote import LabProcess, spare_addresses
from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.cluster_file.loader import load_cluster
from pipelines.engine import Engine, connect_engine
from pipelines.usecases import control, runs
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tests.waiting import PATIENCE, wait_until
from tests.warm import WarmProcess, warm_lab
from workers.records import RunRecord, RunState, StepOutcome
from workers.redis.embedded import EmbeddedBroker
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings

__all__ = ["FOUR", "HELD", "SITE", "Harness", "cluster_of", "four_servers", "harness_at", "on_disk", "steps_of"]

#: Short times, so that a recovery takes seconds.
QUICK = {
    "ESYNC_LEASE": "2",
    "ESYNC_STALL_AFTER": "2",
    "ESYNC_RECONCILE_EVERY": "0.5",
    "ESYNC_CONCURRENCY": "8",
}
FOUR = ("S1", "S2", "P1", "P2")
HELD: dict[str, object] = {"waves": (1, "100%"), "hold": "after-canary"}  #: the policy of `held_rollout`
SITE = r"C:\inetpub\wwwroot\CMS400"


@contextmanager
def four_servers(
    folder: Path, nodes: str = "", lab: str = "", edition: str = "8.0", more: Sequence[str] = ()
) -> Iterator[LabProcess]:
    """The untouched servers S1, S2, P1, P2, each at its own address.

    Args:
        folder: the folder of the lab.
        nodes: YAML that is added to the entry of P1, for instance `build: 8.0.1.99`.
        lab: YAML that is added to the lab itself.
        edition: edition of the product.
        more: names of more production servers.
    """
    base = spare_addresses().rpartition(".")[0]
    entries = [
        f"  - {{name: {name}, address: {base}.{11 + place}, role: {role}, pool: {role}"
        f"{', ' + nodes if nodes and name == 'P1' else ''}}}"
        for place, (name, role) in enumerate(
            (
                ("S1", "staging"),
                ("S2", "staging"),
                ("P1", "production"),
                ("P2", "production"),
                *((name, "production") for name in more),
            )
        )
    ]
    folder.mkdir(parents=True)
    config = folder / "lab.yaml"
    config.write_text(f"origin: S1\nedition: '{edition}'\n{lab}\nnodes:\n" + "\n".join(entries) + "\n")
    with warm_lab(folder, "--config", str(config)) as running:
        yield running


def cluster_of(lab: LabProcess, **policy: object) -> Cluster:
    """The cluster of the lab, with changes to its policy; a service that listens once has settled.

    Both servers of a pool are in one wave, and a failure is final.
    """
    cluster = load_cluster(lab.cluster)
    data = cluster.model_dump()
    data["policy"] |= {"whole_pool": True, "judge_waves": False, "retry_in_wave": 0, "max_unreachable": "100%"}
    data["policy"]["deadlines"]["settle"] = 0
    data["policy"] |= policy
    data["policy"]["deadlines"] = {"settle": 0, **data["policy"]["deadlines"]}
    return Cluster.model_validate(data)


def on_disk(lab: LabProcess, node: str, path: str) -> Path:
    r"""The path on this machine of a node's `C:\...`."""
    return lab.disk(node).joinpath(*path.split("\\")[1:])


@dataclass
class Harness:
    """A broker, a worker, and the engine that talks to them."""

    engine: Engine
    environment: dict[str, str]
    folder: Path
    broker_pid: int
    broker: EmbeddedBroker
    worker: subprocess.Popen[bytes] | WarmProcess | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def start_worker(self, *within: str, options: Sequence[str] = ()) -> None:
        """Starts a worker process, through another program where one is given; it logs to `worker.log`."""
        environment = {**os.environ, **self.environment}
        concurrency = self.environment["ESYNC_CONCURRENCY"]
        command = [
            "-A",
            "pipelines.worker",
            "worker",
            "--pool",
            "threads",
            "-E",
            "--concurrency",
            concurrency,
            *options,
        ]
        with (self.folder / "worker.log").open("ab") as log:
            if within:
                command = [*within, sys.executable, "-m", "celery", *command]
                self.worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            else:
                self.worker = WarmProcess("celery", *command, environment=environment, output=log.fileno())

    def wait_for_worker(self, timeout: float = PATIENCE) -> None:
        """Waits until the worker answers."""
        self._wait(lambda: self.engine.app.control.ping(timeout=0.3), "no worker answers", timeout)

    def _wait(self, condition: Callable[[], object], missing: str, seconds: float) -> None:
        wait_until(condition, lambda: f"({missing})\n{self.log()[-3000:]}", seconds=seconds, every=0.05)

    def kill_worker(self) -> None:
        """Kills the worker, as a power failure would."""
        if self.worker:
            self.worker.send_signal(signal.SIGKILL)
            self.worker.wait(PATIENCE)

    def end_worker(self) -> None:
        """Stops the worker, as an operator would."""
        if self.worker and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(15)
            except subprocess.TimeoutExpired:
                self.kill_worker()

    def log(self) -> str:
        """The log of the workers."""
        return (self.folder / "worker.log").read_text()

    def start(self, cluster: Cluster, **more: Any) -> RunRecord:  # noqa: ANN401 - passed on
        """Starts a run."""
        return runs.start(self.engine, cluster, **more)

    def wait_for_step(self, run_id: str, step: str, timeout: float = PATIENCE) -> None:
        """Waits until any node has an outcome of that step."""
        store = self.engine.store
        self._wait(lambda: any(one.step == step for one in store.outcomes(run_id)), f"no {step}", timeout)

    def finished(self, run_id: str, timeout: float = PATIENCE) -> RunSummary:
        """Waits for the verdict. A run that has none in time is cancelled: it would lock the cluster of later tests."""
        store = self.engine.store
        try:
            self._wait(lambda: store.run(run_id).state is RunState.CONCLUDED, "no verdict", timeout)
        except TimeoutError:
            control.cancel(self.engine, run_id, "the test has waited long enough")
            self._wait(lambda: store.run(run_id).state is RunState.CONCLUDED, "no verdict, and no end", PATIENCE)
            raise
        known = runs.summary(self.engine, run_id)
        check(bundle_of(self.engine.store, known))  # the evidence of every run has to result in its verdict
        return known

    def rollout(self, cluster: Cluster, **more: Any) -> RunSummary:  # noqa: ANN401 - passed on
        """Starts a run and waits for the verdict."""
        return self.finished(self.start(cluster, **more).id)

    def held_rollout(self, cluster: Cluster, meanwhile: Callable[[], object]) -> RunSummary:
        """A rollout whose first node is a wave of its own; every node was looked at before something happens to them.

        Args:
            cluster: its policy has the values of `HELD`.
            meanwhile: called when the first wave has ended; then the others begin.
        """
        run = self.start(cluster).id
        self._wait(lambda: runs.status(self.engine, run).held, "the run is not held", PATIENCE)
        meanwhile()
        control.promote(self.engine, run)
        return self.finished(run)


def steps_of(summary: RunSummary, node: str) -> dict[str, StepOutcome]:
    """The outcomes of a node in its wave, by step."""
    return {o.step: o for o in summary.outcomes if o.node == node and o.turn.startswith("wave")}


@contextmanager
def harness_at(folder: Path, *, worker: bool = True, **environment: str) -> Iterator[Harness]:
    """Starts a broker and, unless told otherwise, a worker; stops all of them at the end."""
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(folder / "broker"))
        key = new_seal_key()
        env = {
            **QUICK,
            "ESYNC_BROKER_URL": broker.url.reveal(),
            "ESYNC_SEAL_KEY": key.reveal(),
            "ESYNC_STATE": str(folder / "state"),
            **environment,
        }
        settings = Settings(broker_url=Secret(broker.url.reveal()), seal_key=key, state=folder / "state")
        harness = Harness(connect_engine(settings), env, folder, broker.pid, broker, _stack=stack)
        stack.callback(harness.end_worker)
        if worker:
            harness.start_worker()
        yield harness
