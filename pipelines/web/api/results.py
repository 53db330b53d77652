"""What a run leaves: its plan, its report in three forms, and its bundle."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from pipelines.audit.archive import pack
from pipelines.audit.bundle import bundle_of
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.junit import to_junit
from pipelines.report.rows import Report
from pipelines.usecases import runs
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import run_for
from pipelines.web.served import Served, served
from workers.records import RunRecord

__all__ = ["router"]

router = APIRouter(tags=["results"])
Of = Annotated[Served, Depends(served)]
OfViewer = Annotated[RunRecord, Depends(run_for(Role.VIEWER))]

#: The report is one file with its styles in it; nothing else is allowed in it, and it cannot reach this server.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"


@router.get("/runs/{run}/plan", response_model=SavedPlan)
def plan_of_run(record: OfViewer, of: Of) -> Response:
    """The plan of a run, as `esync plan -o` writes it: `esync rollout` applies it exactly."""
    return Response(runs.saved_plan(of.engine, record.id).model_dump_json(), media_type="application/json")


@router.get("/runs/{run}/report.json", response_model=Report)
def report_of_run(record: OfViewer, of: Of) -> Response:
    """Everything about a run (docs/report-schema.json)."""
    return Response(_report(of, record).model_dump_json(), media_type="application/json")


@router.get(
    "/runs/{run}/report.html",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def report_page(record: OfViewer, of: Of) -> Response:
    """The report as one page, without any other resource."""
    page = to_html(_report(of, record))
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get(
    "/runs/{run}/report.xml",
    response_class=Response,
    responses={200: {"content": {"application/xml": {"schema": {"type": "string"}}}}},
)
def report_for_ci(record: OfViewer, of: Of) -> Response:
    """The report as JUnit XML: a case for each node and each statement, for the test page of a build server."""
    return Response(to_junit(_report(of, record)), media_type="application/xml")


@router.get(
    "/runs/{run}/bundle",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
def bundle_of_run(record: OfViewer, of: Of) -> Response:
    """Everything about a run that has ended, in one archive: `esync report --check FILE` checks it offline."""
    archive = pack(bundle_of(of.engine.store, runs.summary(of.engine, record.id)))
    name = f'attachment; filename="{record.id}.zip"'
    return Response(archive, media_type="application/zip", headers={"Content-Disposition": name})


def _report(of: Served, record: RunRecord) -> Report:
    return build(runs.summary(of.engine, record.id))
