"""Which cluster a run is of. A cluster is its name and its servers: two cluster files may share a name. Pure."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from workers.errors import RecordRefused
from workers.records import RunRecord

if TYPE_CHECKING:  # a record has its digest, unless an early version of esync wrote it
    from tasks.cluster import Cluster

__all__ = ["cluster_of", "in_ids", "of_cluster", "shared_names"]


def in_ids(cluster: str) -> str:
    """The part of the ids of runs that names their cluster; clusters with long names may share it."""
    return f"-{cluster[:32].lower()}-"


def cluster_of(record: RunRecord) -> tuple[str, str]:
    """The cluster of a run: its name, and the digest of its servers (`Cluster.digest`; empty if it cannot be read)."""
    digest = record.servers
    if not digest:
        from tasks.cluster import Cluster  # noqa: PLC0415 - see above

        with suppress(RecordRefused):
            digest = Cluster.of_run(record).digest
    return record.cluster, digest


def shared_names(records: Iterable[RunRecord]) -> set[str]:
    """The names that several clusters of these runs have."""
    names = [name for name, _ in {cluster_of(record) for record in records}]
    return {name for name in names if names.count(name) > 1}


def of_cluster(record: RunRecord, target: "Cluster | str") -> bool:
    """Whether a run is one of a cluster.

    Args:
        record: the run.
        target: a cluster, whose servers may have changed since: one common server is enough; or its name, or
            `name@digest`, where the beginning of the digest is enough.
    """
    if not isinstance(target, str):
        if record.cluster != target.name or record.servers == target.digest:
            return record.cluster == target.name
        with suppress(RecordRefused):
            return not set(target.of_run(record).servers).isdisjoint(target.servers)
        return False
    name, _, digest = target.partition("@")
    return record.cluster == name and cluster_of(record)[1].startswith(digest)
