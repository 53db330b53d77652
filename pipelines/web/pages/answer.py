"""The forms that answer the questions about a cluster which no program can answer. Each calls one use case."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Form
from pydantic import Field
from starlette.responses import Response

from pipelines.usecases import attest
from pipelines.usecases.origin import OneLine
from pipelines.usecases.tokens import Role
from pipelines.web.identity import Caller, allowed, require
from pipelines.web.pages.asking import Looking, Shared, to
from tasks.cluster import Cluster
from workers.errors import NotFound

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Approver = Annotated[Caller, Depends(allowed(Role.APPROVER))]
Note = Annotated[OneLine, Field(min_length=1, max_length=500), Form()]


@router.post("/clusters/{name}/questions/{rule}")
def answer(
    name: str, rule: str, asking: Approver, looking: Looking, note: Note, until: Annotated[date, Form()]
) -> Response:
    """Records that the caller confirms a statement, in place of an earlier answer."""
    cluster = _cluster(looking, asking, name)
    attest.attest(looking.engine, cluster, rule, by=asking.name, until=until, note=note)
    return to("clusters", name, part="questions")


@router.post("/clusters/{name}/questions/{rule}/withdraw")
def withdraw(name: str, rule: str, asking: Approver, looking: Looking) -> Response:
    """Removes an answer: the question is asked again."""
    attest.withdraw(looking.engine, _cluster(looking, asking, name), rule)
    return to("clusters", name, part="questions")


def _cluster(looking: Shared, asking: Caller, name: str) -> Cluster:
    """The cluster, for a caller who may answer for it.

    Raises:
        NotAllowed: it may not.
        NotFound: it has no file here: its servers now are not known.
    """
    require(asking, Role.APPROVER, name)
    cluster, file = looking.overview.cluster(name)
    if not file:
        raise NotFound(f"cluster {name} has no file here", remedy="put its file into the folder of this server")
    return cluster
