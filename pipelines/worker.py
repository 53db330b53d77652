"""The composition root of a worker process: what `celery -A pipelines.worker worker` loads."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutdown

from pipelines import commands
from pipelines.engine import Engine, connect_engine
from pipelines.reconcile import Reconciler
from pipelines.rollout import begin, join_and_verify
from tasks.celery_tasks import STEPS, register_steps
from tasks.lease import LeaseKeeper
from tasks.runner import StepRunner
from workers.errors import EsyncError, RecordRefused, RunUnknown
from workers.logs import configure, logger
from workers.settings import load_settings
from workers.winrm.pool import SessionPool
from workers.winrm.session import open_session

__all__ = ["app"]

IDLE = 150.0  #: seconds a session waits for its node's next step; Windows may close shells idle for 180 s

log = logger(__name__)
configure(load_settings().log_level)
engine: Engine = connect_engine(load_settings())
app: Celery = engine.app


@dataclass(frozen=True, slots=True)
class _Process:
    """What this process holds open."""

    sessions: SessionPool
    leases: LeaseKeeper
    runner: StepRunner
    reconciler: Reconciler


@cache
def process() -> _Process:
    """The one set of this process, made at its first message."""
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    # Trying again is the runner's business, by the run's own policy: two layers would multiply.
    sessions = SessionPool(partial(open_session, attempts=1), idle=IDLE)
    leases = LeaseKeeper(engine.store, holder, engine.settings.lease)
    runner = StepRunner(STEPS, store=engine.store, vault=engine.vault, sessions=sessions, leases=leases)
    return _Process(sessions, leases, runner, Reconciler(engine, holder, upkeep=sessions.reap))


register_steps(app, lambda: process().runner)


# Bound tasks: an errback that takes two arguments would be called inline as an old-style errback.
@app.task(name="esync.join_and_verify", bind=True)  # type: ignore[untyped-decorator]
def join_task(_task: Any, run: str, turn: str) -> None:  # noqa: ANN401 - Celery's task has no type
    """The body of every chord, and its errback."""
    with _left_alone(run):
        join_and_verify(engine, run, turn)


@app.task(name="esync.begin", bind=True)  # type: ignore[untyped-decorator]
def begin_task(_task: Any, run: str) -> None:  # noqa: ANN401 - Celery's task has no type
    """Starts a run that lies in the store."""
    with _left_alone(run):
        begin(engine, run)


@contextmanager
def _left_alone(run: str) -> Iterator[None]:
    """A run whose record is not ours, or is gone, is nobody's business here."""
    try:
        yield
    except (RecordRefused, RunUnknown) as error:
        log.warning("the run is left alone", run=run, error=str(error))


@app.task(name="esync.rollout")  # type: ignore[untyped-decorator]
def rollout_task(cluster: str, key: str = "", reason: str = "", who: str = "") -> dict[str, str]:
    """The way in for other programs: starts a run of a cluster that this worker knows by name.

    Returns:
        `{"run": id}`, the same for the same key; or `{"error": slug, "message": ...}`.
    """
    try:
        return {"run": commands.start_by_name(engine, cluster, key=key, reason=reason, who=who).id}
    except EsyncError as error:
        return {"error": error.slug, "message": str(error)}


@app.task(name="esync.status")  # type: ignore[untyped-decorator]
def status_task(run: str) -> dict[str, Any]:
    """Where a run stands, as data; or `{"error": slug, "message": ...}`."""
    try:
        return commands.status(engine, run).model_dump(mode="json")
    except EsyncError as error:
        return {"error": error.slug, "message": str(error)}


@worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: object) -> None:
    process().reconciler.start()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _shutdown(**_: object) -> None:
    process().reconciler.close()
    process().leases.close()
    process().sessions.close()
