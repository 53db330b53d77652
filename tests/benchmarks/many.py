"""Many clusters of four servers in one lab, two workers: do they join, what do they cost, do they end one by one?"""

import time

from lab.control.remote import LabProcess
from pipelines.usecases.groups import Member, start_group
from tasks.cluster import Cluster
from tests.benchmarks.bars import Values
from tests.benchmarks.installation import LOOK, Installation, installation, whole_cluster
from tests.benchmarks.jobs import joined

__all__ = ["clusters_of", "many"]

WORKERS = 2
AT_MOST = 16  #: clusters at the same time: as many nodes as two workers have threads


def clusters_of(lab: LabProcess) -> list[Cluster]:
    """The servers of a lab as clusters of two staging and two production servers; each first one has a family."""
    whole = whole_cluster(lab)
    nodes = whole.model_dump()["nodes"]
    half = len(nodes) // 2
    made = []
    for number in range(half // 2):
        start = 2 * number
        four = [*nodes[start : start + 2], *nodes[half + start : half + start + 2]]
        own = {"name": f"shop-{number + 1}", "origin": four[0]["name"], "nodes": four}
        made.append(Cluster.model_validate(whole.model_dump() | own))
    for cluster in made[1:]:
        lab.run_configurator(cluster.origin)
    return made


def many(clusters: int, compared: int = 100) -> Values:
    """All clusters, some of them at the same time; before and after, one cluster of 100 with as many workers."""
    first = joined(compared, WORKERS)
    with installation(4 * clusters, workers=WORKERS) as ready:
        made = clusters_of(ready.lab)
        before, started = ready.worker_cpu(), time.time()
        ends = _all_run(ready, made)
        used, whole = ready.worker_cpu() - before, max(ends.values()) - started
        verdicts = [str(ready.engine.store.run(run).verdict) for run in ends]
    alone = (first.worker_cpu + joined(compared, WORKERS).worker_cpu) / 2 / compared
    return {
        "many.joined": 100 * verdicts.count("joined") / clusters,
        "many.cpu": used / (4 * clusters) / alone,
        "many.node.cpu": 1000 * used / (4 * clusters),
        "many.compared.cpu": 1000 * alone,
        "many.wall": whole,
        "many.half": 100 * sum(end - started <= whole / 2 for end in ends.values()) / clusters,
    }


def _all_run(ready: Installation, clusters: list[Cluster]) -> dict[str, float]:
    """Runs all, at most some at the same time; run -> when it ended, in seconds since 1970."""
    started = list(start_group(ready.engine, [Member(one) for one in clusters], at_most=AT_MOST))
    while not all(ready.ended(record.id) for record in started):
        time.sleep(LOOK)
    ended = {record.id: ready.engine.store.run(record.id).ended for record in started}
    return {run: at.timestamp() for run, at in ended.items() if at}
