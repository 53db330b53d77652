"""The whole job on simulated servers without latency: what it costs, engine and lab apart.

    python -m tests.benchmarks.whole_job [NODES ...]

Exits 1 when a bar of 100 nodes is missed: 20 s, 300 MB for the worker, one PowerShell start and 30 round trips a node.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from lab.control.remote import LabProcess, running_lab, spare_addresses
from tests.integration.harness import Harness, cluster_of, harness_at

SIZES = (10, 100, 300)
CONCURRENCY = 16


@dataclass(frozen=True)
class Bar:
    """A bound on the run of 100 nodes."""

    seconds: float = 20.0
    worker_mb: float = 300.0
    powershell_starts: float = 1.0
    round_trips: float = 30.0


@dataclass(frozen=True)
class Measured:
    """One run of N nodes. CPU in seconds, memory in MB, the rest per node."""

    nodes: int
    verdict: str
    seconds: float
    worker_cpu: float
    broker_cpu: float
    lab_cpu: float
    worker_mb: float
    powershell_starts: float
    round_trips: float
    most_round_trips: int

    def misses(self, bar: Bar) -> list[str]:
        """Which bounds are missed."""
        return [name for name, limit in vars(bar).items() if getattr(self, name) > limit]


class Peak:
    """Watches a process's memory."""

    def __init__(self, pid: int) -> None:
        self.megabytes = 0.0
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        """Looks ten times a second for the length of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._done.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.megabytes = max(self.megabytes, self._process.memory_info().rss / 2**20)


def cpu(pid: int) -> float:
    """User and system seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def measured(nodes: int) -> Measured:
    """One run on N untouched servers, everything new."""
    with tempfile.TemporaryDirectory(prefix="esync-bench-") as name:
        folder = Path(name)
        arguments = ("--nodes", str(nodes), "--disk", "memory", "--address", spare_addresses())
        threads = str(CONCURRENCY)
        with (
            running_lab(folder / "lab", *arguments) as lab,
            harness_at(folder, ESYNC_CONCURRENCY=threads, ESYNC_LEASE="20", ESYNC_STALL_AFTER="15") as harness,
        ):
            harness.wait_for_worker()
            return _run(lab, harness, nodes)


def _run(lab: LabProcess, harness: Harness, nodes: int) -> Measured:
    if harness.worker is None:
        raise RuntimeError("the worker did not start")
    pids = {"worker": harness.worker.pid, "broker": harness.broker_pid, "lab": lab.pid}
    before = {name: cpu(pid) for name, pid in pids.items()}
    reports = {node: lab.report(node) for node in lab.nodes}
    started = time.perf_counter()
    with Peak(harness.worker.pid).watched() as peak:
        done = harness.finished(harness.start(cluster_of(lab)).id, timeout=600)
    seconds = time.perf_counter() - started
    after = {node: lab.report(node) for node in lab.nodes}
    trips = {node: after[node]["round_trips"] - reports[node]["round_trips"] for node in lab.nodes}
    return Measured(
        nodes=nodes,
        verdict=str(done.record.verdict),
        seconds=seconds,
        worker_cpu=cpu(pids["worker"]) - before["worker"],
        broker_cpu=cpu(pids["broker"]) - before["broker"],
        lab_cpu=cpu(pids["lab"]) - before["lab"],
        worker_mb=peak.megabytes,
        powershell_starts=sum(report["powershell_starts"] for report in after.values()) / nodes,
        round_trips=sum(trips.values()) / nodes,
        most_round_trips=max(trips.values()),
    )


def table(results: list[Measured]) -> Table:
    """What was measured, a line a size."""
    shown = Table(title=f"The whole job, lab without latency, one worker of {CONCURRENCY} threads")
    heads = "nodes verdict wall CPU:worker CPU:broker CPU:lab worker~peak PowerShell/node trips/node trips~most"
    for head in heads.split():
        shown.add_column(head.replace("~", " ").replace(":", " "), justify="right")
    for one in results:
        shown.add_row(
            str(one.nodes), one.verdict, f"{one.seconds:.1f} s", f"{one.worker_cpu:.1f} s", f"{one.broker_cpu:.1f} s",
            f"{one.lab_cpu:.1f} s", f"{one.worker_mb:.0f} MB", f"{one.powershell_starts:.2f}",
            f"{one.round_trips:.1f}", str(one.most_round_trips),
        )  # fmt: skip
    return shown


def main() -> int:
    """Measures, prints, compares."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    results = [measured(nodes) for nodes in sizes]
    Console(width=140).print(table(results))
    missed = {one.nodes: one.misses(Bar()) for one in results if one.nodes == 100 and one.misses(Bar())}
    if missed:
        Console(stderr=True).print(f"missed: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
