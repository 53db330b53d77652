"""Many clusters with one request: a run for each, so many of them at a time, in the order of the request.

The runs wait in the run store (`pipelines.run.groups`): the process that requested them may end at any moment.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Unpack

from pydantic import Field

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.groups import AT_MOST, MOST, Place
from pipelines.run.identity import cluster_of, in_ids
from pipelines.usecases.admission import check_cluster_free, check_run_limit
from pipelines.usecases.bodies import Body, Reason
from pipelines.usecases.cluster_files import NAME, cluster_named
from pipelines.usecases.origin import Origin
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.runs import cluster_by_name, keyed, saved_plan_for, start
from tasks.cluster import Cluster
from tasks.documents import PRUNE
from workers.errors import InputRefused, RecordRefused, RunUnknown
from workers.records import RunRecord

__all__ = [
    "GroupRequest",
    "Member",
    "already_running",
    "start_group",
    "start_group_by_names",
    "start_group_requested",
]

OF_SERVER = 500  #: clusters of one request to a server


class Member(NamedTuple):
    """One cluster of a group, and the plan that has to be applied to it exactly, if there is one."""

    cluster: Cluster
    plan: SavedPlan | None = None


def start_group(
    engine: Engine,
    members: Sequence[Member],
    *,
    at_most: int = AT_MOST,
    kind: str = "rollout",
    options: tuple[str, ...] = (),
    behind: Sequence[RunRecord] = (),
    **origin: Unpack[Origin],
) -> Iterator[RunRecord]:
    """Creates a run for each cluster, in order, and asks the workers to begin them, so many at a time.

    Args:
        engine: where.
        members: the clusters. One that shares a server with an earlier one waits for its end.
        at_most: runs at the same time.
        kind: of every run.
        options: of every run without a plan; see `RunRecord.options`.
        behind: runs of earlier requests that this one continues. If they are active and of a group, the new ones are of
            it, too, after them: the limit counts for all, and none of them works on a server of another.
        origin: who requests the runs, and why; the same key is valid for each cluster.

    Yields:
        The runs, as soon as each of them is in the store. A run that is not yielded was not created.

    Raises:
        InputRefused: there are too many clusters, or see `runs.start`.
        TooManyRuns: the limit of active runs does not allow so many at the same time; nothing was created.
        StoreUnavailable: the broker does not answer; further runs were not created.
    """
    if len(members) > MOST or at_most < 1:
        raise InputRefused(f"a request has 1 to {MOST} clusters, at least 1 of them at a time; no run was created")
    first, ahead = _first_place(engine, min(at_most, len(members) + len(behind)), behind)
    check_run_limit(engine, max(0, min(first.at_most - ahead, len(members))))
    for number, (cluster, plan) in enumerate(members, first.number):
        place = first._replace(number=number)
        yield start(engine, cluster, plan=plan, place=place, kind=kind, options=options, **origin)


def _first_place(engine: Engine, at_most: int, behind: Sequence[RunRecord]) -> tuple[Place, int]:
    """The place of the first new run, and how many active runs of its group are before it."""
    active = [(run, place) for run in engine.store.active() if (place := Place.of(run))]
    group = next((place.group for run, place in active if any(run == record.id for record in behind)), "")
    numbers = [place.number for _, place in active if place.group == group]
    return Place(group or secrets.token_hex(4), at_most, max(numbers, default=-1) + 1), len(numbers)


def start_group_by_names(
    engine: Engine, names: Sequence[str], *, at_most: int = AT_MOST, **origin: Unpack[Origin]
) -> Mapping[str, RunRecord]:
    """Starts rollouts of cluster files in the folder of this worker; all are read and checked before the first starts.

    With a key, the same request again continues: a run that exists is returned and not created again. A request that is
    refused has used no key up.

    Returns:
        Name of the file -> its run.

    Raises:
        InputRefused: see `runs.start_by_name`; or a name is there twice, or none.
        ClusterLocked: a run works on one of the clusters; no run was created.
        TooManyRuns: see `start_group`.
    """
    if not names or len(set(names)) < len(names):
        raise InputRefused("a request for several clusters names each of them once")
    members = [Member(cluster_by_name(engine, name)) for name in names]
    known = [keyed(engine, member.cluster, origin.get("key", "")) for member in members]
    for member, existing in zip(members, known, strict=True):
        if existing is None:
            check_cluster_free(engine, member.cluster)
    origin = {**origin, "who": origin.get("who") or "message"}
    started = start_group(engine, members, at_most=at_most, behind=[one for one in known if one], **origin)
    return dict(zip(names, started, strict=True))


def already_running(engine: Engine, member: Member, kind: str, options: tuple[str, ...]) -> RunRecord | None:
    """The run that does the same already: of that kind, with these options, for the cluster exactly as it is described.

    So the same command continues what an earlier one has begun, and does not end because that one works there. A plan
    has options of its own, and only a run with exactly that plan does the same.
    """
    cluster, plan = member
    wanted = cluster.model_dump(mode="json")
    options = plan.options if plan else options
    for run_id in engine.store.active():
        if in_ids(cluster.name) not in run_id:
            continue
        with suppress(RunUnknown, RecordRefused):
            record = engine.store.run(run_id)
            same = cluster_of(record) == (cluster.name, cluster.digest) and record.spec == wanted
            exact = plan is None or record.plan_fingerprint == plan.fingerprint
            if same and exact and (record.kind, record.options, record.only) == (kind, options, ()):
                return record
    return None


FileName = Annotated[str, Field(pattern=f"^{NAME}$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,120}$")]


class GroupRequest(Body):
    """A request for a run of each of several cluster files that the server has."""

    kind: Literal["rollout", "verify", "plan", "doctor"] = "rollout"
    clusters: Annotated[
        tuple[FileName, ...],
        Field(min_length=1, max_length=OF_SERVER, description="The names of the cluster files, without their suffix."),
    ]
    plans: Annotated[
        dict[FileName, RunName],
        Field(
            max_length=OF_SERVER, description="Of a rollout: apply exactly the plans of these runs, by cluster file."
        ),
    ] = Field(default_factory=dict)
    prune: Annotated[bool, Field(description="Of a rollout or plan: remove what no server needs any more.")] = False
    at_most: Annotated[int, Field(ge=1, le=OF_SERVER, description="Runs at the same time.")] = AT_MOST
    reason: Reason = ""


def start_group_requested(
    engine: Engine, folder: Path, request: GroupRequest, **origin: Unpack[Origin]
) -> tuple[RunRecord, ...]:
    """Starts a run for each cluster, so many at a time; one that does the same already is returned in its place.

    Args:
        engine: where.
        folder: of the cluster files.
        request: what.
        origin: who requests it, and from where.

    Returns:
        The runs, in the order of the request.

    Raises:
        InputRefused: a cluster is named twice, has no file, or one with mistakes; or a plan is of another cluster.
        ClusterLocked: another run works on the servers of one of them; no run was created.
        TooManyRuns, StoreUnavailable: see `start_group`.
    """
    _require_consistent(request)
    members = {name: _member(engine, folder, request, name) for name in request.clusters}
    options = _options(request)
    found = {name: already_running(engine, member, request.kind, options) for name, member in members.items()}
    new = [member for name, member in members.items() if found[name] is None]
    if not kind_of(request.kind).read_only:
        for member in new:
            check_cluster_free(engine, member.cluster)
    origin["reason"] = request.reason
    started = start_group(engine, new, at_most=request.at_most, kind=request.kind, options=options, **origin)
    begun = iter(tuple(started) if new else ())
    return tuple(record or next(begun) for record in found.values())


def _require_consistent(request: GroupRequest) -> None:
    """Passes if no part of a request contradicts another one."""
    if len(set(request.clusters)) < len(request.clusters) or not request.plans.keys() <= set(request.clusters):
        raise InputRefused("a request for several clusters names each of them once; no server was contacted")
    if request.plans and (request.kind != "rollout" or request.prune):
        raise InputRefused("plans: only a rollout applies plans, exactly as they are; no server was contacted")
    if request.prune and request.kind not in {"rollout", "plan"}:
        raise InputRefused(f"prune: a {request.kind} removes nothing; no server was contacted")


def _options(request: GroupRequest) -> tuple[str, ...]:
    return (PRUNE,) if request.prune else ()


def _member(engine: Engine, folder: Path, request: GroupRequest, name: str) -> Member:
    """The cluster of a file, and the plan that is to be applied to it."""
    cluster = cluster_named(folder, name)
    if name not in request.plans:
        return Member(cluster)
    plan = saved_plan_for(engine, request.plans[name], cluster)
    return Member(plan.spec, plan)
