"""The changes that a run would make, as a value: a pure function of the facts and the desired state."""

import hashlib
import math
from collections.abc import Mapping, Sequence

from pydantic import field_validator

from tasks.cluster import Cluster, Role
from tasks.documents import FamilyDigests, changes_of, target_of
from tasks.ektron.certificates.family import KINDS
from tasks.ektron.desired.node import READ_ONLY_REMEDY, differences, read_only, service_reason
from tasks.ektron.desired.places import copies
from tasks.ektron.desired.target import Target
from tasks.ektron.facts import NodeFacts
from tasks.ektron.wording import all_are, counted
from workers.records import Change, Record

__all__ = ["NodePlan", "Plan", "make_plan", "unwritable", "waves_of", "worst_case"]


_ALWAYS = 18  #: logon and shell, two observations before, one of the certificate folders, one copy, one at the end


class NodePlan(Record):
    """What one node needs. A node without changes and without a restart is as it should be."""

    node: str
    changes: tuple[Change, ...] = ()
    restart: str = ""  #: why the service has to be restarted; empty when it does not
    files: int = 0  #: certificate files to write
    bytes: int = 0  #: what they have together
    fingerprint: str  #: of what was seen on the node

    @property
    def messages(self) -> int:
        """WinRM messages for this node on a healthy connection, including its session and the last observation."""
        edits = 4 if any(change.file.casefold().endswith(".config") for change in self.changes) else 2
        return _ALWAYS + edits + (6 if self.restart else 2)

    @property
    def empty(self) -> bool:
        """Whether the node needs nothing."""
        return not self.changes and not self.restart


class Plan(Record):
    """What a run would do on each node, and in which waves."""

    cluster: str
    nodes: tuple[NodePlan, ...]
    waves: tuple[tuple[str, ...], ...]
    family: dict[str, str]  #: kind -> hash of the certificate files that will be everywhere

    @field_validator("family")
    @classmethod
    def _in_one_order(cls, family: dict[str, str]) -> dict[str, str]:
        """A plan from a file with its keys in another order is the same plan."""
        return {kind: family[kind] for kind in (*KINDS, *sorted(family.keys() - set(KINDS))) if kind in family}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do anywhere."""
        return all(node.empty for node in self.nodes)

    @property
    def fingerprint(self) -> str:
        """Digest of everything in the plan."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def parts(self) -> dict[str, NodePlan]:
        """The part of each node, by its name."""
        return {part.node: part for part in self.nodes}

    def wave_numbers(self) -> dict[str, int]:
        """The number of each node's wave, from 1; a node may be in none."""
        return {node: number for number, wave in enumerate(self.waves, 1) for node in wave}

    @property
    def totals(self) -> str:
        """One line for people."""
        busy = [node for node in self.nodes if not node.empty]
        if not busy:
            they = "it" if len(self.nodes) == 1 else "they"
            return f"nothing to do: {all_are(len(self.nodes))} as {they} should be"
        restarts = sum(1 for node in busy if node.restart)
        changes = sum(len(node.changes) for node in busy)
        files, size = sum(node.files for node in busy), sum(node.bytes for node in busy)
        return (
            f"{counted(changes, 'change')} on {len(busy)} of {counted(len(self.nodes), 'node')}, "
            f"{counted(files, 'file')} of {size / 1000:.1f} kB to copy, {counted(restarts, 'service restart')}, "
            f"about {sum(node.messages for node in busy)} messages"
        )


def make_plan(cluster: Cluster, facts: Mapping[str, NodeFacts], family: FamilyDigests) -> Plan:
    """The plan for the nodes that were observed.

    Args:
        cluster: the nodes, and the policy.
        facts: per node; a node without facts is not in the plan.
        family: the certificate files that every node gets.
    """
    names = [name for name in cluster.node_names if name in facts]
    return Plan(
        cluster=cluster.name,
        nodes=tuple(_node_plan(facts[name], target_of(cluster, name, family), family) for name in names),
        waves=waves_of(cluster, names),
        family=dict(family.hashes),
    )


def unwritable(plan: Plan, facts: Mapping[str, NodeFacts]) -> str:
    """The first file that the plan would change and that is read-only, for people; empty when there is none."""
    for part in plan.nodes:
        changed = {change.file for change in part.changes}
        for path in facts[part.node].readonly_configurations:
            if path in changed:
                return f"{read_only(part.node)} ({path}); {READ_ONLY_REMEDY}"
    return ""


def _node_plan(facts: NodeFacts, target: Target, family: FamilyDigests) -> NodePlan:
    needed = differences(facts, target)
    files = copies(facts, target)
    return NodePlan(
        node=facts.node,
        changes=changes_of(needed),
        files=files.total(),
        bytes=sum(family.sizes[kind] * count for kind, count in files.items()),
        restart=service_reason(facts, needed),
        fingerprint=facts.fingerprint(),
    )


def worst_case(cluster: Cluster, waves: Sequence[Sequence[str]]) -> float:
    """Seconds that a run takes at most: when every step of every wave uses up its deadline."""
    step, concurrency = cluster.policy.deadlines.step, cluster.policy.concurrency
    rounds = sum(math.ceil(len(wave) / concurrency) for wave in waves)
    every_node = math.ceil(len(cluster.nodes) / concurrency)
    return min(cluster.policy.deadlines.run, step * (1 + 2 * every_node + 4 * rounds))


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
