"""Requests for runs as data: what other programs send, with the same checks and the same use cases as the verbs."""

from pathlib import Path
from typing import Annotated, Literal, Unpack

from pydantic import Field

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.sync_kinds import AT_A_TERMINAL
from pipelines.usecases.bodies import Body, Reason
from pipelines.usecases.cluster_files import NAME, cluster_named
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.origin import Origin
from pipelines.usecases.runs import saved_plan_for, start, start_if_free
from tasks.cluster import Cluster
from tasks.documents import PRUNE
from tasks.steps.cleanup import ALL
from workers.errors import InputRefused
from workers.records import RunRecord

__all__ = [
    "Patterns",
    "RetryRequest",
    "RollbackRequest",
    "StartRequest",
    "require_consistent",
    "require_retriable",
    "start_requested",
]

Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
    Field(max_length=5000, description="Names of nodes, or patterns such as `P*`; empty for all."),
]


class StartRequest(Body):
    """A request for a run of a cluster file that the server has."""

    kind: Literal["rollout", "verify", "plan", "doctor", "cleanup"] = "rollout"
    cluster: Annotated[str, Field(pattern=f"^{NAME}$", description="The name of the cluster file, without its suffix.")]
    nodes: Patterns = ()
    prune: Annotated[bool, Field(description="Of a rollout or plan: remove what no server needs any more.")] = False
    plan: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._-]{0,120}$", description="Of a rollout: apply exactly the plan of that run."),
    ] = ""
    everything: Annotated[bool, Field(description="Of a cleanup: also backups that have not expired.")] = False
    reason: Reason = ""


class RetryRequest(Body):
    """A request to finish the unfinished nodes of a run."""

    which: Annotated[
        tuple[Literal["failed", "unreachable", "not_started"], ...], Field(max_length=3, description="Empty for all.")
    ] = ()
    reason: Reason = ""


class RollbackRequest(Body):
    """A request to undo a run."""

    nodes: Patterns = ()
    force: Annotated[bool, Field(description="Overwrite files that were changed after the run.")] = False
    all_at_once: Annotated[bool, Field(description="All nodes together, not half of a pool at a time.")] = False
    reason: Reason = ""


def require_retriable(record: RunRecord) -> None:
    """Passes if a run may be retried from elsewhere: it begins no sync, and waits for no repair of search.

    Raises:
        InputRefused: it may not.
    """
    if record.kind in AT_A_TERMINAL:
        raise InputRefused(
            f"run {record.id} is a {record.kind}: a person at a terminal begins a sync; nothing was started",
            remedy="log on where the broker is; esync sync --help says how it is begun there",
        )


def start_requested(engine: Engine, folder: Path, request: StartRequest, **origin: Unpack[Origin]) -> RunRecord:
    """Starts the run that was requested.

    Args:
        engine: where.
        folder: of the cluster files.
        request: what.
        origin: who requests it, from where, and the idempotency key.

    Raises:
        InputRefused: there is no such cluster file, it has mistakes, or parts of the request contradict each other.
        ClusterLocked: another run works on its servers; no run is created that would end at once.
        TooManyRuns: see `runs.start`.
        StoreUnavailable: see `runs.start`.
    """
    cluster = cluster_named(folder, request.cluster)
    require_consistent(request)
    origin["reason"] = request.reason
    if request.plan:
        return _apply(engine, cluster, request.plan, **origin)
    if request.kind == "cleanup":
        options = (ALL,) if request.everything else ()
        return start_if_free(engine, cluster, kind=request.kind, options=options, **origin)
    only, options = selected_nodes(cluster, request.nodes), (PRUNE,) if request.prune else ()
    begin = start if kind_of(request.kind).read_only else start_if_free
    return begin(engine, cluster, kind=request.kind, only=only, options=options, **origin)


def _apply(engine: Engine, cluster: Cluster, run: str, **origin: Unpack[Origin]) -> RunRecord:
    """Starts a rollout of a plan that an earlier run made for this cluster."""
    plan = saved_plan_for(engine, run, cluster)
    return start_if_free(engine, plan.spec, plan=plan, kind="rollout", **origin)


def require_consistent(request: StartRequest) -> None:
    """Passes if no part of a request contradicts another one.

    Raises:
        InputRefused: it does; the message names the field.
    """
    kind, given = request.kind, request.model_fields_set
    wrong = [
        (request.plan and kind != "rollout", "plan", "only a rollout applies a plan"),
        (request.plan and (request.nodes or request.prune), "plan", "a plan is applied exactly, to its own nodes"),
        (request.prune and kind not in {"rollout", "plan"}, "prune", f"a {kind} removes nothing"),
        (request.everything and kind != "cleanup", "everything", "only a cleanup removes backups"),
        (request.nodes and kind == "cleanup", "nodes", f"a {kind} concerns the whole cluster"),
    ]
    for refused, field, why in wrong:
        if refused and field in given:
            raise InputRefused(f"{field}: {why}; no server was contacted", remedy=f"leave {field} out")
