"""More of a cluster at a glance: the state that the newest run has found, any drift, the end of its certificates."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from pipelines.engine import Engine
from pipelines.run.identity import of_cluster
from pipelines.usecases.overview import ClusterOverview
from tasks.cluster import Cluster
from workers.errors import EsyncError, RecordRefused
from workers.records import DocumentKind, Record, RunRecord, RunState, Verdict

__all__ = ["Drift", "Glance", "certificates_end", "glance_of"]

#: Kinds of runs whose verdict says something about the state of the cluster.
_TELLING = frozenset({"rollout", "renew", "verify", "plan", "rollback", "retire"})
#: How a run ends that has found nothing out.
_SILENT = frozenset({Verdict.LOCKED, Verdict.STALE, Verdict.CANCELLED})


class Drift(Record):
    """Whether a cluster is still as it was proven; `run` has found it."""

    kind: Literal["none", "found", "file", "unknown"]
    text: str
    run: str = ""


class Glance(Record):
    """A cluster at a glance. `state` is the newest verdict about it, None when there is none among the newest runs."""

    known: ClusterOverview
    state: Verdict | None = None
    run: str = ""  #: the run that found the state
    summary: str = ""
    seen: AwareDatetime | None = None  #: when
    proof: str = ""  #: the run that proved the cluster for the last time
    drift: Drift
    certificates: AwareDatetime | None = None  #: when the first certificate ends


def glance_of(
    known: ClusterOverview, cluster: Cluster, records: Sequence[RunRecord], certificates: datetime | None = None
) -> Glance:
    """A cluster at a glance.

    Args:
        known: of it.
        cluster: as its file has it now.
        records: runs, newest first; those of other clusters do not count.
        certificates: when the first certificate ends, if it is known.
    """
    told = [record for record in records if of_cluster(record, cluster) and _tells(record)]
    newest = next(iter(told), None)
    proof = next((one for one in told if one.verdict is Verdict.JOINED and one.ended == known.proven), None)
    return Glance(
        known=known,
        state=newest.verdict if newest else None,
        run=newest.id if newest else "",
        summary=newest.summary if newest else "",
        seen=newest.ended if newest else None,
        proof=proof.id if proof else "",
        drift=_drift(known, cluster, told, proof),
        certificates=certificates,
    )


def _tells(record: RunRecord) -> bool:
    return record.kind in _TELLING and record.verdict is not None and record.verdict not in _SILENT


def _drift(known: ClusterOverview, cluster: Cluster, told: Sequence[RunRecord], proof: RunRecord | None) -> Drift:
    if proof is None:
        return Drift(kind="unknown", text="never proven" if known.proven is None else "not known")
    if known.drift:
        found = next(one for one in told if one.verdict is Verdict.REFUTED)
        return Drift(kind="found", text=f"found by {found.kind}", run=found.id)
    newest = told[0]
    if newest.verdict is Verdict.CHANGES_PENDING:
        return Drift(kind="found", text="a plan has changes", run=newest.id)
    with suppress(RecordRefused):
        if Cluster.of_run(proof) != cluster:
            return Drift(kind="file", text="its file has changed since", run=proof.id)
    if newest.verdict not in {Verdict.JOINED, Verdict.NOTHING_TO_DO}:
        return Drift(kind="unknown", text="not proven since", run=newest.id)
    return Drift(kind="none", text="none seen", run=newest.id)


def certificates_end(engine: Engine, cluster: Cluster, records: Sequence[RunRecord]) -> datetime | None:
    """When the first certificate of the origin ends, as the newest run saw it that looked; None if none did."""
    origin = cluster.node(cluster.origin).name
    for record in records:
        if record.state is not RunState.CONCLUDED or not of_cluster(record, cluster):
            continue
        with suppress(EsyncError):
            documents = engine.documents(record)
            facts = documents.facts(DocumentKind.VERIFIED, origin) or documents.facts(DocumentKind.OBSERVED, origin)
            ends = [one.not_after for one in (facts.client, facts.server) if one] if facts else []
            if ends:
                return min(ends)
    return None
