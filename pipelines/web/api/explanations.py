"""Why a node is not joined: from what a run has found, as `esync explain` tells it."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from pipelines.run.explained import NodeAnswer
from pipelines.usecases import explain
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.naming import LAST
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import require_cluster, visible_run
from pipelines.web.identity import Caller, allowed
from pipelines.web.served import Served, served
from tasks.cluster import Cluster
from workers.errors import InputRefused, NotFound, RunUnknown
from workers.records import RunRecord
from workers.texts import cleaned

__all__ = ["router"]

router = APIRouter(tags=["results"])
_TARGET = "A run, the name of a cluster or of a cluster file, or `last`: the newest run that checked a whole cluster."


@router.get("/explanations/{node}")
def explain_node(
    node: Annotated[str, Path(min_length=1, max_length=64, description="The name of a node; case does not count.")],
    of: Annotated[Served, Depends(served)],
    asking: Annotated[Caller, Depends(allowed(Role.VIEWER))],
    target: Annotated[str, Query(min_length=1, max_length=200, description=_TARGET)] = LAST,
) -> NodeAnswer:
    """Why a node is not joined: the first cause, from what a run has found. Contacts no server."""
    return explain.explain_node(of.engine, _check(of, asking, target).id, node)


def _check(of: Served, asking: Caller, target: str) -> RunRecord:
    """The run that is meant.

    Raises:
        RunUnknown: the caller sees none.
        InputRefused: several clusters have that name.
    """

    def sees(record: RunRecord) -> bool:
        return asking.covers(record.cluster)

    with suppress(RunUnknown):
        return explain.newest_check_of(of.engine, _cluster(of, asking, target) or target, sees)
    with suppress(RunUnknown):
        return visible_run(of, asking, target)
    what = "no run" if target == LAST else f"{cleaned(target, 64)!r} is no run, and no run of such a cluster"
    raise RunUnknown(
        f"{what} that checked a whole cluster is among the newest ones", remedy="check it now: esync verify FILE"
    )


def _cluster(of: Served, asking: Caller, name: str) -> Cluster | None:
    """The cluster whose file has that name; None if there is none for the caller."""
    with suppress(NotFound, InputRefused):
        require_cluster(of, asking, name)
        if of.clusters is not None:
            return cluster_named(of.clusters, name)
    return None
