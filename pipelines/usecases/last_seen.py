"""Which nodes were down when they were last seen: from earlier runs of their cluster. Contacts no server."""

from collections.abc import Collection
from contextlib import suppress

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.identity import in_ids, of_cluster
from pipelines.run.last_seen import seen_working
from pipelines.run.snapshot import Reading, Snapshot
from tasks.cluster import Cluster
from workers.errors import RecordRefused, RunUnknown
from workers.records import RunRecord, RunState

__all__ = ["down_when_last_seen"]

_BACK = 2000  #: runs among which earlier ones of the cluster are searched
_EARLIER = 10  #: runs of the cluster that are read


def down_when_last_seen(engine: Engine, cluster: Cluster, nodes: Collection[str]) -> tuple[str, ...]:
    """Those of these nodes whose service did not run, or that did not answer, when a run last looked at them."""
    left, down, read = set(nodes), set[str](), 0
    for run in engine.store.names(_BACK) if left else ():
        if not left or read == _EARLIER:
            break
        if in_ids(cluster.name) not in run:
            continue
        with suppress(RunUnknown, RecordRefused):
            record = engine.store.run(run)
            if record.state is RunState.CONCLUDED and of_cluster(record, cluster):
                read += 1
                seen = _seen(engine, record)
                down |= {node for node in left & seen.keys() if not seen[node]}
                left -= seen.keys()
    return tuple(name for name in cluster.node_names if name in down)


def _seen(engine: Engine, record: RunRecord) -> dict[str, bool]:
    snapshot = Snapshot(record, Reading(engine.store, record.id), engine.documents(record))
    return seen_working(snapshot, kind_of(record.kind, record.id))
