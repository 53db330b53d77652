"""Which pool a wave would take down as a whole, because its other servers do not work. Pure."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pipelines.run.snapshot import Snapshot
from tasks.ektron.wording import named
from workers.records import DocumentKind

__all__ = ["Risk", "left_down", "not_running", "pool_at_risk", "pool_left_alone"]


def pool_left_alone(snapshot: Snapshot) -> str:
    """Why no wave may begin, for people: one would restart a pool of which only nodes that are left alone are down."""
    down = left_down(snapshot)
    for wave in snapshot.plan.waves if snapshot.plan and down else ():
        if risk := pool_at_risk(snapshot, wave, down, snapshot.ended().keys()):
            restarts, out = named(risk.restarts), named(risk.out)
            return (
                f"{restarts} would be restarted, and no other server of pool {risk.pool} is known to work: "
                f"{not_running(risk.out)}. Repair {out}, or select {out} as well, to be started first; or set "
                "policy.whole_pool"
            )
    return ""


class Risk(NamedTuple):
    """A pool that a wave would take down as a whole: the servers that it restarts, and those that do not work."""

    pool: str
    restarts: list[str]
    out: list[str]


def pool_at_risk(
    snapshot: Snapshot, following: Sequence[str], down: Collection[str], unseen: Collection[str]
) -> Risk | None:
    """The first pool of which a wave would restart all servers that are neither down nor unseen, while some are down.

    Where none of those serves either, nothing is lost by their restart.

    Args:
        snapshot: the run.
        following: the nodes of the wave.
        down: those whose service does not run.
        unseen: those that count as no part of their pool.
    """
    policy, plan = snapshot.cluster.policy, snapshot.plan
    if policy.whole_pool or not policy.judge_waves or plan is None:
        return None
    parts = plan.parts()
    restarts = {node for node in following if parts[node].restart}
    for pool in dict.fromkeys(snapshot.cluster.node(node).pool for node in following):
        members = snapshot.cluster.pool_members(pool)
        out = [node for node in members if node in down]
        next_ones = [node for node in members if node in restarts]
        alone = out and next_ones and not {*members}.difference(out, next_ones, unseen)
        if alone and not _observed_down(snapshot).issuperset(next_ones):
            return Risk(pool, next_ones, out)
    return None


def left_down(snapshot: Snapshot) -> frozenset[str]:
    """The nodes that this run leaves alone, and whose service did not run when it looked at them."""
    return _observed_down(snapshot) - snapshot.selected if snapshot.record.only else frozenset()


def _observed_down(snapshot: Snapshot) -> frozenset[str]:
    seen = snapshot.documents.all_facts(DocumentKind.OBSERVED)
    return frozenset(node for node, facts in seen.items() if facts.service.state != "running")


def not_running(nodes: Sequence[str]) -> str:
    """That their service does not run, for a sentence."""
    return f"the service of {named(nodes)} is not running"
