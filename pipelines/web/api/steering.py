"""Steering of a run: pause, resume, promote, approve, cancel. Who, and from where, goes into its history."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from pipelines.usecases import control, runs
from pipelines.usecases.bodies import Body, Reason
from pipelines.usecases.status import RunStatus
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import run_for
from pipelines.web.bodies import StrictRoute
from pipelines.web.identity import Caller, allowed
from pipelines.web.served import Served, served
from workers.records import RunRecord

__all__ = ["router"]

router = APIRouter(tags=["steering"], route_class=StrictRoute)
Of = Annotated[Served, Depends(served)]
Operator = Annotated[Caller, Depends(allowed(Role.OPERATOR))]
Approver = Annotated[Caller, Depends(allowed(Role.APPROVER))]
OfOperator = Annotated[RunRecord, Depends(run_for(Role.OPERATOR))]
OfApprover = Annotated[RunRecord, Depends(run_for(Role.APPROVER))]


class Reasoned(Body):
    """Why a run is paused, cancelled or its plan rejected."""

    reason: Reason = ""


class Promotion(Body):
    """The turn that may begin: `held` of the run's status. A request that is repeated lets no later turn begin."""

    turn: Annotated[str, Field(pattern=r"^[a-z]{1,40}(-[0-9]{1,6})?$")]


class Approval(Body):
    """The fingerprint of the plan that was seen: that of `GET /runs/{run}/plan`."""

    plan: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@router.post("/runs/{run}/pause")
def pause_run(request: Reasoned, record: OfOperator, of: Of, asking: Operator) -> RunStatus:
    """Starts no further step of a run. Running steps finish."""
    control.pause(of.engine, record.id, request.reason, by=asking.by)
    return runs.status(of.engine, record.id)


@router.post("/runs/{run}/resume")
def resume_run(record: OfOperator, of: Of, asking: Operator) -> RunStatus:
    """Continues a paused run."""
    control.resume(of.engine, record.id, by=asking.by)
    return runs.status(of.engine, record.id)


@router.post("/runs/{run}/promote")
def promote_run(request: Promotion, record: OfOperator, of: Of, asking: Operator) -> RunStatus:
    """Lets a held run begin its next wave."""
    control.promote(of.engine, record.id, asking.by, request.turn)
    return runs.status(of.engine, record.id)


@router.post("/runs/{run}/approve")
def approve_run(request: Approval, record: OfApprover, of: Of, asking: Approver) -> RunStatus:
    """Approves the plan of a run that another person requested; it then begins to change servers."""
    control.approve(of.engine, record.id, who=asking.name, where=asking.address, plan=request.plan)
    return runs.status(of.engine, record.id)


@router.post("/runs/{run}/cancel")
def cancel_run(request: Reasoned, record: OfOperator, of: Of, asking: Operator) -> RunStatus:
    """Stops a run at the next safe point; also rejects a plan that waits. Nodes finish their current step."""
    control.cancel(of.engine, record.id, request.reason, by=asking.by)
    return runs.status(of.engine, record.id)
