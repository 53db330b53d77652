"""One cluster from untouched to joined: CPU, memory, round trips, Redis, joins, the report page."""

from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Job, installation, whole_cluster
from tests.benchmarks.pages import page

__all__ = ["growth", "job_values", "joined"]


def joined(nodes: int, workers: int = 1) -> Job:
    """One run on that many untouched servers, everything new.

    Raises:
        RuntimeError: they are not joined.
    """
    with installation(nodes, workers=workers) as ready:
        return checked(ready.job(whole_cluster(ready.lab)))


def checked(job: Job) -> Job:
    """The same.

    Raises:
        RuntimeError: its servers are not joined.
    """
    if job.verdict != "joined":
        raise RuntimeError(f"{job.nodes} nodes: {job.verdict}")
    return job


def job_values(job: Job) -> Values:
    """The values of a job of any size."""
    at = f"join.{job.nodes}"
    return {
        f"{at}.cpu": 1000 * job.worker_cpu / job.nodes,
        f"{at}.cpu.total": job.worker_cpu,
        f"{at}.lab": 1000 * job.lab_cpu / job.nodes,
        f"{at}.broker": 1000 * job.broker_cpu / job.nodes,
        f"{at}.wall": job.seconds,
        f"{at}.memory.total": job.memory,
        f"{at}.memory": job.memory / (100 + 0.1 * job.nodes),
        f"{at}.trips": job.most("round_trips"),
        f"{at}.starts": job.most("powershell_starts"),
        f"{at}.bytes": job.bytes_per_node() / 1000,
        f"{at}.commands": job.commands / job.nodes,
        f"{at}.redis": job.redis_bytes / job.nodes / 1000,
        f"{at}.join": job.join,
    }


def growth(small: int, large: int) -> Values:
    """The large job, between two small ones in the same minutes: what a node costs more there."""
    first = joined(small)
    with installation(large) as ready:
        much = checked(ready.job(whole_cluster(ready.lab)))
        pages = page(ready.engine, much)
    both = (first, joined(small))

    def ratio(of_large: float, *of_small: float) -> float:
        return of_large / large / (sum(of_small) / len(of_small) / small)

    return {
        **job_values(first),
        **job_values(much),
        **pages,
        f"growth.{large}.cpu": ratio(much.worker_cpu, *(job.worker_cpu for job in both)),
        f"growth.{large}.commands": ratio(much.commands, *(job.commands for job in both)),
        f"growth.{large}.redis": ratio(much.redis_bytes, *(job.redis_bytes for job in both)),
    }
