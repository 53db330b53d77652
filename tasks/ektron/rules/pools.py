"""Servers and the balancers of their pools: what a run took out, it puts back."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.findings import Decision, Invariant, InvariantState, sentence

__all__ = ["POOL_RULES"]


def _none_left_out(cluster: ClusterFacts) -> Decision:
    """By our marks, so also of nodes that were not seen; without those that their balancer says are back."""
    left = {node: cluster.drained[node] for node in cluster.nodes if node in cluster.drained}
    if left:
        return Decision(InvariantState.REFUTED, sentence(left), left)
    return Decision(InvariantState.PROVEN, f"no node is marked as taken out, of {len(cluster.nodes)}")


POOL_RULES = (
    Invariant(
        id="pool.none-left-drained",
        statement="No server that a run of esync took out of its balancer is still out.",
        remedy="run a rollout, or retry the run: it puts the server back as soon as it works; one that "
        "you put back by hand is noticed",
        source="order of a wave: drain, change, restart, undrain",
        decide=_none_left_out,
        reads=("cluster.drained",),
        proves="each server on which esync has a mark gets requests again, or there is none",
        cannot_know="whether someone else took a server out",
    ),
)
