"""What every measurement needs: a lab without faults, a broker, workers with the product's own settings; and counters.

CPU is user and system time of the processes, in seconds.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lab.control.remote import LabProcess, running_lab, spare_addresses
from pipelines.engine import Engine, connect_engine
from pipelines.usecases import runs
from tasks.cluster import Cluster
from tests.integration.harness import cluster_of
from workers.host.memory import SMALL_CACHES
from workers.records import RunRecord, RunState
from workers.redis.connection import connect
from workers.redis.embedded import EmbeddedBroker
from workers.secrets.vault import new_seal_key
from workers.settings import Settings

__all__ = ["Installation", "Job", "cpu", "installation", "whole_cluster"]

LOOK = 0.25  #: seconds between two looks at a run
LONGEST = 3600.0  #: seconds that a run may take
START = 60.0  #: seconds that a worker may take to answer
_COUNTED = ("round_trips", "powershell_starts", "bytes_received", "bytes_sent")
Counts = Mapping[str, Mapping[str, int]]


def cpu(pid: int) -> float:
    """The CPU time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_memory(pid: int) -> float:
    """The largest resident memory of a process so far, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else psutil.Process(pid).memory_info().rss / 1e6


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what it has cost.

    Attributes:
        seconds: wall time from the request to the verdict.
        worker_cpu: of all workers.
        memory: of the largest worker, MB.
        counts: node -> what the lab counted of it.
        commands: of Redis, without those of this program.
        redis_bytes: by which Redis has grown.
        join: the longest time between the last outcome of a turn and the decision about it, seconds.
    """

    run: str
    verdict: str
    nodes: int
    seconds: float
    worker_cpu: float
    lab_cpu: float
    broker_cpu: float
    memory: float
    counts: Counts
    commands: float
    redis_bytes: int
    join: float

    def most(self, what: str) -> int:
        """The largest count of a node."""
        return max(counted[what] for counted in self.counts.values())

    def bytes_per_node(self) -> float:
        """To and from a node, on average."""
        return sum(one["bytes_received"] + one["bytes_sent"] for one in self.counts.values()) / len(self.counts)


@dataclass
class Installation:
    """A lab, a broker, workers."""

    folder: Path
    lab: LabProcess
    broker: EmbeddedBroker
    engine: Engine
    environment: Mapping[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        """Starts one more worker, as `esync up` does, and waits until it answers."""
        name = f"bench-{len(self.workers) + 1}-{os.getpid()}@localhost"
        command, environment = ["-m", "pipelines.local.celery_worker", name], SMALL_CACHES | dict(self.environment)
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
        self.workers.append(process)
        until = time.monotonic() + START
        while not self.engine.app.control.ping(destination=[name], timeout=0.5, limit=1):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the worker does not answer: {(self.folder / 'worker.log').read_text()[-2000:]}")

    def stop_workers(self) -> None:
        """Ends all workers."""
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()
        self.workers.clear()

    def start(self, cluster: Cluster, kind: str = "rollout") -> RunRecord:
        """Requests a run."""
        return runs.start(self.engine, cluster, kind=kind)

    def ended(self, run: str) -> bool:
        """Whether a run has its verdict."""
        return self.engine.store.run(run).state is RunState.CONCLUDED

    def worker_cpu(self) -> float:
        """Of all workers so far."""
        return sum(cpu(process.pid) for process in self.workers)

    def job(self, cluster: Cluster, kind: str = "rollout") -> Job:
        """One run to its verdict, measured."""
        memory, counts, before = self._redis_bytes(), self.lab.reports(), self._costs()
        started, looks = time.perf_counter(), 1
        run = self.start(cluster, kind).id
        while not self.ended(run):
            time.sleep(LOOK)
            looks += 1
            if time.perf_counter() - started > LONGEST:
                raise RuntimeError(f"run {run} has not ended; log: {self.folder / 'worker.log'}")
        seconds, after = time.perf_counter() - started, self._costs()
        counted, grown = self.lab.reports(), self._redis_bytes() - memory
        workers, lab, broker, commands = (now - then for now, then in zip(after, before, strict=True))
        commands -= looks * self._commands_of(lambda: self.ended(run))
        return Job(
            run=run,
            verdict=str(self.engine.store.run(run).verdict),
            nodes=len(cluster.nodes),
            seconds=seconds,
            worker_cpu=workers,
            lab_cpu=lab,
            broker_cpu=broker,
            memory=max(peak_memory(process.pid) for process in self.workers),
            counts={
                node.name: {what: counted[node.name][what] - counts[node.name][what] for what in _COUNTED}
                for node in cluster.nodes
            },
            commands=commands,
            redis_bytes=grown,
            join=self._longest_join(run),
        )

    def commands(self) -> int:
        """Commands that Redis has processed."""
        with connect(self.broker.url) as client:
            statistics = client.info("commandstats")
        return sum(int(one["calls"]) for one in statistics.values())

    def _costs(self) -> tuple[float, ...]:
        return self.worker_cpu(), cpu(self.lab.pid), cpu(self.broker.pid), self.commands()

    def _redis_bytes(self) -> int:
        with connect(self.broker.url) as client:
            return sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter(count=1000))

    def _commands_of(self, look: Callable[[], object]) -> float:
        """The commands that one call sends, from five of them."""
        before = self.commands()
        for _ in range(5):
            look()
        return (self.commands() - before) / 5

    def _longest_join(self, run: str) -> float:
        """From the last outcome of each turn to the next turn or the verdict."""
        longest, last, after = 0.0, None, ""
        while events := self.engine.store.events(run, after):
            after = events[-1].id
            for event in events:
                if event.kind == "step.ended":
                    last = event.at
                elif event.kind in {"turn.opened", "run.concluded"} and last is not None:
                    longest, last = max(longest, (event.at - last).total_seconds()), None
        return longest


def whole_cluster(lab: LabProcess) -> Cluster:
    """All nodes of the lab in one cluster; a restarted service that listens once has settled."""
    return cluster_of(lab)


@contextlib.contextmanager
def installation(nodes: int, *, workers: int = 1, **environment: str) -> Iterator[Installation]:
    """That many untouched servers, and that many workers with the product's settings.

    Args:
        nodes: of the lab.
        workers: processes.
        environment: more settings of the workers.
    """
    with tempfile.TemporaryDirectory(prefix="esync-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        arguments = ("--nodes", str(nodes), "--disk", "memory", "--address", spare_addresses())
        lab = stack.enter_context(running_lab(folder / "lab", *arguments, seconds=600))
        broker = stack.enter_context(EmbeddedBroker(folder / "broker"))
        key = new_seal_key()
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("ESYNC_", "CELERY_"))}
        own = {
            "ESYNC_BROKER_URL": broker.url.reveal(),
            "ESYNC_SEAL_KEY": key.reveal(),
            "ESYNC_STATE": str(folder / "state"),
        }
        engine = connect_engine(Settings(broker_url=broker.url, seal_key=key, state=folder / "state"))
        stack.callback(engine.app.close)
        made = Installation(folder, lab, broker, engine, plain | own | environment)
        stack.callback(made.stop_workers)
        for _ in range(workers):
            made.start_worker()
        yield made
