"""Which nodes of a wave may begin while others are in work, and how long all waves take at most. Pure."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import count, product

from tasks.cluster import Cluster
from tasks.steering import Steering
from workers.records import RunRecord

__all__ = ["admitted", "ends_by_itself", "left_of_hold", "limits", "worst_case"]

_Shared = tuple[str, str]  #: a label and its value


def _longest_hold(record: RunRecord, held: str) -> float | None:
    """Seconds that a run waits for a person before that turn at most; None if it waits for a person only."""
    bound = record.spec.get("policy", {}).get("hold_for")
    return float(bound) if bound and held.startswith("wave") else None


def ends_by_itself(record: RunRecord, held: str) -> str:
    """That a run does not only wait for a person before that turn, and how long it waits in all; else empty."""
    bound = _longest_hold(record, held)
    return "" if bound is None else f"begins by itself after {bound:g} s (policy.hold_for)"


def left_of_hold(record: RunRecord, steering: Steering) -> float | None:
    """Seconds until a held run begins by itself; None if it is not held, or waits for a person only."""
    bound = None if steering.unapproved else _longest_hold(record, steering.held)
    return None if bound is None else max(0.0, bound - steering.waited)


def limits(cluster: Cluster, name: str) -> tuple[tuple[str, str], ...]:
    """The labels of a node that limit how many nodes are in work with it, each with its value."""
    node = cluster.node(name)
    return tuple((label, value) for label in cluster.policy.at_most if (value := node.label(label)))


def admitted(cluster: Cluster, nodes: Sequence[str], unfinished: Collection[str]) -> list[str]:
    """The unfinished nodes of a turn that may be in work now, by `policy.at_most`.

    A node may begin when of those nodes before it that have its label and are unfinished, fewer than k can be in work
    at the same time: of ten nodes of a site in one rack that allows one, that is one. So no record is needed of which
    nodes have begun: a node that may begin still may when others have finished, at most k of a label are in work among
    those that ever might, and the first unfinished node always may.

    Args:
        cluster: the nodes, and the policy.
        nodes: of the turn, in its order.
        unfinished: those that have steps left in it.
    """
    most = cluster.policy.at_most
    if not most:
        return [name for name in nodes if name in unfinished]
    seen: Counter[tuple[_Shared, _Shared]] = Counter()  #: nodes before this one that have both
    ahead: Counter[tuple[_Shared, str]] = Counter()  #: how many nodes of the first can be in work, by the second label
    ready = set()
    for name in _in_rounds(cluster, nodes):
        if name not in unfinished:
            continue
        shared = limits(cluster, name)
        if all(min(ahead[one, label] for label in most) < most[one[0]] for one in shared):
            ready.add(name)
        values = dict(shared)
        for one, label in product(shared, most):
            value = values.get(label, "")
            ahead[one, label] += not value or seen[one, (label, value)] < most[label]
            seen[one, (label, value)] += bool(value)
    return [name for name in nodes if name in ready]


def _in_rounds(cluster: Cluster, nodes: Sequence[str]) -> Sequence[str]:
    """The nodes round by round.

    In the order of the turn, a node that has to wait for one label would keep back others by its second one.
    """
    if len(cluster.policy.at_most) < 2:  # noqa: PLR2004 - then a round is a part of the order of the turn
        return nodes
    return sorted(nodes, key=_rounds(cluster, nodes).__getitem__)


def _rounds(cluster: Cluster, nodes: Sequence[str]) -> dict[str, int]:
    """Node -> the round, from 0, in which it could be in work if all took equally long: the first one with room."""
    most = cluster.policy.at_most
    room: Counter[_Shared] = Counter()  #: the first round that has room for this label
    taken: Counter[tuple[int, _Shared]] = Counter()
    rounds = {}
    for name in nodes:
        shared = limits(cluster, name)
        first = max((room[one] for one in shared), default=0)
        rounds[name] = next(n for n in count(first) if all(taken[n, one] < most[one[0]] for one in shared))
        for one in shared:
            taken[rounds[name], one] += 1
            room[one] = next(n for n in count(room[one]) if taken[n, one] < most[one[0]])
    return rounds


def worst_case(cluster: Cluster, waves: Sequence[Sequence[str]]) -> float:
    """Seconds that a run takes at most, without holds: every step, retry and look uses up its deadline."""
    policy = cluster.policy
    step, every_node = policy.deadlines.step, math.ceil(len(cluster.nodes) / policy.concurrency)
    turns = sum(_one_after_the_other(cluster, wave) for wave in waves)
    changes = (6 if cluster.balancers else 4) * (1 + policy.retry_in_wave) * turns
    looked_at = waves[:-1] if policy.judge_waves else ()
    again = {None: 0, "after-canary": 1, "after-each-wave": len(looked_at)}[policy.hold]
    looks = (1 + policy.retry_in_wave) * sum(math.ceil(len(wave) / policy.concurrency) for wave in looked_at)
    looks += sum(math.ceil(len(wave) / policy.concurrency) for wave in looked_at[:again])
    return min(policy.deadlines.run, step * (1 + 2 * every_node + changes + looks))


def _one_after_the_other(cluster: Cluster, wave: Sequence[str]) -> int:
    """How many nodes of a wave are in work one after the other at most, where all take equally long."""
    sizes = Counter(_rounds(cluster, wave).values())
    return sum(math.ceil(size / cluster.policy.concurrency) for size in sizes.values())
