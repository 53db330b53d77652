"""Which nodes were down when they were last seen: from earlier runs of their cluster. Contacts no server."""

from collections.abc import Collection
from contextlib import suppress
from itertools import islice

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.last_seen import seen_working
from pipelines.run.snapshot import Reading, Snapshot
from pipelines.usecases.listing import each_run_of
from tasks.cluster import Cluster
from workers.errors import RecordRefused, RunUnknown
from workers.records import RunRecord, RunState

__all__ = ["down_when_last_seen"]

_EARLIER = 10  #: runs of the cluster that are read


def down_when_last_seen(engine: Engine, cluster: Cluster, nodes: Collection[str]) -> tuple[str, ...]:
    """Those of these nodes whose service did not run, or that did not answer, when a run last looked at them."""
    left, down = set(nodes), set[str]()
    ended = (run for run in each_run_of(engine.store, [cluster]) if run.state is RunState.CONCLUDED)
    for record in islice(ended, _EARLIER) if left else ():
        with suppress(RunUnknown, RecordRefused):
            seen = _seen(engine, record)
            down |= {node for node in left & seen.keys() if not seen[node]}
            left -= seen.keys()
        if not left:
            break
    return tuple(name for name in cluster.node_names if name in down)


def _seen(engine: Engine, record: RunRecord) -> dict[str, bool]:
    snapshot = Snapshot(record, Reading(engine.store, record.id), engine.documents(record))
    return seen_working(snapshot, kind_of(record.kind, record.id))
