"""Whether one more run may start: by how many are going on, and by whether its cluster is free."""

from contextlib import suppress

from pipelines.coordinator import introduced, steering
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from workers.errors import ClusterLocked, RunUnknown, TooManyRuns
from workers.records import RunRecord, RunState

__all__ = ["cluster_free", "room"]


def room(engine: Engine) -> None:
    """Passes while fewer runs are going on than may.

    Raises:
        TooManyRuns: that many are going on already.
    """
    most = engine.settings.max_active
    active = len(engine.store.active())
    if active >= most:
        raise TooManyRuns(
            f"{active} runs are going on, and no more than {most} may (ESYNC_MAX_ACTIVE); nothing was started",
            remedy="wait until some have ended, or stop them: esync runs, esync cancel RUN",
        )


def cluster_free(engine: Engine, cluster: str) -> None:
    """Passes unless a run that changes nodes works on the cluster, or is about to.

    Raises:
        ClusterLocked: with that run.
    """
    for run_id in engine.store.active():
        # Ids name their cluster (`pipelines.usecases.runs`): most others need not be read.
        if f"-{cluster[:32].lower()}-" not in run_id:
            continue
        with suppress(RunUnknown):  # forgotten in between
            record = engine.store.run(run_id)
            if _works_on(record, cluster):
                said = f"{introduced(record)} works on cluster {cluster}; nothing was started. {steering(run_id)}"
                raise ClusterLocked(said)


def _works_on(record: RunRecord, cluster: str) -> bool:
    return (
        record.cluster == cluster
        and record.state is not RunState.CONCLUDED
        and not kind_of(record.kind, record.id).read_only
    )
