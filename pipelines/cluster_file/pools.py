"""Mistakes in what a cluster file says about pools and their balancers, which no schema finds. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipelines.cluster_file.mistakes import did_you_mean
from pipelines.cluster_file.positions import Mapping, Path
from tasks.cluster import Cluster

__all__ = ["Found", "late_mistakes", "pool_mistakes"]

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


def _unknown(path: Path, message: str, word: str, known: Sequence[str]) -> Found:
    allowed = ", ".join(known[:_NAMES]) + (", ..." if len(known) > _NAMES else "")
    return Found(path, message, allowed, did_you_mean(word, known))


def _texts(nodes: Sequence[Mapping], key: str) -> list[str]:
    return list(dict.fromkeys(value for node in nodes if isinstance(value := node.get(key), str)))


def _mapping(part: object) -> Mapping:
    return part if isinstance(part, dict) else {}
