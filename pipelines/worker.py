"""The composition root of a worker process: what `celery -A pipelines.worker worker` loads."""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import click
from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import celeryd_init, worker_init, worker_ready, worker_shutdown
from celery.worker import WorkController
from kombu.exceptions import OperationalError
from pydantic import ConfigDict, Field, ValidationError, validate_call

from pipelines.coordinator import join_and_verify, let_node_begin
from pipelines.engine import Engine, connect_engine
from pipelines.prober import Prober
from pipelines.reconcile import Joins, Reconciler, begin_or_continue
from pipelines.rollout import kind_of, purpose_of
from pipelines.run.groups import AT_MOST, MOST
from pipelines.usecases import control, groups, runs
from tasks.celery_tasks import register_steps
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import StepRunner
from tasks.steps.registry import STEPS, load_steps
from workers.celery_app import serve_own, serve_site
from workers.errors import EsyncError, InputRefused, RecordRefused, RunUnknown, StoreUnavailable
from workers.host.holders import new_holder
from workers.host.memory import few_arenas, spare_loaded
from workers.host.open_files import capacity_for, raise_limit
from workers.logger import logger
from workers.logs import configure
from workers.redis.connection import errors_mapped
from workers.settings import EVERY_SITE, SITE, load_settings
from workers.winrm.pool import SessionPool

__all__ = ["app"]

IDLE = 600.0  #: seconds a session waits for its node's next step; less where a node closes it earlier

log = logger(__name__)
few_arenas()
configure(load_settings().log_level)
engine: Engine = connect_engine(load_settings())
app: Celery = engine.app
HOLDER = new_holder()  #: of the process that takes the messages
serve_own(app, HOLDER)
joins = Joins(engine.settings.stall_after)


@dataclass(frozen=True, slots=True)
class _Process:
    """The objects of this process that must be closed."""

    sessions: SessionPool
    leases: LeaseKeeper
    runner: StepRunner
    reconciler: Reconciler
    prober: Prober


def _holder() -> str:
    """The name of this process. In a pool of processes each child has its own: two with one name could hold a node."""
    return HOLDER if f":{os.getpid()}:" in HOLDER else new_holder()


@cache
def process() -> _Process:
    """The one set of this process, created at its first message."""
    holder = _holder()
    capacity = capacity_for(app.conf.worker_concurrency, raise_limit())
    sessions = SessionPool(idle=IDLE, most=capacity.sessions)
    leases = LeaseKeeper(engine.store, holder, engine.settings.lease)
    runner = StepRunner(
        STEPS,
        purpose_of=purpose_of,
        store=engine.store,
        vault=engine.vault,
        sessions=sessions,
        leases=leases,
        known=engine.known,
        let_begin=_let_begin,
    )
    prober = Prober(engine, holder)
    reconciler = Reconciler(
        engine, holder, upkeep=lambda: _kept_up(sessions), watch=prober.watch, joined_here=joins.has
    )
    return _Process(sessions, leases, runner, reconciler, prober)


def _let_begin(run: str, turn: str, node: str) -> None:
    """Sends the steps of a node that had to wait. What is lost here, the reconciler sends again."""
    with suppress(EsyncError, OperationalError), errors_mapped():
        let_node_begin(engine, run, turn, node)


def _kept_up(sessions: SessionPool) -> None:
    """What each worker does every few seconds."""
    sessions.reap()
    if own := app.amqp.queues.own:
        with suppress(EsyncError), errors_mapped():
            engine.own_queues.serve(own)


register_steps(app, lambda: process().runner)
load_steps(kind_of("rollout").steps().values())  # the others take a megabyte, and load at their first use
for _judges in ("pipelines.run.planning", "tasks.ektron.rules.confirmations", "tasks.ektron.rules.invariants"):
    import_module(_judges)  # the first decision need not wait for it


def _a_site(_context: click.Context, _option: click.Parameter, site: str) -> str:
    if not re.fullmatch(SITE, site) or site == EVERY_SITE:
        raise click.BadParameter("a site is a word of letters, digits, '.', '_' or '-'")
    return site


app.user_options["worker"].add(
    click.Option(
        ["--site"],
        default="",
        callback=_a_site,
        help="Works on the nodes with this label `site` only; also as ESYNC_SITE.",
    )
)


Text = Annotated[str, Field(max_length=2000)]
Id = Annotated[str, Field(max_length=200)]
Names = Annotated[list[Id], Field(min_length=1, max_length=MOST)]
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
    """The body of every chord, and its errback: `run`, `turn`; and `node`, where a turn has a chord for each node."""
    _advanced(_join, *args, **kwargs)


@app.task(name="esync.begin", bind=True)
def begin_task(_task: Task, *args: object, **kwargs: object) -> None:
    """Begins a run that is in the store, or checks at once a run that was steered: `run`."""
    _advanced(_begin, *args, **kwargs)


@app.task(name="esync.rollout")
def rollout_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Starts a run for another program, on a cluster that this worker knows by name.

    Takes `cluster`, and optionally `key`, `reason`, `who`; or, in place of `cluster`, `clusters`: a list of names, of
    which `at_most` (8) are worked on at the same time.

    Returns:
        `{"run": id}`, the same for the same key, or `{"runs": {name: id}}`; or `{"error": slug, "message": ...}`.
    """
    return _answered(_rollout, *args, **kwargs)


@app.task(name="esync.status")
def status_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """The status of a run (`run`) as data; or `{"error": slug, "message": ...}`."""
    return _answered(_status, *args, **kwargs)


@app.task(name="esync.pause")
def pause_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Pauses a run (`run`, `reason`). Returns its status as data; or `{"error": slug, "message": ...}`."""
    return _answered(_steered, control.pause, *args, **kwargs)


@app.task(name="esync.resume")
def resume_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Continues a paused run (`run`)."""
    return _answered(_steered, lambda engine, run, _: control.resume(engine, run), *args, **kwargs)


@app.task(name="esync.promote")
def promote_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Lets a held run (`run`) begin its next wave; `reason` says who decided it.

    With `turn`, as `held` of the status says, a message that is sent or delivered twice lets no later wave begin.
    """
    return _answered(_promoted, *args, **kwargs)


@app.task(name="esync.cancel")
def cancel_task(*args: object, **kwargs: object) -> dict[str, Any]:
    """Cancels a run (`run`, `reason`)."""
    return _answered(_steered, control.cancel, *args, **kwargs)


@_typed
def _join(run: Id, turn: Id, node: Id = "") -> None:
    with joins.of(run):
        join_and_verify(engine, run, turn, node)


@_typed
def _begin(run: Id) -> None:
    begin_or_continue(engine, run)


@_typed
def _rollout(
    cluster: Id = "",
    key: Id = "",
    reason: Text = "",
    who: Id = "",
    clusters: Names | None = None,
    at_most: Annotated[int, Field(ge=1)] = AT_MOST,
) -> dict[str, Any]:
    if clusters is not None and not cluster:
        started = groups.start_group_by_names(engine, clusters, at_most=at_most, key=key, reason=reason, who=who)
        return {"runs": {name: record.id for name, record in started.items()}}
    if not cluster or clusters is not None:
        raise InputRefused("a request names one `cluster`, or several `clusters`")
    return {"run": runs.start_by_name(engine, cluster, key=key, reason=reason, who=who).id}


@_typed
def _status(run: Id) -> dict[str, Any]:
    return runs.status(engine, run).model_dump(mode="json")


def _steered(steer: Callable[[Engine, str, str], None], *args: object, **kwargs: object) -> dict[str, Any]:
    named: Callable[..., tuple[str, str]] = _run_and_reason
    run, reason = named(*args, **kwargs)
    steer(engine, run, reason or "message")
    return _status(run)


@_typed
def _promoted(run: Id, reason: Text = "", turn: Id = "") -> dict[str, Any]:
    control.promote(engine, run, reason or "message", turn)
    return _status(run)


@_typed
def _run_and_reason(run: Id, reason: Text = "") -> tuple[str, str]:
    return run, reason


@celeryd_init.connect
def _serve_its_site(options: Mapping[str, Any], **_: object) -> None:
    site = options.get("site") or engine.settings.site
    if site and site != EVERY_SITE:
        serve_site(app, site)


@worker_init.connect
def _within_the_limit(sender: WorkController, **_: object) -> None:
    """Limits the threads to what the open files allow: a worker without files hangs without a message."""
    sender.concurrency = app.conf.worker_concurrency = capacity_for(sender.concurrency, raise_limit()).threads


@worker_init.connect
def _examine_broker(**_: object) -> None:
    """Logs problems of the broker; without one, Celery waits for it."""
    try:
        engine.reach_broker()
        for what, remedy in engine.remarks():
            log.warning(what, remedy=remedy)
    except StoreUnavailable as error:
        log.warning(error.message, remedy=error.remedy)


@worker_ready.connect
def _ready(**_: object) -> None:
    process().reconciler.start()
    spare_loaded()


@worker_shutdown.connect
def _shutdown(**_: object) -> None:
    process().reconciler.close()
    process().prober.close()
    process().leases.close()
    process().sessions.close()
