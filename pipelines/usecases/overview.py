"""Clusters at a glance: what the newest runs say about each cluster file of a folder. Contacts no server."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import AwareDatetime, Field

from pipelines.cluster_file.loader import ClusterRefused
from pipelines.cluster_file.masked import masked
from pipelines.cluster_file.mistakes import Mistake
from pipelines.engine import Engine
from pipelines.rollout import KINDS
from pipelines.run.identity import of_cluster
from pipelines.run.summary import findings_of
from pipelines.usecases.cluster_files import cluster_named, file_named, names_in, text_of
from pipelines.usecases.listing import RunRow, row_of
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import Findings
from workers.errors import InputRefused, RecordRefused
from workers.records import Record, RunRecord, RunState, Verdict

__all__ = ["ClusterFileText", "ClusterOverview", "file_of_cluster", "overview_of", "overview_with", "overviews"]

BACK = 500  #: runs that are looked at
STRIP = 10  #: last runs of a cluster that are shown


class ClusterOverview(Record):
    """What is known of a cluster.

    Attributes:
        name: of its file, without the suffix; requests name it.
        cluster: its own name; runs, and the clusters of a token, have this one. Empty while the file has mistakes.
        mistakes: how many the file has.
        pools: pool -> number of nodes.
        active: ids of runs that have not ended.
        checked: when the newest run that proved or refuted that the cluster is joined has ended.
        verdict: of that run.
        proven: when a run last proved it.
        drift: whether it was proven once, and the newest check refuted it.
        drifted: the nodes that the newest check names.
        last: the newest runs, the newest first; `waiting` is for lists of runs, and empty here.
    """

    name: str
    cluster: str = ""
    edition: str = ""
    origin: str = ""
    nodes: int = 0
    pools: dict[str, int] = Field(default_factory=dict)
    mistakes: int = 0
    active: tuple[str, ...] = ()
    checked: AwareDatetime | None = None
    verdict: Verdict | None = None
    proven: AwareDatetime | None = None
    drift: bool = False
    drifted: tuple[str, ...] = ()
    last: tuple[RunRow, ...] = ()


class ClusterFileText(Record):
    """A cluster file as it is, with the place of every mistake in it."""

    name: str
    text: str
    ok: bool
    mistakes: tuple[Mistake, ...] = ()


def overviews(engine: Engine, folder: Path) -> tuple[ClusterOverview, ...]:
    """All cluster files of a folder, in the order of their names."""
    runs = engine.store.runs(BACK)
    return tuple(_overview(engine, folder, name, runs) for name in names_in(folder))


def overview_of(engine: Engine, folder: Path, name: str) -> ClusterOverview:
    """One cluster file of a folder.

    Raises:
        InputRefused: there is no such file.
    """
    file_named(folder, name)
    return _overview(engine, folder, name, engine.store.runs(BACK))


def file_of_cluster(folder: Path, name: str) -> ClusterFileText:
    """A cluster file as it is, but for secrets, which do not belong there.

    Raises:
        InputRefused: there is no such file, or it cannot be read.
    """
    text = masked(text_of(file_named(folder, name)))
    try:
        cluster_named(folder, name)
    except ClusterRefused as refused:
        return ClusterFileText(name=name, text=text, ok=False, mistakes=refused.mistakes)
    return ClusterFileText(name=name, text=text, ok=True)


def overview_with(engine: Engine, name: str, cluster: Cluster, runs: Sequence[RunRecord]) -> ClusterOverview:
    """A cluster, with runs that have been read already, the newest first; those of other clusters do not count."""
    return _with_runs(engine, _described(name, cluster), [record for record in runs if of_cluster(record, cluster)])


def _overview(engine: Engine, folder: Path, name: str, runs: Sequence[RunRecord]) -> ClusterOverview:
    try:
        cluster = cluster_named(folder, name)
    except ClusterRefused as refused:
        return ClusterOverview(name=name, mistakes=len(refused.mistakes))
    except InputRefused:  # it cannot be read
        return ClusterOverview(name=name, mistakes=1)
    return overview_with(engine, name, cluster, runs)


def _described(name: str, cluster: Cluster) -> ClusterOverview:
    pools: dict[str, int] = {}
    for node in cluster.nodes:
        pools[node.pool] = pools.get(node.pool, 0) + 1
    return ClusterOverview(
        name=name,
        cluster=cluster.name,
        edition=cluster.edition,
        origin=cluster.origin,
        nodes=len(cluster.nodes),
        pools=pools,
    )


def _with_runs(engine: Engine, known: ClusterOverview, runs: Sequence[RunRecord]) -> ClusterOverview:
    """What the runs of a cluster, the newest first, add to what its file says."""
    judged = [record for record in runs if _judges(record)]
    newest = judged[0] if judged else None
    proven = next((record for record in judged if record.verdict is Verdict.JOINED), None)
    findings = _refuting(engine, newest) if newest else None
    nodes = {node: None for one in findings.refuted_errors for node in one.nodes} if findings else {}
    return known.model_copy(
        update={
            "active": tuple(record.id for record in runs if record.state is not RunState.CONCLUDED),
            "checked": newest.ended if newest else None,
            "verdict": newest.verdict if newest else None,
            "proven": proven.ended if proven else None,
            "drift": bool(proven and newest and newest.verdict is Verdict.REFUTED),
            "drifted": tuple(nodes),
            "last": tuple(row_of(record) for record in runs[:STRIP]),
        }
    )


def _refuting(engine: Engine, record: RunRecord) -> Findings | None:
    """What a run found that refutes its cluster; None where it cannot be read: that hides no other cluster."""
    with suppress(RecordRefused):
        return findings_of(engine.store, record.id) if record.verdict is Verdict.REFUTED else None
    return None


def _judges(record: RunRecord) -> bool:
    """Whether a run proved or refuted that its whole cluster is joined.

    One that changes selected nodes verifies all of them at its end; one that reads judges the selected ones only.
    """
    kind = KINDS.get(record.kind)
    decided = record.verdict in {Verdict.JOINED, Verdict.REFUTED}
    return kind is not None and kind.verifies and decided and not (record.only and kind.read_only)
