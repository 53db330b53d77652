"""The step `load_balance`: the refresh of the other servers of a pool is requested once, and its evidence is read.

The request is answered only after the refresh (ektron-facts 4.1), so it waits in a thread while the status is polled.
"""

from contextlib import suppress

from tasks.ektron.sync.answers import BalanceStatus, Entry
from tasks.ektron.sync.balance import PeerState, balance_ended, evidence_of
from tasks.ektron.sync.progress import since
from tasks.ektron.sync.seen import Refreshed, document_name
from tasks.ektron.wording import counted
from tasks.step import APPLYING, Done, Work
from tasks.syncing.handlers import SyncSite, site_of
from tasks.syncing.look import seen_of, site_place
from tasks.syncing.marks import kept, seconds_since
from tasks.syncing.waits import Part
from workers.errors import NodeError, NodeRefused
from workers.records import Change, DocumentKind, now
from workers.texts import cleaned

__all__ = ["load_balance"]

_MARK = "refresh"
_ANSWER = 2.0  #: seconds for a refusal, which comes at once


def load_balance(work: Work) -> Done:
    """Requests the refresh, or continues to watch it, for one part of the time.

    Raises:
        NodeRefused: the site refuses, the refresh fails, or it did not reach every server of the pool.
        NodeError: the site does not answer.
    """
    work.report_phase("observing")
    mark = kept(work, _MARK, Refreshed)
    site = site_of(work, site_place(work))
    if mark is None:
        _require_idle(work)
        mark = Refreshed(sent=now(), before=site.balance_status().entries)
        site.log_in()
        work.documents.keep(DocumentKind.SYNC_MARK, _MARK, mark.model_dump_json())
        work.report_phase(APPLYING)
        if _request(site, mark, Part(work, longest=_ANSWER)):
            # Its status may look like the one before: dates have seconds, and a refresh of few files takes less.
            mark = mark.model_copy(update={"before": ()})
            work.documents.keep(DocumentKind.SYNC_MARK, _MARK, mark.model_dump_json())
    return _watched(work, site, mark)


def _request(site: SyncSite, mark: Refreshed, part: Part) -> bool:
    """Sends the request. A refusal is answered at once; anything else after the refresh, which then has a status.

    Returns:
        Whether the answer has come: then the refresh has ended (ektron-facts 4.1).
    """
    request = site.start_balance()
    while True:
        answer = request.answer()
        if answer is not None and not (answer.success and answer.authorised):
            if since(mark.before, site.balance_status().entries):
                return False
            why = cleaned(answer.message, 300) or ("no reason was given" if answer.authorised else "not authorised")
            raise NodeRefused(
                f"{site.name} refuses the refresh: {why}",
                remedy="the user must be an administrator, LoadBalanced must be 1 in AssetManagement.config, and no "
                "server of the pool may have an unfinished status: docs/sync.md, rows 25 to 28",
            )
        if answer is not None or part.is_over:
            return answer is not None
        part.pause(0.25)


def _watched(work: Work, site: SyncSite, mark: Refreshed) -> Done:
    part, settings = Part(work), work.cluster.sync
    status = BalanceStatus(authorised=True)
    while True:
        with suppress(NodeError):
            status = site.balance_status()
        ended, late = _ended(status, mark.before), seconds_since(mark.sent) > settings.lasts
        if ended or late or part.is_over:
            break
        part.pause(settings.every)
    entries = since(mark.before, status.entries)
    seen = mark.model_copy(
        update={"entries": entries, "peers": evidence_of(entries, _peers(work)), "final": ended or late, "before": ()}
    )
    work.documents.keep(DocumentKind.SYNC, document_name(work.node.name, work.turn), seen.model_dump_json())
    return _concluded(work, seen, entries)


def _ended(status: BalanceStatus, before: tuple[Entry, ...]) -> bool:
    fresh = since(before, status.entries)
    return bool(fresh) and balance_ended(status.model_copy(update={"entries": fresh, "complete": False}))


def _concluded(work: Work, seen: Refreshed, entries: tuple[Entry, ...]) -> Done:
    if not seen.final:
        return Done(message="the refresh has not ended")
    left = [peer for peer in seen.peers if peer.state is not PeerState.REFRESHED]
    failure = next((entry for entry in entries if entry.failed), None)
    if not entries:
        raise NodeRefused(
            f"{work.node.name}: no status of a refresh appeared within {work.cluster.sync.lasts:g} s",
            remedy="the server is not set up for load balancing: esync explain " + work.node.name,
        )
    if left or failure:
        why = "; ".join(f"{peer.node}: {cleaned(peer.why, 150)}" for peer in left[:5])
        text = cleaned(failure.message or failure.code, 200) if failure else ""
        raise NodeRefused(
            f"{work.node.name}: the refresh did not reach {counted(len(left), 'server')} of the pool: {why or text}",
            remedy="check service and port 8732 of these servers: esync verify FILE",
        )
    names = counted(len(seen.peers), "other server")
    return Done(changes=(Change(what="load balancing refreshed"),), message=f"{names} of the pool refreshed")


def _peers(work: Work) -> tuple[str, ...]:
    """The other servers of the pool, as the cluster file has them."""
    return tuple(one.name for one in work.cluster.nodes if one.pool == work.node.pool and one.name != work.node.name)


def _require_idle(work: Work) -> None:
    """The product refuses while any server of the pool has an unfinished status (ektron-facts 4.4)."""
    for node in (work.node.name, *_peers(work)):
        seen = seen_of(work, node)
        if seen is not None and seen.balance is not None and seen.balance.entries and not balance_ended(seen.balance):
            raise NodeRefused(
                f"{node} has an unfinished load-balance status",
                remedy="wait for it; if nothing runs in truth: esync sync status FILE --clear-stale (docs/sync.md, "
                "rows 25 and 26)",
            )
