"""Whether another run may start: limited by the number of active runs, and by whether its servers are free."""

from collections.abc import Iterator
from contextlib import suppress

from pipelines.coordinator import watch_or_cancel, works_on
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.groups import in_line
from pipelines.run.identity import in_ids
from tasks.cluster import Cluster
from workers.errors import ClusterLocked, RecordRefused, RunUnknown, TooManyRuns
from workers.records import RunRecord, RunState

__all__ = ["changing", "check_cluster_free", "check_run_limit"]


def check_run_limit(engine: Engine, more: int = 1) -> None:
    """Passes while so many more runs may be active. Runs that wait in a group for others of it do not count.

    Raises:
        TooManyRuns: the limit is reached.
    """
    most, known = engine.settings.max_active, engine.store.active()
    active = len(known) - len(in_line(known))
    if active + more > most:
        raise TooManyRuns(
            f"{active} runs are active and the limit is {most} (ESYNC_MAX_ACTIVE); nothing was started",
            remedy="wait until some have ended, or stop them: esync runs, esync cancel RUN",
        )


def check_cluster_free(engine: Engine, cluster: Cluster) -> None:
    """Passes unless a run of a cluster of that name changes one of these servers, or is about to.

    A run of another cluster on one of them is found when the new run begins: it locks its servers.

    Raises:
        ClusterLocked: names that run.
    """
    for record in changing(engine, cluster):
        raise ClusterLocked(f"{works_on(record, cluster)}; nothing was started. {watch_or_cancel(record.id)}")


def changing(engine: Engine, cluster: Cluster) -> Iterator[RunRecord]:
    """The runs of a cluster of that name that change one of these servers, or are about to."""
    for run_id in engine.store.active():
        # Most other runs need not be read.
        if in_ids(cluster.name) not in run_id:
            continue
        with suppress(RunUnknown, RecordRefused):  # deleted in the meantime, or of another installation
            record = engine.store.run(run_id)
            if _works_on(record, cluster):
                yield record


def _works_on(record: RunRecord, cluster: Cluster) -> bool:
    return (
        not set(cluster.servers).isdisjoint(Cluster.of_run(record).servers)
        and record.state is not RunState.CONCLUDED
        and not kind_of(record.kind, record.id).read_only
    )
