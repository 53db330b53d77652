"""Runs of several clusters that are requested together."""

from typing import Annotated

from fastapi import APIRouter, Depends

from pipelines.usecases.groups import GroupRequest, start_group_requested
from pipelines.usecases.listing import RunRow, row_of
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import folder_of, require_cluster, visible_run
from pipelines.web.bodies import StrictRoute
from pipelines.web.identity import Caller, allowed, origin
from pipelines.web.served import Served, served
from workers.records import Record

__all__ = ["StartedGroup", "router"]

router = APIRouter(tags=["runs"], route_class=StrictRoute)


class StartedGroup(Record):
    """The runs, in the order of the request."""

    runs: tuple[RunRow, ...]


@router.post("/groups")
def start_group(
    request: GroupRequest,
    of: Annotated[Served, Depends(served)],
    asking: Annotated[Caller, Depends(allowed(Role.OPERATOR))],
) -> StartedGroup:
    """Starts a run for each of several clusters, so many at a time. One that does the same already is given instead."""
    for name in request.clusters:
        require_cluster(of, asking, name)
    for run in request.plans.values():
        visible_run(of, asking, run)
    of.starts.count(asking.name)
    records = start_group_requested(of.engine, folder_of(of), request, **origin(asking))
    return StartedGroup(runs=tuple(map(row_of, records)))
