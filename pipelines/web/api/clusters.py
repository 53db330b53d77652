"""Clusters: the cluster files of this server, what is known of them, and the questions that only a person answers."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from pipelines.usecases import attest, overview
from pipelines.usecases.attest import Questions
from pipelines.usecases.bodies import Body
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.origin import OneLine
from pipelines.usecases.overview import ClusterFileText, ClusterOverview
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import cluster_for, folder_of, may_see
from pipelines.web.bodies import StrictRoute
from pipelines.web.identity import Caller, allowed, require
from pipelines.web.served import Served, served
from tasks.cluster import Cluster
from tasks.ektron.rules.confirmations import Confirmation
from workers.records import Record

__all__ = ["ClusterList", "router"]

router = APIRouter(tags=["clusters"], route_class=StrictRoute)
Of = Annotated[Served, Depends(served)]
OfViewer = Annotated[str, Depends(cluster_for(Role.VIEWER))]
OfApprover = Annotated[str, Depends(cluster_for(Role.APPROVER))]
Rule = Annotated[str, Path(pattern=r"^[a-z0-9.-]{1,80}$", description="The id of a question.")]


class ClusterList(Record):
    """The caller's clusters, by name: at most 1,000."""

    clusters: tuple[ClusterOverview, ...]


class AnswerRequest(Body):
    """A person's answer: what was checked, and the last day on which it counts."""

    until: date
    note: Annotated[OneLine, Field(min_length=1, max_length=500)]


@router.get("/clusters")
def list_clusters(of: Of, asking: Annotated[Caller, Depends(allowed(Role.VIEWER))]) -> ClusterList:
    """The caller's clusters, each with what its newest runs say."""
    folder = folder_of(of)
    known = overview.overviews(of.engine, folder)
    return ClusterList(clusters=tuple(one for one in known if may_see(asking, folder, one.name)))


@router.get("/clusters/{cluster}")
def one_cluster(cluster: OfViewer, of: Of) -> ClusterOverview:
    """A cluster, with what its newest runs say: its last known state, and whether it has drifted from it."""
    return overview.overview_of(of.engine, folder_of(of), cluster)


@router.get("/clusters/{cluster}/file")
def cluster_file(cluster: OfViewer, of: Of) -> ClusterFileText:
    """The cluster file as it is, with line and column of every mistake in it. A secret in it by mistake is masked."""
    return overview.file_of_cluster(folder_of(of), cluster)


@router.get("/clusters/{cluster}/questions")
def questions(cluster: OfViewer, of: Of) -> Questions:
    """The questions about a cluster that no program can answer."""
    return attest.questions(of.engine, cluster_named(folder_of(of), cluster))


@router.put("/clusters/{cluster}/questions/{rule}")
def answer(
    rule: Rule,
    request: AnswerRequest,
    name: OfApprover,
    of: Of,
    asking: Annotated[Caller, Depends(allowed(Role.APPROVER))],
) -> Confirmation:
    """Records that the caller confirms a statement, in place of an earlier answer."""
    cluster = _attestable(of, asking, name)
    return attest.attest(of.engine, cluster, rule, by=asking.name, until=request.until, note=request.note)


@router.delete("/clusters/{cluster}/questions/{rule}", status_code=204)
def withdraw(rule: Rule, name: OfApprover, of: Of, asking: Annotated[Caller, Depends(allowed(Role.APPROVER))]) -> None:
    """Removes an answer: the question is asked again."""
    attest.withdraw(of.engine, _attestable(of, asking, name), rule)


def _attestable(of: Served, asking: Caller, name: str) -> Cluster:
    cluster = cluster_named(folder_of(of), name)
    require(asking, Role.APPROVER, cluster.name)
    return cluster
