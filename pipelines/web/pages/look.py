"""The pages that show something: clusters, one cluster, runs, one run, a server in it, a plan, two runs compared."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipelines.report.change_words import by_file
from pipelines.report.html import to_html
from pipelines.report.rows import Report
from pipelines.report.styles import VERDICT_STYLES
from pipelines.rollout import KINDS
from pipelines.usecases import runs
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import RunId, visible_run
from pipelines.web.identity import Caller
from pipelines.web.pages.asking import Looking, Shared, Viewer, page
from pipelines.web.pages.buttons import buttons_of, can_apply, keeps_backups
from pipelines.web.pages.cluster_view import cluster_values
from pipelines.web.pages.compare_view import compare_values
from pipelines.web.pages.grid import MARKS, Show
from pipelines.web.pages.plan_view import plan_values
from pipelines.web.pages.questions_view import question_values
from pipelines.web.pages.run_view import head_values, mark_of_step, node_of, panel_values, revisions, rows_values
from pipelines.web.pages.scene import Scene
from tasks.cluster import Cluster
from workers.errors import InputRefused, NotFound, RecordRefused
from workers.records import RunRecord

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_HISTORY = 25  #: runs that the page of a cluster has
_LISTED = 100  #: runs that the list has
_TWO = 2
_AGAIN = 5  #: seconds after which a browser without JavaScript loads a page again that moves
ClusterName = Annotated[str, Query(max_length=64)]


@router.get("/")
def clusters(request: Request, asking: Viewer, looking: Looking) -> HTMLResponse:
    """All clusters at a glance."""
    glances, broken = looking.overview.glances(asking.covers)
    return page(
        request,
        "clusters.html",
        "clusters_parts.html",
        **_frame(asking, "clusters", looking),
        glances=glances,
        mistakes=broken,
        doing=looking.overview.doing(),
    )


@router.get("/clusters/{name}")
def cluster(request: Request, name: str, asking: Viewer, looking: Looking) -> HTMLResponse:
    """One cluster: its servers, what is not right, its history."""
    if not asking.covers(name):
        raise NotFound(f"there is no cluster {name[:64]!r} here", remedy="look at the list of clusters")
    found, file = looking.overview.cluster(name)
    glance = looking.overview.glance(file, found)
    report, unreadable = _report_for(glance.run, looking)
    own = [record for record in looking.overview.records() if record.cluster == name]
    return page(
        request,
        "cluster.html",
        "cluster_parts.html",
        **_frame(asking, "clusters", looking),
        **cluster_values(found, report),
        glance=glance,
        unreadable=unreadable,
        records=own[:_HISTORY],
        doing=looking.overview.doing(),
        **question_values(looking.engine, looking.overview, asking, name),
        can_start=bool(file) and asking.may(Role.OPERATOR, name),
    )


def _report_for(run: str, looking: Shared) -> tuple[Report | None, str]:
    """The report of the run that says something about a cluster; or why it cannot be read: its cluster is shown."""
    try:
        return (looking.scenes.of(run).report() if run else None), ""
    except RecordRefused as refused:
        return None, refused.message


@router.get("/runs")
def run_list(
    request: Request,
    asking: Viewer,
    looking: Looking,
    cluster: ClusterName = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """The newest runs, of all clusters or one."""
    seen = [record for record in looking.overview.records() if asking.covers(record.cluster)]
    fits = (
        record
        for record in seen
        if cluster in {"", record.cluster} and kind in {"", record.kind} and _is_in(record, state)
    )
    return page(
        request,
        "runs.html",
        "runs_parts.html",
        **_frame(asking, "runs", looking),
        records=list(islice(fits, _LISTED)),
        doing=looking.overview.doing(),
        names=sorted({record.cluster for record in seen}),
        kinds=list(KINDS),
        cluster=cluster,
        kind=kind,
        state=state,
    )


def _is_in(record: RunRecord, state: str) -> bool:
    if state == "active":
        return record.verdict is None
    return state != "bad" or (record.verdict is not None and VERDICT_STYLES[record.verdict].kind != "good")


@router.get("/runs/{run}")
def run(
    request: Request,
    run: RunId,
    asking: Viewer,
    looking: Looking,
    what: Annotated[str, Query(max_length=20)] = "trouble",
    name: Annotated[str, Query(max_length=40)] = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=1000)] = 1,
) -> HTMLResponse:
    """A run, live."""
    record = visible_run(looking.served, asking, run)
    scene = looking.scenes.of(record.id)
    values = {
        **_frame(
            asking,
            "runs",
            looking,
            stream="/moves" if scene.over else f"/moves?run={record.id}",
            refresh=0 if scene.over else _AGAIN,
        ),
        **_run_values(scene, asking, looking),
        **rows_values(scene.progress, scene.codes, Show(what, name, page_number)),
    }
    return page(request, "run.html", "run_parts.html", **values)


def _run_values(scene: Scene, asking: Caller, looking: Shared) -> dict[str, Any]:
    record, steering, report = scene.progress.record, scene.steering(), scene.report()
    may = asking.may(Role.OPERATOR, record.cluster)
    asked = question_values(looking.engine, looking.overview, asking, record.cluster)
    return {
        **asked,
        **head_values(scene.progress, scene.codes, steering, report),
        **panel_values(report, scene.answer, scene.progress.running()),
        "fetch": revisions(scene.progress, scene.codes, steering),
        "buttons": list(buttons_of(report, steering, whole_pool=_whole_pool(record))) if may else [],
        "can_clean": may and asked["has_file"] and scene.over and keeps_backups(record),
        "waiting": looking.waits.text(record, scene.moved),
        "unapproved": steering.unapproved,
        "later": [one for one in looking.overview.records() if one.parent == record.id],
        "lines": list(reversed(scene.lines)),
        "marks": {letter: list(mark) for letter, mark in MARKS.items()},
    }


def _whole_pool(record: RunRecord) -> bool:
    return Cluster.of_run(record).policy.whole_pool


@router.get("/runs/{run}/nodes/{node}")
def server(request: Request, run: RunId, node: str, asking: Viewer, looking: Looking) -> HTMLResponse:
    """One server in a run: every step, what it said, what it changed."""
    record = visible_run(looking.served, asking, run)
    found = node_of(looking.scenes.of(record.id).report(), node)
    if found is None:
        raise NotFound(f"run {run} has no server {node[:40]!r}", remedy="look at the run")
    row, mark = found
    return page(
        request,
        "node.html",
        "",
        **_frame(asking, "runs", looking),
        record=record,
        node=row,
        mark=mark,
        steps=[(step, mark_of_step(step)) for step in row.steps],
        files=by_file(row.changes),
    )


@router.get("/runs/{run}/plan")
def plan(request: Request, run: RunId, asking: Viewer, looking: Looking) -> HTMLResponse:
    """The plan of a run as a difference."""
    record = visible_run(looking.served, asking, run)
    known = runs.summary(looking.engine, record.id)
    may = asking.may(Role.OPERATOR, record.cluster)
    return page(
        request,
        "plan.html",
        "plan_parts.html",
        **_frame(asking, "runs", looking, refresh=0 if record.verdict else _AGAIN),
        **plan_values(known),
        can_apply=may and can_apply(record, known.plan),
        can_approve=known.unapproved and asking.may(Role.APPROVER, record.cluster) and record.who != asking.name,
        can_reject=known.unapproved and may,
    )


@router.get("/runs/{run}/report")
def report(run: RunId, asking: Viewer, looking: Looking) -> Response:
    """The report of a run as a file: it has a style of its own, which only a saved page may have."""
    record = visible_run(looking.served, asking, run)
    text = to_html(looking.scenes.of(record.id).report())
    headers = {"Content-Disposition": f'attachment; filename="esync-report-{record.id}.html"'}
    return HTMLResponse(text, headers=headers)


@router.get("/compare")
def compare(
    request: Request,
    asking: Viewer,
    looking: Looking,
    run: Annotated[list[RunId], Query(max_length=50)] = [],  # noqa: B006
) -> HTMLResponse:
    """Two runs side by side, the earlier one first."""
    if len(set(run)) != _TWO:
        raise InputRefused("two runs can be compared, neither more nor less", remedy="tick two runs")
    records: Sequence[RunRecord] = sorted(
        (visible_run(looking.served, asking, one) for one in set(run)), key=lambda one: one.created
    )
    first, second = (looking.scenes.of(record.id).report() for record in records)
    return page(request, "compare.html", "", **_frame(asking, "runs", looking), **compare_values(first, second))


def _frame(asking: Caller, at: str, looking: Shared, stream: str = "/moves", refresh: int = 0) -> dict[str, Any]:
    """What every page has around its content."""
    return {"me": asking, "at": at, "overview": looking.overview.shown(), "stream": stream, "refresh": refresh}
