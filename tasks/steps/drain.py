"""The step `drain`: takes the node out of the balancer of its pool before its services restart.

A node that needs nothing stays in. One that an operator took out stays out: only what has our mark is put back.
"""

import time

from tasks.pools import Member, member_of
from tasks.step import Done, Work
from workers.balancers.port import ServerState
from workers.errors import BalancerFailed, Cancelled, PoolTooSmall
from workers.records import Change

__all__ = ["PAUSE", "drain"]

PAUSE = 0.2  #: seconds between two looks at the balancer


def drain(work: Work) -> Done:
    """Takes the node out, and waits until its sessions have ended, or for as long as the cluster file says.

    Raises:
        PoolTooSmall: too few other servers of the pool get requests, for too long.
        BalancerFailed: the balancer does not answer, refuses, or does not take the node out in time.
        Cancelled: the run was cancelled meanwhile; the node is in, or has our mark.
    """
    member = member_of(work)
    if member is None:
        return Done(message="its pool has no balancer")
    if work.documents.is_right(work.node.name):
        return Done(message="it needs nothing, so it is not taken out")
    work.report_phase("observing")
    seen = member.seen()
    if seen.state is ServerState.DRAINING:
        mark = member.mark or member.noted()
        if mark is None:
            return Done(message="someone else took it out of its balancer; it stays out")
        member.keep_mark(listened=mark.listened)
        return Done(message=f"it is out already: {mark}; {_emptied(work, member)}")
    _taken_out(work, member)
    change = Change(what=f"server {member.server} drained", before=seen.state.value, after="draining")
    return Done(changes=(change,), message=_emptied(work, member))


def _taken_out(work: Work, member: Member) -> None:
    """Waits for its turn, and until the balancer sends no new requests."""
    bound = member.spec.room_within
    until = time.monotonic() + bound
    while short := member.take_out():
        _require_going(work)
        if time.monotonic() >= until:
            raise PoolTooSmall(
                f"{work.node.name} was not taken out of its balancer, watched for {bound:g} s: {short}",
                remedy="bring the other servers of the pool back, or lower min_healthy; then retry",
            )
        time.sleep(PAUSE)
    bound = member.spec.drained_within
    until = time.monotonic() + bound
    while member.seen().state is ServerState.READY:
        _require_going(work)
        if time.monotonic() >= until:
            member.balancer.undrain(member.server)
            member.remove_mark()
            raise BalancerFailed(
                f"{work.node.name} still gets requests {bound:g} s after it was to be taken out of its balancer",
                remedy="look at the balancer, then retry",
            )
        time.sleep(PAUSE)


def _require_going(work: Work) -> None:
    if work.cancelled():
        raise Cancelled(f"{work.node.name}: cancelled while it waited for its balancer")


def _emptied(work: Work, member: Member) -> str:
    """Waits for the end of its sessions; what was found, for people."""
    sessions = member.seen().sessions
    if sessions is None:
        _rested(work, member.spec.noticed_after)
        return f"out of its balancer, {member.spec.noticed_after:g} s for the balancer to notice"
    began = time.monotonic()
    while sessions and time.monotonic() - began < member.spec.drained_within and not work.cancelled():
        time.sleep(PAUSE)
        sessions = member.seen().sessions
    waited = f"after {time.monotonic() - began:.1f} s"
    return f"out of its balancer, {sessions} sessions were open {waited}" if sessions else f"out, no session {waited}"


def _rested(work: Work, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not work.cancelled():
        time.sleep(min(left, PAUSE))
