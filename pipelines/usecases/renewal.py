"""Renewing the certificate family of a cluster: begins a renewal, or continues one that has not reached its end."""

from typing import Unpack

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.decisions_renew import PARTNERS_READY
from pipelines.run.identity import of_cluster
from pipelines.usecases.origin import Origin
from pipelines.usecases.runs import start
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.ektron.certificates.making import generate_family
from workers.records import RunRecord, RunState, Verdict

__all__ = ["KIND", "begun_renewal", "family_to_come", "renew"]

KIND = "renew"
_RECENT = 200  #: runs among which the last one that changed the cluster is searched


def renew(
    engine: Engine,
    cluster: Cluster,
    *,
    generate: bool = False,
    partners_ready: bool = False,
    **origin: Unpack[Origin],
) -> RunRecord:
    """Starts a run that replaces the certificate family, while all servers go on trusting each other.

    If the last run that changed this cluster is a renewal that has not reached its end, the new run continues with its
    families: a third family beside the two would not be trusted.

    Args:
        engine: where.
        cluster: whose family.
        generate: make the new family; otherwise the Security Configurator on the origin has to make it.
        partners_ready: the partners of the cluster file trust the new family already.
        origin: who requests it, from where and why.

    Raises:
        TooManyRuns: see `start`.
        StoreUnavailable: the broker does not answer.
    """
    begun = begun_renewal(engine, cluster)
    options = (PARTNERS_READY,) if partners_ready else ()
    if begun is not None:
        family = engine.documents(begun).family()
        return start(engine, cluster, kind=KIND, parent=begun.id, family=family, options=options, **origin)
    made = generate or cluster.policy.generate_certificates
    family = generate_family(cluster.node(cluster.origin).name) if made else None
    return start(engine, cluster, kind=KIND, family=family, options=options, **origin)


def begun_renewal(engine: Engine, cluster: Cluster) -> RunRecord | None:
    """The renewal that has begun on this cluster and has not reached its end; None when there is none."""
    for record in engine.store.runs(_RECENT):
        kind = kind_of(record.kind, record.id)
        if of_cluster(record, cluster) and kind.changing_turns(record):
            unfinished = record.state is RunState.CONCLUDED and record.verdict is not Verdict.JOINED
            return record if record.kind == KIND and unfinished else None
    return None


def family_to_come(engine: Engine, cluster: Cluster) -> tuple[Family, RunRecord] | None:
    """The new family of a renewal that has begun and not ended, and that run; None when there is none.

    Raises:
        SecretUnavailable: there is no seal key.
    """
    begun = begun_renewal(engine, cluster)
    family = engine.documents(begun).family() if begun else None
    return (family, begun) if family and begun else None
