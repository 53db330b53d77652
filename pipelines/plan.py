"""The changes a run would make, as a value: a pure function of what was seen and what is wanted."""

import hashlib
import math
from collections.abc import Mapping, Sequence

from tasks.ektron.wanted import differences, restart_reason

from tasks.cluster import Cluster, Role
from tasks.ektron.certificates import Family
from tasks.ektron.facts import NodeFacts
from workers.records import Change, Record

__all__ = ["NodePlan", "Plan", "make_plan", "waves_of"]


class NodePlan(Record):
    """What one node needs. No changes and no restart: the node is already right."""

    node: str
    changes: tuple[Change, ...] = ()
    restart: str = ""  #: why the service has to be restarted; empty when it does not
    fingerprint: str  #: of what was seen on the node

    @property
    def empty(self) -> bool:
        """Whether the node needs nothing."""
        return not self.changes and not self.restart


class Plan(Record):
    """What a run would do: per node, and in which waves."""

    cluster: str
    nodes: tuple[NodePlan, ...]
    waves: tuple[tuple[str, ...], ...]
    family: dict[str, str]  #: kind -> hash of the certificate files that will be everywhere

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do anywhere."""
        return all(node.empty for node in self.nodes)

    @property
    def fingerprint(self) -> str:
        """Identifies the plan by everything it says."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def of(self, node: str) -> NodePlan | None:
        """The part of one node, if it is in the plan."""
        return next((part for part in self.nodes if part.node == node), None)

    @property
    def totals(self) -> str:
        """One line for people."""
        busy = [node for node in self.nodes if not node.empty]
        if not busy:
            return f"nothing to do: all {len(self.nodes)} nodes are as they should be"
        restarts = sum(1 for node in busy if node.restart)
        changes = sum(len(node.changes) for node in busy)
        return f"{changes} changes on {len(busy)} of {len(self.nodes)} nodes, {restarts} service restarts"


def make_plan(cluster: Cluster, facts: Mapping[str, NodeFacts], family: Family) -> Plan:
    """The plan for the nodes that were seen.

    Args:
        cluster: what is wanted.
        facts: what was seen, per node; a node that is not in here is not in the plan.
        family: the certificate files every node gets.
    """
    names = [name for name in cluster.node_names if name in facts]
    return Plan(
        cluster=cluster.name,
        nodes=tuple(_node_plan(cluster, facts[name], family) for name in names),
        waves=waves_of(cluster, names),
        family=dict(family.hashes),
    )


def _node_plan(cluster: Cluster, facts: NodeFacts, family: Family) -> NodePlan:
    needed = differences(
        facts, nodes=cluster.node_names, is_origin=cluster.is_origin(facts.node), hashes=family.hashes,
        thumbprint=family.thumbprint,
    )  # fmt: skip
    changes = tuple(Change(what=d.what, file=d.file, before=d.before, after=d.after) for d in needed)
    return NodePlan(
        node=facts.node,
        changes=changes,
        restart=restart_reason(facts, needed),
        fingerprint=facts.fingerprint(),
    )


def waves_of(cluster: Cluster, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Splits nodes into waves by the policy, in the file's order; staging pools go before production pools."""
    policy = cluster.policy.waves
    if not names:
        return ()
    if policy == "all":
        return (tuple(names),)
    if policy == "pools":
        return _by_pool(cluster, names)
    return _by_size(policy, names)


def _by_pool(cluster: Cluster, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    pools: dict[tuple[bool, str], list[str]] = {}
    for name in names:
        node = cluster.node(name)
        pools.setdefault((node.role is Role.PRODUCTION, node.pool), []).append(name)
    staging_first = sorted(pools, key=lambda pool: pool[0])
    return tuple(tuple(pools[pool]) for pool in staging_first)


def _by_size(sizes: Sequence[int | str], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """`[1, 5, "25%"]`: a share is of all nodes; what is left after the last size repeats that size."""
    waves: list[tuple[str, ...]] = []
    rest = list(names)
    for index in range(len(names)):
        size = str(sizes[min(index, len(sizes) - 1)])
        share = size.endswith("%")
        count = max(1, math.ceil(len(names) * int(size.rstrip("%")) / 100)) if share else int(size)
        waves.append(tuple(rest[:count]))
        rest = rest[count:]
        if not rest:
            break
    return tuple(waves)
