"""Mistakes in what a cluster file says about pools, their balancers and waves, which no schema finds. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipelines.cluster_file.mistakes import did_you_mean
from pipelines.cluster_file.positions import Mapping, Path
from tasks.cluster import Cluster
from tasks.ektron.wording import counted

__all__ = ["Found", "late_mistakes", "pool_mistakes", "without_effect"]

_NAMES = 12  #: in a message


class Found(NamedTuple):
    """A mistake at a key."""

    path: Path
    message: str
    allowed: str = ""
    hint: str = ""


def pool_mistakes(data: Mapping) -> Iterator[Found]:
    """Names that no node has: pools, and servers of a balancer."""
    nodes = data.get("nodes")
    known = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    pools, names = _texts(known, "pool"), _texts(known, "name")
    policy = _mapping(data.get("policy"))
    for path, mapping in (("balancers",), data.get("balancers")), (("policy", "pools"), policy.get("pools")):
        for pool in _mapping(mapping):
            if pool not in pools:
                yield _unknown((*path, pool), "is not the pool of any node", pool, pools)
    for pool, balancer in _mapping(data.get("balancers")).items():
        for name in _mapping(_mapping(balancer).get("servers")):
            if name not in names:
                yield _unknown(("balancers", pool, "servers", name), "is not the name of a node", name, names)


def late_mistakes(cluster: Cluster) -> Iterator[Found]:
    """What cannot work although every value is allowed: a floor without room, times longer than a step."""
    for pool, policy in cluster.policy.pools.items():
        size = len(cluster.pool_members(pool))
        if size and policy.floor(size) >= size:
            message = f"leaves no server that may be taken out: the pool has {size}"
            yield Found(("policy", "pools", pool, "min_healthy"), message, f"less than {size}, or a lower percentage")
    for pool, balancer in cluster.balancers.items():
        step = cluster.policy.deadlines.step
        if balancer.longest > step:
            message = (
                f"its times add up to {balancer.longest:g} s, more than policy.deadlines.step ({step:g} s), of which "
                "they are a part"
            )
            yield Found(("balancers", pool), message)


def without_effect(cluster: Cluster) -> Iterator[Found]:
    """Limits that no run can exceed, and holds that no run comes to. Allowed: a policy may be that of many clusters."""
    yield from _limits(cluster)
    yield from _holds(cluster)
    for pool in cluster.policy.pools:
        if pool not in cluster.balancers:
            yield Found(("policy", "pools", pool), "has no effect: the pool has no balancer", "pools of `balancers`")


def _limits(cluster: Cluster) -> Iterator[Found]:
    policy, nodes = cluster.policy, len(cluster.nodes)
    for key in ("max_failed", "max_unreachable"):
        limit = getattr(policy, key)
        if isinstance(limit, int) and limit > nodes:
            message = f"{limit} limits nothing: the cluster has {counted(nodes, 'node')}"
            yield Found(("policy", key), message, f'0 to {nodes}, or a percentage such as "10%"')
    of_run, of_wave = min(nodes, policy.allowed_failures(nodes)), policy.max_failed_per_wave
    if isinstance(of_wave, int) and of_wave > of_run:
        message = f"{of_wave} limits nothing: a run stops when more than {of_run} failed (policy.max_failed)"
        yield Found(("policy", "max_failed_per_wave"), message, f"0 to {of_run}, or a larger max_failed")


def _holds(cluster: Cluster) -> Iterator[Found]:
    policy, pools = cluster.policy, Counter(node.pool for node in cluster.nodes)
    if policy.hold is None:
        if policy.hold_for is not None:
            yield Found(("policy", "hold_for"), "has no effect: no run waits without `hold`", "only beside `hold`")
        return
    whole = policy.whole_pool or max(pools.values()) == 1
    if len(cluster.nodes) > 1 and whole and _in_one_wave(policy.waves, len(cluster.nodes), len(pools)):
        message = "has no effect: all nodes are in the first wave"
        yield Found(("policy", "hold"), message, 'several waves, such as `waves: [1, "100%"]`')


def _in_one_wave(waves: str | tuple[int | str, ...], nodes: int, pools: int) -> bool:
    """Whether the first wave takes all nodes, where whole pools may go together."""
    if waves == "pools":
        return pools == 1
    first = "100%" if isinstance(waves, str) else str(waves[0])
    return first == "100%" or (first.isdecimal() and int(first) >= nodes)


def _unknown(path: Path, message: str, word: str, known: Sequence[str]) -> Found:
    allowed = ", ".join(known[:_NAMES]) + (", ..." if len(known) > _NAMES else "")
    return Found(path, message, allowed, did_you_mean(word, known))


def _texts(nodes: Sequence[Mapping], key: str) -> list[str]:
    return list(dict.fromkeys(value for node in nodes if isinstance(value := node.get(key), str)))


def _mapping(part: object) -> Mapping:
    return part if isinstance(part, dict) else {}
