"""Whether another run may start: limited by the number of active runs, and by whether its cluster is free."""

from contextlib import suppress

from pipelines.coordinator import describe, watch_or_cancel
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from workers.errors import ClusterLocked, RunUnknown, TooManyRuns
from workers.records import RunRecord, RunState

__all__ = ["check_cluster_free", "check_run_limit"]


def check_run_limit(engine: Engine) -> None:
    """Passes while fewer runs are active than allowed.

    Raises:
        TooManyRuns: the limit is reached.
    """
    most = engine.settings.max_active
    active = len(engine.store.active())
    if active >= most:
        raise TooManyRuns(
            f"{active} runs are active and the limit is {most} (ESYNC_MAX_ACTIVE); nothing was started",
            remedy="wait until some have ended, or stop them: esync runs, esync cancel RUN",
        )


def check_cluster_free(engine: Engine, cluster: str) -> None:
    """Passes unless a run that changes nodes works on the cluster, or is about to.

    Raises:
        ClusterLocked: names that run.
    """
    for run_id in engine.store.active():
        # Ids contain the name of the cluster (`pipelines.usecases.runs`): most other runs need not be read.
        if f"-{cluster[:32].lower()}-" not in run_id:
            continue
        with suppress(RunUnknown):  # deleted in the meantime
            record = engine.store.run(run_id)
            if _works_on(record, cluster):
                raise ClusterLocked(
                    f"{describe(record)} works on cluster {cluster}; nothing was started. {watch_or_cancel(run_id)}"
                )


def _works_on(record: RunRecord, cluster: str) -> bool:
    return (
        record.cluster == cluster
        and record.state is not RunState.CONCLUDED
        and not kind_of(record.kind, record.id).read_only
    )
