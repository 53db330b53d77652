"""The step `pool_check`: asks the balancer of the node's pool about the node; changes nothing."""

from tasks.pools import Member, member_of
from tasks.step import Done, Work
from tasks.step_values import Purpose
from workers.balancers.port import ServerState
from workers.errors import BalancerFailed

__all__ = ["pool_check"]


def pool_check(work: Work) -> Done:
    """Says what the balancer does with the node, and keeps that one with our mark gets requests again.

    Raises:
        BalancerFailed: before the first rollout: the balancer does not answer, or does not know the node.
    """
    member = member_of(work)
    if member is None:
        return Done(message="its pool has no balancer")
    work.report_phase("observing")
    try:
        return Done(message=_asked(work, member))
    except BalancerFailed as error:
        if work.purpose is Purpose.EXAMINE:
            raise
        return Done(message=f"not known: {error.message}")


def _asked(work: Work, member: Member) -> str:
    seen, mark = member.seen(), member.mark
    if mark is not None and seen.state is ServerState.READY:
        work.documents.keep_back(work.node.name)
    elif mark is None and seen.state is ServerState.DRAINING and (mark := member.noted()):
        work.documents.keep_left(work.node.name, str(mark))
    sessions = "" if seen.sessions is None else f", {seen.sessions} sessions"
    said = f"its balancer says {seen.state}{sessions}"
    health = "" if seen.state is not ServerState.READY else member.lacks(must_listen=False)
    return "; ".join(filter(None, (said, str(mark or ""), health)))
