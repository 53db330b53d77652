"""Taking a node out of its cluster: the use case that all ways in share."""

from pipelines.usecases.naming import one_node
from tasks.cluster import Cluster
from tasks.documents import FORCE, RETIRE
from workers.errors import InputRefused

__all__ = ["leaving", "options_of"]


def leaving(cluster: Cluster, name: str, host: str = "") -> tuple[Cluster, str]:
    """The cluster with the node that leaves it, and the name of that node as the cluster has it.

    Args:
        cluster: as its file describes it.
        name: of the node; case does not count.
        host: where to reach a node that the file does not have any more, with the connection of the cluster.

    Raises:
        InputRefused: the cluster has no such node and no host is given, or the node must not leave.
    """
    known = name.upper() in {node.upper() for node in cluster.node_names}
    if host and known:
        raise InputRefused(
            f"{name} is in the cluster file, which has its host already; no server was contacted",
            remedy="leave --host out",
        )
    if host and name.upper() in {partner.upper() for partner in cluster.partners}:
        raise InputRefused(
            f"{name} is a partner in the cluster file, not a node; no server was contacted",
            remedy="take it out of `partners:` first",
        )
    whole = _with(cluster, name, host) if host else cluster
    node = one_node(whole, name)
    if whole.is_origin(node):
        raise InputRefused(
            f"{node} is the origin: all other nodes get their certificates from it; no server was contacted",
            remedy="write another `origin:` into the cluster file and run a rollout, then retire it",
        )
    return whole, node


def options_of(*, force: bool) -> tuple[str, ...]:
    """The options of such a run.

    Args:
        force: also if the node serves other sites, whose eSync ends, too.
    """
    return (RETIRE, FORCE) if force else (RETIRE,)


def _with(cluster: Cluster, name: str, host: str) -> Cluster:
    last = cluster.nodes[-1]
    data = cluster.model_dump()
    data["nodes"] = (*data["nodes"], {"name": name, "host": host, "role": last.role, "pool": last.pool})
    try:
        return Cluster.model_validate(data)
    except ValueError:
        raise InputRefused(
            f"{name[:64]!r} at {host[:64]!r} cannot be a node; no server was contacted",
            remedy="give the NetBIOS name of the server (1 to 15 letters, digits, '-' or '_'), and its host name or "
            "address without a port",
        ) from None
