"""Starting a run: for the command line, messages and a web page. `run_views` reads one."""

import json
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Unpack

from pydantic import Field

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.attested import document_of, read_confirmations
from pipelines.run.evidence import judged_kind
from pipelines.run.groups import Place
from pipelines.run.identity import cluster_of, in_ids
from pipelines.run.summary import RunSummary, summary_of
from pipelines.usecases.admission import check_cluster_free, check_run_limit
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.listing import each_run_of
from pipelines.usecases.origin import OneLine, Origin, user
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.run_views import ended_run, status, summary
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from workers.errors import ClusterLocked, InputRefused, RecordRefused, RunUnknown
from workers.records import DocumentKind, Record, RunRecord, Verdict, now
from workers.store.kept import attested

__all__ = [
    "RunRequest",
    "RunSummary",
    "cluster_by_name",
    "ended_run",
    "keyed",
    "saved_plan",
    "saved_plan_for",
    "start",
    "start_by_name",
    "start_if_free",
    "status",
    "summary",
    "summary_of",
]


_STARTING = threading.Lock()
_BACK = 2000  #: runs among which an earlier one of the same cluster is searched
_EARLIER = 3  #: earlier runs of the cluster among which one is searched that found it joined


class _Request(Origin, total=False):
    kind: str
    parent: str
    only: tuple[str, ...]
    options: tuple[str, ...]


class RunRequest(Record):
    """A request for a run.

    Attributes:
        kind: see `RunRecord.kind`.
        who: the person or program; by default the user of this process.
        origin_host: the machine that the request comes from; by default this one.
        reason: why, for the record.
        key: idempotency key: two requests with the same key for the same cluster result in one run.
        parent: the run that this one retries or rolls back.
        only: the nodes it may change; all when empty.
        options: see `RunRecord.options`.
    """

    kind: str = "rollout"
    who: OneLine = Field(default_factory=user)
    origin_host: OneLine = Field(default_factory=socket.gethostname)
    reason: OneLine = ""
    key: str = ""
    parent: str = ""
    only: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def start(
    engine: Engine,
    cluster: Cluster,
    *,
    plan: SavedPlan | None = None,
    family: Family | None = None,
    place: Place | None = None,
    down: Sequence[str] = (),
    **request: Unpack[_Request],
) -> RunRecord:
    """Creates a run and asks the workers to begin it.

    Args:
        engine: where.
        cluster: the cluster; stored in the run as data.
        plan: a saved plan that has to be applied exactly, to the nodes that it was made for.
        family: a certificate family to distribute, even if the origin has another one by now.
        place: in a group of runs (`pipelines.usecases.groups`), whose limit has been checked.
        down: nodes that it leaves alone, and that were down when they were last seen.
        request: the fields of `RunRequest`.

    Raises:
        InputRefused: the saved plan was not made with the seal key of this engine, or hands out certificates that are
            not kept any more.
        TooManyRuns: the limit of active runs is reached. A repeated request for an existing run returns that run.
        StoreUnavailable: the broker does not answer; no run was created, unless the message names one.
    """
    if plan is not None:
        plan.require_made_by(engine.vault)
        request["only"], request["options"] = plan.only, plan.options
    engine.reach_broker()
    created = RunRecord(
        id=_new_id(cluster.name, str(place or "")),
        cluster=cluster.name,
        servers=cluster.digest,
        spec=cluster.model_dump(mode="json"),
        plan_fingerprint=plan.fingerprint if plan else "",
        **RunRequest(**request).model_dump(),
    )
    if existing := keyed(engine, cluster, created.key):
        return existing
    if place is None:
        check_run_limit(engine)
    family = family or (generated_family(engine, plan) if plan else None)
    record = engine.store.create(created)
    if record.id == created.id:
        _keep(engine, record, cluster, plan, family)
        _keep_down(engine, record, down)
        engine.ask_to_begin(record.id)
    return record


def _keep_down(engine: Engine, record: RunRecord, down: Sequence[str]) -> None:
    if down:
        engine.documents(record).keep(DocumentKind.DOWN, DocumentKind.DOWN, json.dumps([*down]))


def _keep(engine: Engine, record: RunRecord, cluster: Cluster, plan: SavedPlan | None, family: Family | None) -> None:
    """Keeps with the run what it applies, and what earlier runs and people know: a report shows it as it was then."""
    if plan is not None:
        _store_plan(engine, record, plan)
    if family is not None:
        engine.documents(record).keep_family(family)
    before = list(_earlier_runs(engine, record, cluster))
    if before and (earlier := _earlier_sites(engine, *before[0], cluster)):
        engine.documents(record).keep_earlier_sites(earlier)
    for run, as_it_was in before:
        # After an upgrade the product is elsewhere: where it was is no guess then.
        same = run.servers == record.servers and as_it_was.edition == cluster.edition
        if run.verdict is Verdict.JOINED and same:
            engine.documents(record).keep_joined_before(run.id, judged_kind(run))
    if kind_of(record.kind, record.id).asks and (
        confirmations := read_confirmations(engine.store.all_kept(attested(record.scope)))
    ):
        engine.store.put(record.id, DocumentKind.ATTESTED, DocumentKind.ATTESTED, document_of(confirmations))


def _earlier_runs(engine: Engine, record: RunRecord, cluster: Cluster) -> Iterator[tuple[RunRecord, Cluster]]:
    """The latest runs of this cluster, the newest first, a few at most until one found it joined; with its cluster."""
    others = (run for run in each_run_of(engine.store, [cluster], back=_BACK) if run.id != record.id)
    for before in islice(others, _EARLIER):
        with suppress(RecordRefused):
            yield before, Cluster.of_run(before)
        if before.verdict is Verdict.JOINED:
            return


def _earlier_sites(engine: Engine, before: RunRecord, spec: Cluster, cluster: Cluster) -> tuple[str, ...]:
    """Folders in which earlier runs of this cluster found the site, without the present one.

    The newest earlier run knows those of the runs before it.
    """
    paths = (spec.site.path, *engine.documents(before).earlier_sites())
    folded = {path.rstrip("\\").casefold(): path for path in reversed(paths)}
    folded.pop(cluster.site.path.rstrip("\\").casefold(), None)
    return tuple(folded.values())


def keyed(engine: Engine, cluster: Cluster, key: str) -> RunRecord | None:
    """The run of a cluster with this idempotency key; None if there is none, or no key.

    Older records have it under the name alone.
    """
    if not key:
        return None
    found = engine.store.keyed(f"{cluster.name}@{cluster.digest}", key)
    older = "" if found else engine.store.keyed(cluster.name, key)
    record = engine.store.run(found or older) if found or older else None
    return record if record is None or cluster_of(record) == (cluster.name, cluster.digest) else None


def generated_family(engine: Engine, plan: SavedPlan) -> Family | None:
    """The certificates that the run of a plan generated, sealed in the store since; None if the origin has its own.

    Another generation would make another family, and with it another plan.

    Raises:
        InputRefused: they are not in this store, or not those of the plan.
        SecretUnavailable: there is no seal key.
    """
    origin = plan.facts.get(plan.spec.node(plan.spec.origin).name)
    if origin is None or origin.origin_family:
        return None
    with suppress(RunUnknown):
        family = engine.documents(engine.store.run(plan.run)).family()
        if family is not None and family.hashes == plan.plan.family:
            return family
    raise InputRefused(
        f"the plan hands out certificates that run {plan.run} generated, and these are not kept in this store",
        remedy="make a new plan here: esync plan CLUSTER -o FILE",
    )


def _store_plan(engine: Engine, record: RunRecord, saved: SavedPlan) -> None:
    """Stores the plan that a run has to apply, and the facts it was made from."""
    engine.store.put(record.id, DocumentKind.PLAN, DocumentKind.PLAN, saved.plan.to_json())
    for node, facts in saved.facts.items():
        engine.store.put(record.id, DocumentKind.PLANNED, node, facts.model_dump_json(exclude_defaults=True))


def saved_plan(engine: Engine, run_id: str) -> SavedPlan:
    """The plan of a run as a value that can be written to a file.

    Raises:
        InputRefused: the run made no plan.
    """
    known = summary(engine, run_id)
    if known.plan is None:
        raise InputRefused(f"run {run_id} has no plan: {known.record.summary or 'it has not made one yet'}")
    facts = engine.documents(known.record).all_facts(DocumentKind.OBSERVED)
    return SavedPlan(
        run=run_id,
        spec=known.cluster,
        only=known.record.only,
        options=known.record.options,
        plan=known.plan,
        fingerprint=known.plan.fingerprint,
        facts={part.node: facts[part.node] for part in known.plan.nodes},
    ).sealed(engine.vault)


def saved_plan_for(engine: Engine, run_id: str, cluster: Cluster) -> SavedPlan:
    """The same, if it was made for that cluster.

    Raises:
        InputRefused: it was made for another one, or the run made none.
    """
    plan = saved_plan(engine, run_id)
    if (plan.spec.name, plan.spec.digest) != (cluster.name, cluster.digest):
        raise InputRefused(
            f"run {run_id} made its plan for another cluster, {plan.spec.name}; no server was contacted",
            remedy="name the cluster of the plan",
        )
    return plan


def start_by_name(engine: Engine, cluster: str, *, key: str = "", reason: str = "", who: str = "") -> RunRecord:
    """Starts a rollout of a cluster file in the folder that is configured for this worker (`ESYNC_CLUSTERS`).

    Raises:
        InputRefused: see `cluster_by_name`.
        ClusterLocked: a run works on that cluster; no second run is created, as it would end at once.
        TooManyRuns: see `start`.
    """
    found = cluster_by_name(engine, cluster)
    return start_if_free(engine, found, key=key, reason=reason, who=who or "message")


def cluster_by_name(engine: Engine, cluster: str) -> Cluster:
    """The cluster of a file in the folder that is configured for this worker (`ESYNC_CLUSTERS`).

    Raises:
        InputRefused: no folder is configured, the name is not a plain name, there is no such file, or it has mistakes.
    """
    folder = engine.settings.clusters
    if folder is None:
        raise InputRefused(
            "this worker has no folder of cluster files", remedy="set ESYNC_CLUSTERS to the folder of the cluster files"
        )
    return cluster_named(folder, cluster)


def start_if_free(
    engine: Engine, cluster: Cluster, *, plan: SavedPlan | None = None, **request: Unpack[_Request]
) -> RunRecord:
    """As `start`, unless another run works on the servers of that cluster: no run is created that would end at once.

    Raises:
        ClusterLocked: names that run.
    """
    # One at a time: of several triggers for one cluster, those after the first must see its run.
    with _STARTING:
        key = request.get("key", "")
        try:
            if not keyed(engine, cluster, key):
                check_cluster_free(engine, cluster)
        except ClusterLocked:
            if not keyed(engine, cluster, key):  # else another server has begun with the same request meanwhile
                raise
        return start(engine, cluster, plan=plan, **request)


def _new_id(cluster: str, place: str) -> str:
    """An id that sorts by time, names the cluster, and cannot be guessed: `20261123-191500-four-servers-7f3a`."""
    return f"{now():%Y%m%d-%H%M%S}{in_ids(cluster)}{place or secrets.token_hex(3)}"
