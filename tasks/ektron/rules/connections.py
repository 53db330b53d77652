"""How esync itself reaches the nodes: what of it is weaker than https with a certificate that is verified."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.findings import Decision, InvariantState, sentence, warning

__all__ = ["CONNECTION_RULES"]


def _protected(cluster: ClusterFacts) -> Decision:
    """By the cluster file alone, so also of nodes that were not seen."""
    weaker = {node: cluster.weaker_ways[node] for node in cluster.nodes if node in cluster.weaker_ways}
    if weaker:
        return Decision(InvariantState.REFUTED, sentence(weaker), weaker)
    return Decision(InvariantState.PROVEN, f"on all {len(cluster.nodes)} nodes")


CONNECTION_RULES = (
    warning(
        id="winrm.protected",
        statement="esync reaches each node over https with TLS 1.2 or newer.",
        remedy="create an https listener on the server (winrm quickconfig -transport:https), enable TLS 1.2 there, "
        "then remove `scheme` or `tls_minimum` from the cluster file",
        source="MS-WSMV 2.2.9.1 (encryption of messages over http), RFC 8996 (TLS 1.0 is deprecated)",
        decide=_protected,
        reads=("cluster.weaker_ways",),
        proves="the cluster file has neither `scheme: http` nor `tls_minimum` for a node",
        cannot_know="what protects the network between this machine and the nodes",
    ),
)
