"""Servers that need nothing: what looking at them costs, alone and by the number of servers."""

from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Installation, Job, installation, whole_cluster
from tests.benchmarks.jobs import checked

__all__ = ["again"]

ROUNDS = 2  #: of a verify and a rollout, one after the other


def again(small: int, large: int) -> Values:
    """A rollout in a new session on joined servers; then, in sessions that exist, a rollout against a verify."""
    with installation(small) as ready:
        few = _in_new_sessions(ready)
    with installation(large) as ready:
        many = _in_new_sessions(ready)
        cluster = whole_cluster(ready.lab)
        pairs = [(ready.job(cluster, "verify"), ready.job(cluster)) for _ in range(ROUNDS)]
    looked, nothing = (sum(job.worker_cpu for job in jobs) for jobs in zip(*pairs, strict=True))
    return {
        "again.trips": many.most("round_trips"),
        "again.starts": many.most("powershell_starts"),
        "again.bytes": many.bytes_per_node() / 1000,
        "again.bytes.growth": many.bytes_per_node() / few.bytes_per_node(),
        "again.cpu": nothing / looked,
        "again.verify.cpu": 1000 * looked / large / ROUNDS,
        "again.rollout.cpu": 1000 * nothing / large / ROUNDS,
    }


def _in_new_sessions(ready: Installation) -> Job:
    cluster = whole_cluster(ready.lab)
    checked(ready.job(cluster))
    ready.stop_workers()
    ready.start_worker()
    return checked(ready.job(cluster))
