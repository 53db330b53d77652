"""What a path names, if the caller may see it: a run, a cluster file. Everything else is as if it were not there."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path as Folder
from typing import Annotated

from fastapi import Depends, Path

from pipelines.cluster_file.loader import ClusterRefused
from pipelines.usecases.cluster_files import NAME, cluster_in, cluster_named, file_named
from pipelines.usecases.tokens import Role
from pipelines.web.identity import Caller, allowed, require
from pipelines.web.served import Served, served
from workers.errors import InputRefused, NotFound, RunUnknown
from workers.records import RunRecord

__all__ = ["ClusterName", "RunId", "cluster_for", "folder_of", "may_see", "require_cluster", "run_for", "visible_run"]

RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,120}$", description="The id of a run.")]
ClusterName = Annotated[str, Path(pattern=f"^{NAME}$", description="The name of a cluster file, without its suffix.")]


def visible_run(of: Served, asking: Caller, run: str) -> RunRecord:
    """The run of that id.

    Raises:
        RunUnknown: there is none, or its cluster is not one of the caller's: nothing is learnt from the answer.
    """
    with suppress(RunUnknown):
        record = of.engine.store.run(run)
        if asking.covers(record.cluster):
            return record
    raise RunUnknown(f"there is no run {run}", remedy="look at the list of runs")


def run_for(role: Role) -> Callable[[str, Served, Caller], RunRecord]:
    """A dependency: the run of the path, for a caller who has that role for its cluster."""

    def find(
        run: RunId, of: Annotated[Served, Depends(served)], asking: Annotated[Caller, Depends(allowed(role))]
    ) -> RunRecord:
        record = visible_run(of, asking, run)
        require(asking, role, record.cluster)
        return record

    return find


def folder_of(of: Served) -> Folder:
    """The folder of the cluster files.

    Raises:
        NotFound: this server has none.
    """
    if of.clusters is None:
        raise NotFound(
            "this server has no folder of cluster files", remedy="start it with one: esync serve --clusters DIR"
        )
    return of.clusters


def may_see(asking: Caller, folder: Folder, name: str) -> bool:
    """Whether a cluster file is for the caller: by the cluster's own name, also while it has mistakes."""
    try:
        return asking.covers(cluster_named(folder, name).name)
    except ClusterRefused:
        return asking.covers(cluster_in(file_named(folder, name)))


def cluster_for(role: Role) -> Callable[[str, Served, Caller], str]:
    """A dependency: the name of the cluster file in the path, for a caller who has that role for it."""

    def find(
        cluster: ClusterName, of: Annotated[Served, Depends(served)], asking: Annotated[Caller, Depends(allowed(role))]
    ) -> str:
        require_cluster(of, asking, cluster)
        return cluster

    return find


def require_cluster(of: Served, asking: Caller, name: str) -> None:
    """Passes if there is such a cluster file, and the caller may see it.

    Raises:
        NotFound: otherwise; the answer is the same.
    """
    folder = folder_of(of)
    with suppress(InputRefused):
        file_named(folder, name)
        if may_see(asking, folder, name):
            return
    raise NotFound(f"there is no cluster {name}", remedy="look at the list of clusters")
