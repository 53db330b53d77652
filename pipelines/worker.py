"""The composition root of a worker process: what `celery -A pipelines.worker worker` loads."""

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import worker_init, worker_ready, worker_shutdown
from celery.worker import WorkController
from pydantic import ConfigDict, Field, ValidationError, validate_call

from pipelines.coordinator import join_and_verify
from pipelines.engine import Engine, connect_engine
from pipelines.reconcile import Reconciler, begin_or_continue
from pipelines.rollout import purpose_of
from pipelines.usecases import runs
from tasks.celery_tasks import register_steps
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import StepRunner
from tasks.steps.registry import STEPS
from workers.errors import EsyncError, InputRefused, RecordRefused, RunUnknown, StoreUnavailable
from workers.host.open_files import capacity_for, raise_limit
from workers.logs import configure, logger
from workers.settings import load_settings
from workers.winrm.pool import SessionPool

__all__ = ["app"]

IDLE = 150.0  #: seconds a session waits for its node's next step; Windows may close shells idle for 180 s

log = logger(__name__)
configure(load_settings().log_level)
engine: Engine = connect_engine(load_settings())
app: Celery = engine.app


@dataclass(frozen=True, slots=True)
class _Process:
    """The objects of this process that must be closed."""

    sessions: SessionPool
    leases: LeaseKeeper
    runner: StepRunner
    reconciler: Reconciler


@cache
def process() -> _Process:
    """The one set of this process, created at its first message."""
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    capacity = capacity_for(app.conf.worker_concurrency, raise_limit())
    sessions = SessionPool(idle=IDLE, most=capacity.sessions)
    leases = LeaseKeeper(engine.store, holder, engine.settings.lease)
    runner = StepRunner(
        STEPS, purpose_of=purpose_of, store=engine.store, vault=engine.vault, sessions=sessions, leases=leases
    )
    return _Process(sessions, leases, runner, Reconciler(engine, holder, upkeep=sessions.reap))


register_steps(app, lambda: process().runner)


Text = Annotated[str, Field(max_length=2000)]
Id = Annotated[str, Field(max_length=200)]
_typed = validate_call(config=ConfigDict(strict=True))


def _advanced(advance: Callable[..., None], *args: object, **kwargs: object) -> None:
    """Advances a run; while the store does not answer, the message goes back to its queue."""
    try:
        advance(*args, **kwargs)
    except ValidationError as error:
        log.warning("refused", message=_complaint(error))
    except (RunUnknown, RecordRefused) as error:
        log.warning("the run is left alone", error=str(error))
    except StoreUnavailable as error:
        log.warning("the run store does not answer; the message goes back to its queue", error=str(error))
        time.sleep(1)
        raise Reject("run store unavailable", requeue=True) from None


def _answered(answer: Callable[..., dict[str, Any]], *args: object, **kwargs: object) -> dict[str, Any]:
    """The answer; or `{"error": slug, "message": ...}`, never an exception."""
    try:
        return answer(*args, **kwargs)
    except ValidationError as error:
        return {"error": InputRefused.slug, "message": _complaint(error)}
    except EsyncError as error:
        return {"error": error.slug, "message": str(error)}
    except Exception as error:
        log.exception("a query could not be answered")
        return {"error": EsyncError.slug, "message": f"internal error: {type(error).__name__}; see the worker's log"}


def _complaint(error: ValidationError) -> str:
    """Why the arguments are invalid, without their values."""
    return "; ".join(f"argument {str(e['loc'][0])[:40]!r}: {e['msg']}" for e in error.errors(include_input=False)[:5])


# Bound tasks: an errback that takes two arguments would be called inline as an old-style errback.
@app.task(name="esync.join_and_verify", bind=True)
def join_task(_task: Task, *args: object, **kwargs: object) -> None:
    """The body of every chord, and its errback: `run`, `turn`."""
    _advanced(_join, *args, **kwargs)


@app.task(name="esync.begin", bind=True)
def begin_task(_task: Task, *args: object, **kwargs: object) -> None:
    """Begins a run that is in the store, or checks at once a run that was paused, resumed or cancelled: `run`."""
    _advanced(_begin, *args, **kwargs)


@app.task(name="esync.rollout")
def rollout_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Starts a run for another program, on a cluster that this worker knows by name.

    Takes `cluster`, and optionally `key`, `reason`, `who`.

    Returns:
        `{"run": id}`, the same for the same key; or `{"error": slug, "message": ...}`.
    """
    return _answered(_rollout, *args, **kwargs)


@app.task(name="esync.status")
def status_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """The status of a run (`run`) as data; or `{"error": slug, "message": ...}`."""
    return _answered(_status, *args, **kwargs)


@_typed
def _join(run: Id, turn: Id) -> None:
    join_and_verify(engine, run, turn)


@_typed
def _begin(run: Id) -> None:
    begin_or_continue(engine, run)


@_typed
def _rollout(cluster: Id, key: Id = "", reason: Text = "", who: Id = "") -> dict[str, Any]:
    return {"run": runs.start_by_name(engine, cluster, key=key, reason=reason, who=who).id}


@_typed
def _status(run: Id) -> dict[str, Any]:
    return runs.status(engine, run).model_dump(mode="json")


@worker_init.connect
def _within_the_limit(sender: WorkController, **_: object) -> None:
    """Limits the threads to what the open files allow: a worker without files hangs without a message."""
    sender.concurrency = app.conf.worker_concurrency = capacity_for(sender.concurrency, raise_limit()).threads


@worker_ready.connect
def _ready(**_: object) -> None:
    process().reconciler.start()


@worker_shutdown.connect
def _shutdown(**_: object) -> None:
    process().reconciler.close()
    process().leases.close()
    process().sessions.close()
