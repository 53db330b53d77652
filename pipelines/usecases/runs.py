"""Starting a run, and everything about a run as one value: for the command line, messages and a web page."""

import getpass
import re
import secrets
import socket
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypedDict, Unpack

from pydantic import AfterValidator, Field

from pipelines.cluster_file.loader import load_cluster
from pipelines.coordinator import snapshot_of, watch_or_cancel
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.summary import RunSummary, summary_of
from pipelines.usecases.admission import check_cluster_free, check_run_limit
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunStatus
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.steering import Steering
from workers.errors import InputRefused
from workers.records import DocumentKind, Record, RunRecord, RunState, now
from workers.texts import cleaned

__all__ = [
    "Origin",
    "RunRequest",
    "RunSummary",
    "ended_run",
    "saved_plan",
    "start",
    "start_by_name",
    "status",
    "summary",
    "summary_of",
    "user",
]


_STARTING = threading.Lock()


def user() -> str:
    """The user of this process."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"


#: Text that a person or a program writes for the record: it is shown to others.
OneLine = Annotated[str, AfterValidator(cleaned)]


class Origin(TypedDict, total=False):
    """Who requests a run, from where and why: fields of `RunRequest` that every way in may set."""

    who: str
    origin_host: str
    reason: str
    key: str


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
    **request: Unpack[_Request],
) -> RunRecord:
    """Creates a run and asks the workers to begin it.

    Args:
        engine: where.
        cluster: the cluster; stored in the run as data.
        plan: a saved plan that has to be applied exactly, to the nodes that it was made for.
        family: a certificate family to distribute, even if the origin has another one by now.
        request: the fields of `RunRequest`.

    Raises:
        InputRefused: the saved plan was not made with the seal key of this engine.
        TooManyRuns: the limit of active runs is reached. A repeated request for an existing run returns that run.
        StoreUnavailable: the broker does not answer; no run was created, unless the message names one.
    """
    if plan is not None:
        plan.require_made_by(engine.vault)
        request["only"] = plan.only
    engine.reach_broker()
    created = RunRecord(
        id=_new_id(cluster.name),
        cluster=cluster.name,
        spec=cluster.model_dump(mode="json"),
        plan_fingerprint=plan.fingerprint if plan else "",
        **RunRequest(**request).model_dump(),
    )
    existing = created.key and engine.store.keyed(created.cluster, created.key)
    if existing:
        return engine.store.run(existing)
    check_run_limit(engine)
    record = engine.store.create(created)
    if record.id != created.id:
        return record
    if plan is not None:
        _store_plan(engine, record, plan)
    if family is not None:
        engine.documents(record).keep_family(family)
    engine.ask_to_begin(record.id)
    return record


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
        plan=known.plan,
        fingerprint=known.plan.fingerprint,
        facts={part.node: facts[part.node] for part in known.plan.nodes},
    ).sealed(engine.vault)


def start_by_name(engine: Engine, cluster: str, *, key: str = "", reason: str = "", who: str = "") -> RunRecord:
    """Starts a rollout of a cluster file in the folder that is configured for this worker (`ESYNC_CLUSTERS`).

    Raises:
        InputRefused: no folder is configured, the name is not a plain name, or there is no such file.
        ClusterLocked: a run works on that cluster; no second run is created, as it would end at once.
        TooManyRuns: see `start`.
    """
    folder = engine.settings.clusters
    if folder is None:
        raise InputRefused(
            "this worker has no folder of cluster files", remedy="set ESYNC_CLUSTERS to the folder of the cluster files"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", cluster):
        raise InputRefused(f"{cluster[:64]!r} is not a valid cluster name")
    for path in (folder / f"{cluster}.yaml", folder / f"{cluster}.yml"):
        if path.is_file():
            return _start_free(engine, _loaded(path), key=key, reason=reason, who=who or "message")
    known = ", ".join(sorted(path.stem for path in folder.glob("*.y*ml"))) or "none"
    raise InputRefused(f"no cluster file is named {cluster!r}; known: {known}")


def _start_free(engine: Engine, cluster: Cluster, *, key: str, reason: str, who: str) -> RunRecord:
    # One at a time: of several triggers for one cluster, those after the first must see its run.
    with _STARTING:
        if not (key and engine.store.keyed(cluster.name, key)):
            check_cluster_free(engine, cluster.name)
        return start(engine, cluster, key=key, reason=reason, who=who)


def _loaded(path: Path) -> Cluster:
    """The cluster of a file; the file is read again when it has changed."""
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=256)
def _read(path: Path, *state: int) -> Cluster:
    del state
    return load_cluster(path)


def summary(engine: Engine, run_id: str) -> RunSummary:
    """Everything about a run, as it is now.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    return summary_of(snapshot_of(engine, record), kind_of(record.kind, run_id))


def ended_run(engine: Engine, run_id: str) -> RunSummary:
    """The summary of a run that has ended.

    Raises:
        InputRefused: the run has not ended.
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    if known.record.state is not RunState.CONCLUDED:
        raise InputRefused(f"run {run_id} has not ended", remedy=watch_or_cancel(run_id))
    return known


def status(engine: Engine, run_id: str) -> RunStatus:
    """The status of a run, for a program.

    Raises:
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    record = known.record
    ended = record.ended or now()
    steering = Steering() if record.ended else Steering.of(engine.store, run_id)
    return RunStatus(
        run=record.id,
        cluster=record.cluster,
        kind=record.kind,
        state=record.state,
        turn=record.turn.name if record.turn else "",
        verdict=record.verdict,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        paused=steering.paused,
        cancelling=steering.cancelled,
        seconds=round((ended - record.created).total_seconds(), 1),
        nodes={result.node: result for result in known.nodes},
    )


def _new_id(cluster: str) -> str:
    """An id that sorts by time, names the cluster, and cannot be guessed: `20261123-191500-four-servers-7f3a`."""
    return f"{now():%Y%m%d-%H%M%S}-{cluster[:32].lower()}-{secrets.token_hex(3)}"
