"""Syncs: what may be started, from which server and how. The use cases that all ways in share."""

from typing import Unpack

from pipelines.engine import Engine
from pipelines.usecases.naming import one_node
from pipelines.usecases.origin import Origin
from pipelines.usecases.runs import start
from tasks.cluster import Cluster, Role
from tasks.ektron.sync_exclusions import why_never_synced
from tasks.sync_settings import SyncStart
from tasks.syncing.options import SyncOptions
from workers.errors import InputRefused
from workers.records import RunRecord

__all__ = ["BALANCE", "CLEAR", "PROVE", "START", "STATUS", "asked_for", "begin", "cautions", "refresh_of"]

STATUS, START, BALANCE, PROVE, CLEAR = "sync-status", "sync-start", "sync-balance", "sync-prove", "sync-clear"
_CONFIDENCE = (
    "how the product is asked is known from code in public repositories, not from the vendor (confidence C); "
    "nothing else is sent than its own pages send"
)


def asked_for(cluster: Cluster, node: str = "", profile: str = "", *, gate: bool = False) -> SyncOptions:
    """What is started, with the defaults of the cluster file.

    Args:
        cluster: the cluster.
        node: where the sync is started; the only staging server when empty.
        profile: its name; that of the cluster file when empty.
        gate: a person starts it, whatever the cluster file says.

    Raises:
        InputRefused: syncs are off, the node is no staging server, or something that is needed is not known.
    """
    mode: SyncStart = "gate" if gate else cluster.sync.start
    if mode == "off":
        raise InputRefused(
            "this cluster starts no syncs; no server was contacted",
            remedy="set sync.start in the cluster file: `gate` (a person clicks) or `http` (see docs/sync.md)",
        )
    chosen = SyncOptions(node=_staging(cluster, node), profile=profile or cluster.sync.profile, start=mode)
    if mode == "http" and cluster.site_login is None:
        raise InputRefused(
            "a sync is started as a user of the site, and the cluster file names none; no server was contacted",
            remedy="set site_login (user and secret), or let a person start it: --gate",
        )
    if mode == "http" and not chosen.profile:
        raise InputRefused(
            "it is not known which sync profile to start; no server was contacted",
            remedy="name it with --profile, or as sync.profile; esync sync status FILE lists them",
        )
    return chosen


def refresh_of(cluster: Cluster, node: str) -> SyncOptions:
    """The refresh of the other servers of a pool, started on one of its servers.

    Raises:
        InputRefused: syncs are not started over http here, no user is named, or the pool has no other server.
    """
    name = one_node(cluster, node)
    pool = cluster.node(name).pool
    if cluster.sync.start != "http" or cluster.site_login is None:
        raise InputRefused(
            "a refresh is requested over http as an administrator of the site; no server was contacted",
            remedy="set `sync: {start: http}` and site_login in the cluster file, or refresh in the server's Workarea",
        )
    if not [one for one in cluster.nodes if one.pool == pool and one.name != name]:
        raise InputRefused(
            f"{name} is alone in its pool {pool}: there is no server to refresh; no server was contacted",
            remedy="name a server of a pool with several servers",
        )
    return SyncOptions(node=name, start="http")


def begin(engine: Engine, cluster: Cluster, kind: str, asked: SyncOptions, **origin: Unpack[Origin]) -> RunRecord:
    """Starts a run of that kind."""
    return start(engine, cluster, kind=kind, options=asked.as_options, **origin)


def cautions(cluster: Cluster, asked: SyncOptions, kind: str) -> list[str]:
    """What a person has to know before a sync is started (procedure, warnings and prerequisites)."""
    found = [_CONFIDENCE] if asked.start == "http" else []
    if asked.start == "http" and cluster.site_login is not None and cluster.site_login.over_http:
        found.append("site_login.over_http is set: over http the password can be read on the way")
    if kind == BALANCE:
        return found
    pool = cluster.node(asked.node).pool
    others = [one.name for one in cluster.nodes if one.pool == pool and one.name != asked.node]
    if others and cluster.balancer(asked.node):
        found.append(f"the staging servers are clustered: {others[0]} leaves the balancer, and is put back afterwards")
    elif others:
        found.append(
            f"the staging servers are clustered: take one, such as {others[0]}, out of the balancer before the sync, "
            "and put it back after it (procedure, prerequisites)"
        )
    found.append("templates that were changed on production are overwritten: change them on staging only")
    folder = cluster.sync.canary.folder
    if kind == PROVE and (why := why_never_synced(f"{folder}\\x.{cluster.sync.canary.extension}")):
        raise InputRefused(f"the canary would never arrive: {why}; no server was contacted", remedy="set sync.canary")
    return found


def _staging(cluster: Cluster, node: str) -> str:
    """The server on which a sync may be started (procedure: always a staging server)."""
    staging = [one.name for one in cluster.nodes if one.role is Role.STAGING]
    if not node:
        if len(staging) != 1:
            several = f"{', '.join(staging)} have" if staging else "no server has"
            raise InputRefused(
                f"it is not clear on which server to start: {several} the role staging; no server was contacted",
                remedy="name the server on which the change was made: --from NODE",
            )
        return staging[0]
    name = one_node(cluster, node)
    if name not in staging:
        raise InputRefused(
            f"{name} is a production server, a sync must not be started there; no server was contacted",
            remedy=f"start it on a staging server: {', '.join(staging) or 'there is none'}",
        )
    return name
