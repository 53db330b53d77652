"""Runs: start, list, and what is known of one."""

from collections.abc import Container
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from pipelines.run.groups import Place
from pipelines.run.identity import in_ids
from pipelines.run.node_results import NodeResult
from pipelines.usecases import control, rollback, runs
from pipelines.usecases.bodies import Body
from pipelines.usecases.doing import steered
from pipelines.usecases.listing import RunRow, row_of
from pipelines.usecases.paging import PAGE, cursor_of, page_of_runs, place_of
from pipelines.usecases.requests import (
    RetryRequest,
    RollbackRequest,
    StartRequest,
    require_consistent,
    require_retriable,
    start_requested,
)
from pipelines.usecases.status import RunStatus
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import folder_of, require_cluster, run_for, visible_run
from pipelines.web.attendance import Waiting, waiting
from pipelines.web.bodies import StrictRoute
from pipelines.web.idempotency import IdempotencyKey, once
from pipelines.web.identity import Caller, allowed, origin
from pipelines.web.served import Served, served
from workers.errors import InputRefused
from workers.records import Record, RunRecord, RunState, Status, Verdict

__all__ = ["NodePage", "RunPage", "router"]

router = APIRouter(tags=["runs"], route_class=StrictRoute)
Of = Annotated[Served, Depends(served)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
Cursor = Annotated[str, Query(max_length=300, description="`next` of the page before.")]
_STARTED: dict[int | str, dict[str, Any]] = {
    201: {"model": RunRow, "description": "It was started now."},
}


class RunFilter(Body):
    """Which runs are listed; empty is all."""

    cluster: Annotated[str, Field(max_length=200, description="The cluster's own name.")] = ""
    kind: Annotated[str, Field(max_length=40)] = ""
    state: Literal["", "active", "concluded"] = ""
    verdict: Verdict | None = None
    who: Annotated[str, Field(max_length=200)] = ""
    group: Annotated[str, Field(pattern="^([0-9a-f]{8})?$", description="Runs that were requested together.")] = ""
    limit: Limit = 20
    after: Cursor = ""

    def may_fit(self, run: str, active: Container[str]) -> bool:
        """Whether a run may be listed, by its id alone: what cannot fit is not read.

        Args:
            run: its id.
            active: the runs that have not ended.
        """
        place = Place.of(run) if self.group else None
        return (
            (not self.cluster or in_ids(self.cluster) in run)
            and (self.state != "active" or run in active)
            and self.group in {"", place.group if place else None}
        )

    def fits(self, record: RunRecord) -> bool:
        """Whether a run is listed."""
        concluded = record.state is RunState.CONCLUDED
        return (
            self.cluster in {"", record.cluster}
            and self.kind in {"", record.kind}
            and self.state in {"", "concluded" if concluded else "active"}
            and self.verdict in {None, record.verdict}
            and self.who in {"", record.who}
        )


class NodeFilter(Body):
    """Which nodes are listed."""

    status: Annotated[Status | None, Field(description="Only nodes with this result.")] = None
    limit: Limit = PAGE
    after: Cursor = ""


class RunPage(Record):
    """Some runs, the newest first. `next` is the cursor of the page after this one; empty for the last page."""

    runs: tuple[RunRow, ...]
    next: str = ""


class NodePage(Record):
    """Some nodes of a run, in the order of the cluster file. `next` as in `RunPage`."""

    nodes: tuple[NodeResult, ...]
    next: str = ""


@router.post("/runs", responses=_STARTED)
def start_run(
    request: StartRequest,
    response: Response,
    of: Of,
    asking: Annotated[Caller, Depends(allowed(Role.OPERATOR))],
    key: IdempotencyKey = "",
) -> RunRow:
    """Starts a run of a cluster file. The answer is 200 if the same request had started it before."""
    require_cluster(of, asking, request.cluster)
    require_consistent(request)
    if request.plan:
        visible_run(of, asking, request.plan)
    folder = folder_of(of)
    return _started(
        response,
        *once(
            of,
            asking,
            key,
            ("runs", request),
            lambda own: start_requested(of.engine, folder, request, **origin(asking, key=own)),
        ),
    )


@router.post("/runs/{run}/retry", responses=_STARTED)
def retry_run(
    request: RetryRequest,
    response: Response,
    record: Annotated[RunRecord, Depends(run_for(Role.OPERATOR))],
    of: Of,
    asking: Annotated[Caller, Depends(allowed(Role.OPERATOR))],
    key: IdempotencyKey = "",
) -> RunRow:
    """Finishes the unfinished nodes of a run that has ended, with the same certificates."""
    require_retriable(record)

    def retry(own: str) -> RunRecord:
        by = origin(asking, reason=request.reason, key=own)
        return control.retry(of.engine, record.id, request.which or control.RETRIABLE, **by)

    return _started(response, *once(of, asking, key, (f"{record.id}/retry", request), retry))


@router.post("/runs/{run}/rollback", responses=_STARTED)
def roll_back(
    request: RollbackRequest,
    response: Response,
    record: Annotated[RunRecord, Depends(run_for(Role.OPERATOR))],
    of: Of,
    asking: Annotated[Caller, Depends(allowed(Role.OPERATOR))],
    key: IdempotencyKey = "",
) -> RunRow:
    """Undoes a run that has ended: restores bytes, names and service state from before it."""

    def undo(own: str) -> RunRecord:
        by = origin(asking, reason=request.reason, key=own)
        options = {"force": request.force, "all_at_once": request.all_at_once}
        return rollback.rollback(of.engine, record.id, request.nodes, **options, **by)

    return _started(response, *once(of, asking, key, (f"{record.id}/rollback", request), undo))


def _started(response: Response, record: RunRecord, new: bool) -> RunRow:  # noqa: FBT001 - a pair, from `once`
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/runs/{record.id}"
    return row_of(record)


@router.get("/runs")
def list_runs(
    wanted: Annotated[RunFilter, Query()],
    of: Of,
    asking: Annotated[Caller, Depends(allowed(Role.VIEWER))],
    waits: Annotated[Waiting, Depends(waiting)],
) -> RunPage:
    """The runs of the caller's clusters, the newest first. A page may be short although more follow: see `next`."""

    def fits(record: RunRecord) -> bool:
        return asking.covers(record.cluster) and wanted.fits(record)

    active = frozenset(of.engine.store.active() if wanted.state == "active" else ())
    page = page_of_runs(of.engine, fits, wanted.after, wanted.limit, lambda run: wanted.may_fit(run, active))
    texts, doing = waits.texts(page.runs), steered(of.engine.store, page.runs)
    rows = (row_of(record, texts.get(record.id, ""), doing.get(record.id, "")) for record in page.runs)
    return RunPage(runs=tuple(rows), next=page.after)


@router.get("/runs/{run}")
def one_run(
    record: Annotated[RunRecord, Depends(run_for(Role.VIEWER))], of: Of, waits: Annotated[Waiting, Depends(waiting)]
) -> RunStatus:
    """The status of a run, as `esync status --json` prints it."""
    return runs.status(of.engine, record.id).model_copy(update={"waiting": waits.texts([record]).get(record.id, "")})


@router.get("/runs/{run}/record")
def record_of_run(record: Annotated[RunRecord, Depends(run_for(Role.VIEWER))]) -> RunRecord:
    """The record of a run: its cluster as data, with references to secrets, and its turns so far."""
    return record


@router.get("/runs/{run}/nodes")
def nodes_of_run(
    record: Annotated[RunRecord, Depends(run_for(Role.VIEWER))], wanted: Annotated[NodeFilter, Query()], of: Of
) -> NodePage:
    """The result of a run for each node, in the order of the cluster file."""
    found = [node for node in runs.summary(of.engine, record.id).nodes if wanted.status in {None, node.status}]
    begin = _after(found, place_of(wanted.after)) if wanted.after else 0
    page = tuple(found[begin : begin + wanted.limit])
    more = begin + wanted.limit < len(found)
    return NodePage(nodes=page, next=cursor_of(page[-1].node) if more else "")


def _after(nodes: list[NodeResult], name: str) -> int:
    """The place after the node of that name.

    Raises:
        InputRefused: no such node is in the list: another filter was used.
    """
    for place, node in enumerate(nodes):
        if node.node == name:
            return place + 1
    raise InputRefused("this is not a cursor of this list", remedy="take it from `next` of the page before")
