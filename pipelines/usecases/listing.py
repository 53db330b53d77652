"""Lists of runs: those of some clusters, and each as data for programs (`esync runs --json`)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from pipelines.run.groups import Place
from pipelines.run.identity import cluster_of, in_ids, of_cluster
from workers.errors import RecordRefused, RunUnknown
from workers.records import Record, RunRecord, RunState, Verdict
from workers.store.port import RunStore

if TYPE_CHECKING:
    from tasks.cluster import Cluster

__all__ = ["RunRow", "each_run_of", "newest_runs", "row_of", "runs_of", "runs_of_group"]

_BACK = 10_000  #: ids among which runs of a cluster are searched


def runs_of(
    store: RunStore, clusters: "Sequence[Cluster]", limit: int, refused: Callable[[RecordRefused], None]
) -> list[RunRecord]:
    """The newest runs of these clusters, newest first; `refused` as in `RunStore.runs`."""
    return list(islice(each_run_of(store, clusters, refused), limit))


def each_run_of(
    store: RunStore,
    clusters: "Sequence[Cluster]",
    refused: Callable[[RecordRefused], None] = lambda _: None,
    *,
    back: int = _BACK,
) -> Iterator[RunRecord]:
    """The same, each read when it is asked for; of the newest runs of all clusters, at most `back`."""
    parts = {in_ids(cluster.name) for cluster in clusters}
    for run in store.names(back):
        try:
            record = store.run(run) if any(part in run for part in parts) else None
        except RecordRefused as error:
            refused(error)
        except RunUnknown:
            continue
        else:
            if record and any(of_cluster(record, cluster) for cluster in clusters):
                yield record


def newest_runs(
    store: RunStore, clusters: "Sequence[Cluster]", refused: Callable[[RecordRefused], None]
) -> list[RunRecord | None]:
    """The newest run of each of these clusters, None where there is none; never one that was refused for a lock.

    Args:
        store: where.
        clusters: whose runs.
        refused: as in `RunStore.runs`.
    """
    missing, found = dict(enumerate(clusters)), dict[int, RunRecord]()
    for run in store.names(_BACK):
        wanted = {place: cluster for place, cluster in missing.items() if in_ids(cluster.name) in run}
        try:
            record = store.run(run) if wanted else None
        except RecordRefused as error:
            refused(error)
        except RunUnknown:
            continue
        else:
            if record is not None and record.verdict is not Verdict.LOCKED:
                own = {place: record for place, cluster in wanted.items() if of_cluster(record, cluster)}
                found |= own
                missing = {place: cluster for place, cluster in missing.items() if place not in own}
        if not missing:
            break
    return [found.get(place) for place in range(len(clusters))]


def runs_of_group(store: RunStore, group: str) -> list[str]:
    """The ids of the runs that were requested together, in their order; none if there is no such group."""
    places = {run: place for run in store.names(_BACK) if (place := Place.of(run)) and place.group == group}
    return sorted(places, key=places.__getitem__)


class RunRow(Record):
    """One run of a list (docs/runs-schema.json). `parent` is the run it retries or rolls back; may be empty.

    `began` is when its turn came, if it was requested together with others.
    `waiting` is as in `RunStatus`. `doing` says what a run does that is not just at work: `paused`, `stopping`, `held
    before wave-2`, `waits for its turn`; empty in the answer to a request that starts a run, and in an overview.
    """

    run: str
    kind: str
    cluster: str
    servers: str = ""
    state: RunState
    verdict: Verdict | None
    exit_code: int | None
    summary: str
    created: AwareDatetime
    began: AwareDatetime | None = None
    ended: AwareDatetime | None
    who: str
    origin_host: str
    reason: str
    parent: str
    waiting: str = ""
    doing: str = ""


def row_of(record: RunRecord, waiting: str = "", doing: str = "") -> RunRow:
    """A run as one row of a list."""
    return RunRow(
        run=record.id,
        kind=record.kind,
        cluster=record.cluster,
        servers=cluster_of(record)[1],
        state=record.state,
        verdict=record.verdict,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        created=record.created,
        began=record.began,
        ended=record.ended,
        who=record.who,
        origin_host=record.origin_host,
        reason=record.reason,
        parent=record.parent,
        waiting=waiting,
        doing=doing,
    )
