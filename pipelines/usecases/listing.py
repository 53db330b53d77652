"""Lists of runs: those of some clusters, what they wait for, and each as data for programs (`esync runs --json`)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from pipelines.run.groups import Place, in_line, is_member, waits_for
from pipelines.run.identity import cluster_of, in_ids, of_cluster
from tasks.steering import Steering
from workers.errors import RecordRefused, RunUnknown
from workers.records import Record, RunRecord, RunState, Verdict
from workers.store.port import RunStore

if TYPE_CHECKING:
    from tasks.cluster import Cluster

__all__ = ["RunRow", "each_run_of", "newest_runs", "row_of", "runs_of", "runs_of_group", "steered"]

_ITS_TURN = "waits for its turn"
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


def steered(store: RunStore, records: Iterable[RunRecord]) -> dict[str, str]:
    """The runs that are not just at work, by id: held, paused, stopping, or waiting for their turn in a group."""
    going = [record for record in records if record.state is not RunState.CONCLUDED]
    active = store.active() if going else ()
    waiting = in_line(active)
    words = {one.id: _ITS_TURN if one.id in waiting else _word(store, one, active) for one in going}
    return {run: word for run, word in words.items() if word}


def _word(store: RunStore, record: RunRecord, active: Sequence[str]) -> str:
    try:
        if record.state is RunState.CREATED and is_member(record.id) and _waits(store, record, active):
            return _ITS_TURN
        return Steering.of(store, record.id).word
    except RecordRefused:  # no worker continues it, and it hides no other
        return "cannot be read"


def _waits(store: RunStore, record: RunRecord, active: Sequence[str]) -> bool:
    from tasks.cluster import Cluster  # noqa: PLC0415 - a list seldom has such a run

    def servers_of(run: str) -> tuple[str, ...]:
        with suppress(RunUnknown, RecordRefused):  # deleted in the meantime, or it cannot be read
            return Cluster.of_run(store.run(run)).servers
        return ()

    return bool(waits_for(record.id, Cluster.of_run(record).servers, active, servers_of))


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
