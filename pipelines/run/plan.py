"""The changes that a run would make, as a value, and the waves in which it makes them."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Sequence

from pydantic import field_validator

from tasks.cluster import Cluster, Role
from tasks.ektron.certificates.family import KINDS
from tasks.ektron.wording import all_are, counted, named, sized
from tasks.policy import FILE, POOL
from workers.records import Change, Record

__all__ = ["NodePlan", "Plan", "fewest_waves", "waves_of"]


_SESSION = 3  #: messages of a logon with the shell, and of the start of PowerShell
_EXCHANGE = 2  #: of a request with its reply


class NodePlan(Record):
    """What one node needs. A node without changes and without a restart is as it should be."""

    node: str
    changes: tuple[Change, ...] = ()
    restart: str = ""  #: why the service has to be restarted; empty when it does not
    files: int = 0  #: certificate files to write
    bytes: int = 0  #: what they have together
    leftovers: int = 0  #: keys and files of other servers and old folders that `--prune` would remove
    fingerprint: str  #: of what was seen on the node

    @property
    def messages(self) -> int:
        """WinRM messages for this node on a healthy connection, including its session and the last observation."""
        edits = any(change.file.casefold().endswith(".config") for change in self.changes)
        copies = any(not change.file.casefold().endswith(".config") for change in self.changes)
        looks = 1 if self.empty else 2  # a wave that begins more than a minute after the plan looks once more
        return _SESSION + _EXCHANGE * (looks + edits + copies + bool(self.restart))

    @property
    def empty(self) -> bool:
        """Whether the node needs nothing."""
        return not self.changes and not self.restart


class Plan(Record):
    """What a run would do on each node, and in which waves. A node on which nothing is left to do is in no wave."""

    cluster: str
    nodes: tuple[NodePlan, ...]
    waves: tuple[tuple[str, ...], ...]
    family: dict[str, str]  #: kind -> hash of the certificate files that will be everywhere
    notes: tuple[str, ...] = ()  #: why it would not begin; what it means for other sites, servers outside, silent nodes
    unseen: tuple[str, ...] = ()  #: nodes that could not be checked: they may need changes, too

    @field_validator("family")
    @classmethod
    def _in_one_order(cls, family: dict[str, str]) -> dict[str, str]:
        """A plan from a file with its keys in another order is the same plan."""
        return {kind: family[kind] for kind in (*KINDS, *sorted(family.keys() - set(KINDS))) if kind in family}

    @property
    def idle(self) -> frozenset[str]:
        """The nodes on which there is nothing to do: they are in no wave."""
        return frozenset(part.node for part in self.nodes) - self.wave_numbers().keys()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do anywhere."""
        return all(node.empty for node in self.nodes)

    @property
    def leftovers(self) -> int:
        """Keys and files that no node and no partner needs, and that this plan leaves alone."""
        return sum(node.leftovers for node in self.nodes)

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
        """One line for people; it names the nodes that could not be checked."""
        if self.unseen:
            seen = self.model_copy(update={"unseen": ()}).totals if self.nodes else "no node was checked"
            return f"{seen}; not checked: {named(self.unseen)}"
        busy = [node for node in self.nodes if not node.empty]
        if not busy:
            they = "it" if len(self.nodes) == 1 else "they"
            return f"nothing to do: {all_are(len(self.nodes))} as {they} should be"
        restarts = sum(1 for node in busy if node.restart)
        changes = sum(len(node.changes) for node in busy)
        files, size = sum(node.files for node in busy), sum(node.bytes for node in busy)
        return (
            f"{counted(changes, 'change')} on {len(busy)} of {counted(len(self.nodes), 'node')}, "
            f"{counted(files, 'file')} ({sized(size)}) to copy, {counted(restarts, 'service restart')}, "
            f"about {counted(sum(node.messages for node in busy), 'message')}"
        )


def waves_of(
    cluster: Cluster,
    names: Sequence[str],
    restarted: Collection[str],
    present: Sequence[str] = (),
    down: Collection[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """Splits nodes into waves by the policy; each node is in one.

    Args:
        cluster: the nodes, and the policy.
        names: of the nodes, in the order of the cluster file.
        restarted: those whose service is restarted. A wave has at most half of a pool of them, but at least one, unless
            the policy allows whole pools.
        present: the nodes of which a pool consists; without them `names`.
        down: those whose service does not run. They begin before the others of their pool, which serve alone till then.
    """
    if not names:
        return ()
    policy, ordered = cluster.policy, _down_first(cluster, _ordered(cluster, names), down)
    if policy.waves == "all":
        waves: tuple[tuple[str, ...], ...] = (tuple(ordered),)
    elif policy.waves == "pools":
        waves = _by_pool(cluster, ordered)
    else:
        waves = _by_size(policy.waves, ordered)
    if policy.whole_pool:
        return waves
    return _halves(cluster, present or names, waves, frozenset(restarted), frozenset(down))


def fewest_waves(cluster: Cluster, names: Sequence[str], present: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """As `waves_of`, in as few waves as the pools allow: whatever sizes the policy has, all pools at the same time.

    Args:
        cluster: the nodes, and the policy.
        names: of the nodes, in the order of the cluster file; the service of each is restarted.
        present: the nodes of which a pool consists, `names` among them.
    """
    together = (tuple(_ordered(cluster, names)),) if names else ()
    return together if cluster.policy.whole_pool else _halves(cluster, present, together, frozenset(names))


def _ordered(cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
    """The order of the policy. Equal values stand together, in the order in which the file has them first."""
    order = cluster.policy.order
    if order == FILE:
        return names
    values = {name: cluster.node(name).label(order) for name in names}
    places = {value: place for place, value in enumerate(dict.fromkeys(values.values()))}

    def place(name: str) -> tuple[bool, bool, int]:
        later = order == POOL and cluster.node(name).role is Role.PRODUCTION
        return (not values[name], later, places[values[name]])

    return sorted(names, key=place)


def _down_first(cluster: Cluster, names: Sequence[str], down: Collection[str]) -> Sequence[str]:
    """The same order, but at the places of a pool its nodes that are down stand first."""
    pools: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: name not in down):
        pools.setdefault(cluster.node(name).pool, []).append(name)
    turns = {pool: iter(members) for pool, members in pools.items()}
    return [next(turns[cluster.node(name).pool]) for name in names]


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


def _halves(
    cluster: Cluster,
    names: Sequence[str],
    waves: Sequence[Sequence[str]],
    restarted: Collection[str],
    down: Collection[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """The waves, split where one would restart more than half of a pool that works, or go below its floor."""
    sizes = Counter(cluster.node(name).pool for name in names if name not in down)
    most = {pool: max(1, min(size // 2, size - cluster.floor(pool))) for pool, size in sizes.items()}
    split: list[tuple[str, ...]] = []
    for wave in waves:
        parts: dict[int, list[str]] = {}
        restarts: Counter[str] = Counter()
        first = {cluster.node(name).pool for name in wave if name in down}
        for name in wave:
            pool, counts = cluster.node(name).pool, name in restarted and name not in down
            restarts[pool] += counts
            part = 0 if name in down else (counts and pool in first) + max(0, restarts[pool] - 1) // most[pool]
            parts.setdefault(part, []).append(name)
        split += [tuple(parts[part]) for part in sorted(parts)]
    return tuple(split)
