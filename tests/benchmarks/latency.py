"""Servers that take their time: how near the product comes to doing as many at once as it may; one worker and two."""

import os

from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Job, installation, whole_cluster
from tests.benchmarks.jobs import checked

__all__ = ["latency", "two_workers"]

LATENCY, START = 5, 500  #: milliseconds of each request, and of each start of PowerShell
AT_ONCE = 16
CORES = 4  #: two workers, the lab and the broker


def latency(nodes: int) -> Values:
    """The time of a join against the ideal: the sum of all waits of the servers, 16 of them at the same time."""
    job = slow_job(nodes)
    ideal = waits(job) / AT_ONCE
    return {"latency.makespan": job.seconds / ideal, "latency.wall": job.seconds, "latency.ideal": ideal}


def slow_job(nodes: int, workers: int = 1) -> Job:
    """A join on slow servers."""
    with installation(nodes, workers=workers, ESYNC_CONCURRENCY=str(AT_ONCE)) as ready:
        for node in ready.lab.nodes:
            ready.lab.break_node(node, latency_ms=LATENCY, powershell_start_ms=START)
        return checked(ready.job(whole_cluster(ready.lab)))


def waits(job: Job) -> float:
    """What the servers let their client wait, in seconds."""
    trips, starts = (sum(one[what] for one in job.counts.values()) for what in ("round_trips", "powershell_starts"))
    return (trips * LATENCY + starts * START) / 1000


def two_workers(nodes: int) -> Values:
    """The same number of nodes with one worker and with two, one after the other."""
    one, two = (slow_job(nodes, workers) for workers in (1, 2))
    ratio = one.seconds / two.seconds
    cores = os.cpu_count() or 1
    judged = ratio if cores >= CORES else f"{ratio:.2f} x, not judged: {cores} cores of {CORES}"
    return {"workers.speedup": judged, "workers.one.wall": one.seconds, "workers.two.wall": two.seconds}
