"""The use cases that all ways in share: the command line, messages from other programs, and what comes later."""

import getpass
import re
import secrets
import socket
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pipelines.cluster_file.loader import load_cluster
from pipelines.coordinator import snapshot_of
from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.summary import RunSummary, summary_of
from pipelines.usecases.admission import cluster_free, room
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunStatus
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.steering import Steering
from workers.errors import InputRefused
from workers.records import DocumentKind, Record, RunRecord, now
from workers.texts import cleaned

__all__ = [
    "Asked",
    "RunSummary",
    "saved_plan",
    "start",
    "start_by_name",
    "status",
    "summary",
    "summary_of",
    "user",
]


_STARTING = threading.Lock()


def _one_line(text: str) -> str:
    """What a person or a program writes for the record is shown to others."""
    return cleaned(text)


Told = Annotated[str, AfterValidator(_one_line)]


class Asked(Record):
    """Who asks for a run, from where, why, and what is special about it.

    Attributes:
        kind: see `RunRecord.kind`.
        who: the person or program; this user when empty.
        origin_host: the machine asked from; this one when empty.
        reason: why, for the record.
        key: idempotency key; the same key for the same cluster twice is one run.
        parent: the run that this one retries or undoes.
        only: the nodes it may change; all when empty.
        options: see `RunRecord.options`.
    """

    kind: str = "rollout"
    who: Told = Field(default_factory=lambda: user())  # noqa: PLW0108 - defined below
    origin_host: Told = Field(default_factory=socket.gethostname)
    reason: Told = ""
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
    **asked: Any,  # noqa: ANN401 - Asked checks them
) -> RunRecord:
    """Creates a run and asks the workers to begin it.

    Args:
        engine: where.
        cluster: on what; kept in the run as data.
        plan: a saved plan that is to be applied exactly.
        family: a certificate family to hand out, whatever the origin has by now.
        asked: the fields of `Asked`.

    Raises:
        InputRefused: the saved plan was not made with the seal key of this engine.
        TooManyRuns: as many are going on as may. Asking again for a run that stands gives that run all the same.
        StoreUnavailable: the broker does not answer; no run was created, unless the message names one.
    """
    if plan is not None:
        plan.require_made_by(engine.vault)
    engine.reach_broker()
    wanted = RunRecord(
        id=_new_id(cluster.name),
        cluster=cluster.name,
        spec=cluster.model_dump(mode="json"),
        plan_fingerprint=plan.fingerprint if plan else "",
        **Asked(**asked).model_dump(),
    )
    standing = wanted.key and engine.store.keyed(wanted.cluster, wanted.key)
    if standing:
        return engine.store.run(standing)
    room(engine)
    record = engine.store.create(wanted)
    if record.id != wanted.id:
        return record
    if plan is not None:
        _hand_over(engine, record, plan)
    if family is not None:
        engine.documents(record).keep_family(family)
    engine.ask_to_begin(record.id)
    return record


def _hand_over(engine: Engine, record: RunRecord, saved: SavedPlan) -> None:
    """Gives a run the plan it has to apply, and what that plan was made from."""
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
        raise InputRefused(f"run {run_id} made no plan: {known.record.summary or 'it is not that far'}")
    facts = engine.documents(known.record).all_facts(DocumentKind.OBSERVED)
    return SavedPlan(
        run=run_id,
        spec=known.cluster,
        plan=known.plan,
        fingerprint=known.plan.fingerprint,
        facts={part.node: facts[part.node] for part in known.plan.nodes},
    ).sealed(engine.vault)


def start_by_name(engine: Engine, cluster: str, *, key: str = "", reason: str = "", who: str = "") -> RunRecord:
    """Starts a run of a cluster file in the folder the worker was given.

    Raises:
        InputRefused: no folder is configured, the name is no plain name, or there is no such file.
        ClusterLocked: a run works on that cluster; no second one is made that could only say so.
        TooManyRuns: see `start`.
    """
    folder = engine.settings.clusters
    if folder is None:
        raise InputRefused("this worker knows no clusters by name", remedy="set ESYNC_CLUSTERS to a folder of files")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", cluster):
        raise InputRefused(f"{cluster[:64]!r} is not the name of a cluster")
    for path in (folder / f"{cluster}.yaml", folder / f"{cluster}.yml"):
        if path.is_file():
            return _start_free(engine, _loaded(path), key=key, reason=reason, who=who or "message")
    known = ", ".join(sorted(path.stem for path in folder.glob("*.y*ml"))) or "none"
    raise InputRefused(f"no cluster file is named {cluster!r}; known: {known}")


def _start_free(engine: Engine, cluster: Cluster, **asked: Any) -> RunRecord:  # noqa: ANN401 - Asked checks them
    # One after the other: of many triggers for one cluster, those after the first shall see its run.
    with _STARTING:
        if not (asked["key"] and engine.store.keyed(cluster.name, asked["key"])):
            cluster_free(engine, cluster.name)
        return start(engine, cluster, **asked)


def _loaded(path: Path) -> Cluster:
    """The cluster of a file, read again when the file has changed."""
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=256)
def _read(path: Path, *state: int) -> Cluster:
    del state
    return load_cluster(path)


def summary(engine: Engine, run_id: str) -> RunSummary:
    """Everything about a run, as it stands now.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    return summary_of(snapshot_of(engine, record), kind_of(record.kind, run_id))


def status(engine: Engine, run_id: str) -> RunStatus:
    """Where a run stands, for a program.

    Raises:
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    record = known.record
    ended = record.ended or now()
    steering = Steering.of({} if record.ended else engine.store.flags(run_id))
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
    """Sorts by time, names the cluster, cannot be guessed: `20261123-191500-four-servers-7f3a`."""
    return f"{now():%Y%m%d-%H%M%S}-{cluster[:32].lower()}-{secrets.token_hex(3)}"


def user() -> str:
    """Who runs this process."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
