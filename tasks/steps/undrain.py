"""The step `undrain`: puts the node back into its balancer when it works; runs whatever happened to the node before.

Whether it is owed is decided by evidence: our mark on the server, and what the balancer does with it.
"""

import time

from tasks.pools import Member, member_of
from tasks.step import Done, Work
from tasks.steps.drain import PAUSE
from workers.balancers.port import ServerState
from workers.errors import BalancerFailed, LeftDrained, NodeError
from workers.records import Change

__all__ = ["undrain"]


def undrain(work: Work) -> Done:
    """Waits until the node works, puts it back, and waits until the balancer sends it requests.

    Raises:
        LeftDrained: it does not work in time; it stays out, with our mark: a later run puts it back.
        BalancerFailed: the balancer does not answer, refuses, or does not send it requests.
    """
    member = member_of(work)
    mark = (member.mark or member.noted()) if member else None
    if member is None or mark is None:
        return Done(message="nothing to put back")
    work.report_phase("observing")
    if member.seen().state is ServerState.READY:
        member.remove_mark()
        return Done(message="it gets requests already")
    _require_health(work, member, must_listen=mark.listened and _distributes(work))
    member.balancer.undrain(member.server)
    state = _settled(member)
    if state is not ServerState.DRAINING:
        member.remove_mark()
    if state is not ServerState.READY:
        raise BalancerFailed(
            f"{work.node.name} was put back, and its balancer sends it no requests after "
            f"{member.spec.healthy_within:g} s: it is {state}",
            remedy="look at the balancer and at its health check of this server",
        )
    return Done(
        changes=(Change(what=f"server {member.server} put back", before="draining", after="ready"),),
        message="it works and gets requests",
    )


def _distributes(work: Work) -> bool:
    """Whether the service has to listen after the run: one that is rolled back or retired may have no port."""
    return not work.retires and work.documents.family_digests() is not None


def _require_health(work: Work, member: Member, *, must_listen: bool) -> None:
    """Waits until the node works. A service that did not listen before need not listen after a step that failed.

    Raises:
        LeftDrained: it does not in time.
    """
    until = time.monotonic() + member.spec.healthy_within
    while lacks := _lacks(member, must_listen=must_listen):
        if time.monotonic() >= until:
            raise LeftDrained(
                f"{work.node.name} is left out of its balancer: {lacks}, watched for {member.spec.healthy_within:g} s",
                remedy=f"repair {work.node.name}, then retry: it puts the server back",
            )
        time.sleep(PAUSE)


def _lacks(member: Member, *, must_listen: bool) -> str:
    """What keeps the node from working; a node that cannot be asked does not work."""
    try:
        return member.lacks(must_listen=must_listen)
    except NodeError as error:
        return error.message


def _settled(member: Member) -> ServerState:
    """What the balancer does with the node in the end."""
    until = time.monotonic() + member.spec.healthy_within
    while (state := member.seen().state) is not ServerState.READY and time.monotonic() < until:
        time.sleep(PAUSE)
    return state
