"""The forms: start a run, steer it, retry it, roll it back, approve or apply its plan. Each calls one use case."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from pipelines.rollout import kind_of
from pipelines.usecases import control, rollback, runs
from pipelines.usecases.requests import StartRequest, require_retriable, start_requested
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import RunId, folder_of, visible_run
from pipelines.web.identity import Caller, allowed, origin, require
from pipelines.web.pages.asking import Looking, Shared, to
from pipelines.web.pages.buttons import Action
from workers.errors import InputRefused, NotFound
from workers.records import RunRecord

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_CHANGING = frozenset({"rollout", "cleanup"})
_STARTED = _CHANGING | {"plan", "verify", "doctor"}
_TYPED = frozenset({Action.CANCEL, Action.PROMOTE})

Operator = Annotated[Caller, Depends(allowed(Role.OPERATOR))]
Approver = Annotated[Caller, Depends(allowed(Role.APPROVER))]
Confirm = Annotated[str, Form(max_length=64)]
Fingerprint = Annotated[str, Form(pattern=r"^[0-9a-f]{64}$")]
Why = Annotated[str, Form(max_length=200)]


@router.post("/clusters/{name}/{kind}")
def start(
    name: str,
    kind: str,
    asking: Operator,
    looking: Looking,
    confirm: Confirm = "",
    everything: Annotated[bool, Form()] = False,  # noqa: FBT002 - a field of a form
) -> Response:
    """Starts a run of a cluster that has a file here."""
    require(asking, Role.OPERATOR, name)
    if kind not in _STARTED:
        raise NotFound(f"a run of kind {kind[:20]!r} is not started here")
    if kind in _CHANGING:
        _check_typed(name, confirm)
    record = _start(looking, asking, name, kind=kind, everything=everything)
    return to("runs", record.id, "plan") if kind == "plan" else to("runs", record.id)


def _start(looking: Shared, asking: Caller, cluster: str, **wanted: str | bool) -> RunRecord:
    _, file = looking.overview.cluster(cluster)
    if not file:
        raise NotFound(f"cluster {cluster} has no file here", remedy="put its file into the folder of this server")
    looking.served.starts.count(asking.name)
    request = StartRequest.model_validate({"cluster": file, **wanted})
    return start_requested(looking.engine, folder_of(looking.served), request, **origin(asking))


@router.post("/runs/{run}/apply")
def apply(run: RunId, asking: Operator, looking: Looking, fingerprint: Fingerprint) -> Response:
    """Starts a rollout that applies exactly the plan that the page showed."""
    record = _run(looking, asking, run)
    _check_seen(looking, record, fingerprint)
    return to("runs", _start(looking, asking, record.cluster, kind="rollout", plan=record.id).id)


@router.post("/runs/{run}/approve")
def approve(run: RunId, asking: Approver, looking: Looking, fingerprint: Fingerprint) -> Response:
    """Approves the plan that the page showed, of a run that another person has requested."""
    record = _run(looking, asking, run)
    control.approve(looking.engine, record.id, who=asking.name, where=asking.address, plan=fingerprint)
    return to("runs", record.id)


@router.post("/runs/{run}/reject")
def reject(run: RunId, asking: Operator, looking: Looking, why: Why = "") -> Response:
    """Rejects the plan of a run that waits: the run ends, and has changed nothing."""
    record = _run(looking, asking, run)
    if not runs.summary(looking.engine, record.id).unapproved:  # approved meanwhile: it changes servers
        raise InputRefused(
            f"run {record.id} does not wait for an approval; nothing was done",
            remedy="to stop it, cancel it on its page",
        )
    control.cancel(looking.engine, record.id, f"plan rejected: {why}" if why else "plan rejected", by=asking.by)
    return to("runs", record.id)


@router.post("/runs/{run}/rollback")
def roll_back(
    run: RunId,
    asking: Operator,
    looking: Looking,
    confirm: Confirm = "",
    all_at_once: Annotated[bool, Form()] = False,  # noqa: FBT002 - a field of a form
) -> Response:
    """Rolls back a run."""
    record = _run(looking, asking, run)
    _check_typed(record.cluster, confirm)
    looking.served.starts.count(asking.name)
    return to("runs", rollback.rollback(looking.engine, record.id, all_at_once=all_at_once, **origin(asking)).id)


@router.post("/runs/{run}/{action}")
def steer(
    run: RunId, action: Action, asking: Operator, looking: Looking, confirm: Confirm = "", turn: Confirm = ""
) -> Response:
    """Pauses, resumes, promotes, cancels or retries a run."""
    record = _run(looking, asking, run)
    if action in _TYPED and not kind_of(record.kind, record.id).read_only:
        _check_typed(record.cluster, confirm)
    return to("runs", _steered(looking, asking, record, action, turn))


def _steered(looking: Shared, asking: Caller, record: RunRecord, action: Action, turn: str) -> str:
    """Does it, and returns the run to look at."""
    engine = looking.engine
    match action:
        case Action.PAUSE:
            control.pause(engine, record.id, by=asking.by)
        case Action.RESUME:
            control.resume(engine, record.id, by=asking.by)
        case Action.PROMOTE:
            control.promote(engine, record.id, asking.by, turn)
        case Action.CANCEL:
            control.cancel(engine, record.id, by=asking.by)
        case Action.RETRY:
            require_retriable(record)
            looking.served.starts.count(asking.name)
            return control.retry(engine, record.id, **origin(asking)).id
    return record.id


def _run(looking: Shared, asking: Caller, run: str) -> RunRecord:
    """The run, for a caller who may change something of its cluster."""
    record = visible_run(looking.served, asking, run)
    require(asking, Role.OPERATOR, record.cluster)
    return record


def _check_seen(looking: Shared, record: RunRecord, fingerprint: str) -> None:
    """Passes if the plan of the run is the one that the page showed.

    Raises:
        InputRefused: it differs, or there is none.
    """
    plan = runs.summary(looking.engine, record.id).plan
    if plan is None or plan.fingerprint != fingerprint:
        raise InputRefused(
            "this is not the plan that the page showed; nothing was started", remedy="look at the plan again"
        )


def _check_typed(cluster: str, typed: str) -> None:
    """Passes if the person has typed the name of the cluster.

    Raises:
        InputRefused: something else was typed.
    """
    if typed.strip() != cluster:
        raise InputRefused(
            f"the name of the cluster was not typed as it is ({cluster}); nothing was done", remedy="go back, type it"
        )
