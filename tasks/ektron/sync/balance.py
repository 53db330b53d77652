"""Which servers of a pool a load-balance refresh has reached, by the entries of its status (ektron-facts 4.4, 5).

From 8.5 on the product drops an unavailable server from the chain without a message, so the servers that it names are
compared with the pool as the cluster file has it.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

from tasks.ektron.facts.values import Fact
from tasks.ektron.sync.answers import BalanceStatus, Entry

__all__ = ["PeerEvidence", "PeerState", "balance_ended", "evidence_of"]

_PERFORMING, _CHECKED = "syncperformingloadbalance", "synccheckingloadbalanceend"
_NOT_AVAILABLE = "syncloadbalancenotavailable"
_LAST = ("syncended", "syncfailed")


class PeerState(StrEnum):
    """What the entries show about one server."""

    REFRESHED = "refreshed"
    FAILED = "failed"
    UNFINISHED = "unfinished"  #: named, without an end
    NOT_NAMED = "not_named"  #: dropped without a message


class PeerEvidence(Fact):
    """One server of the pool, and the evidence that files have reached it."""

    node: str
    state: PeerState
    why: str


def balance_ended(status: BalanceStatus) -> bool:
    """Whether a refresh has ended: a failed one is complete, too."""
    codes = [entry.code.casefold() for entry in status.entries]
    return status.complete or (bool(codes) and codes[-1] in _LAST)


def evidence_of(entries: Sequence[Entry], peers: Sequence[str]) -> tuple[PeerEvidence, ...]:
    """The evidence about each server of the pool but the one that was asked.

    A server is refreshed when a later end of the check follows its entry, and no failure stands between them.

    Args:
        entries: of the status.
        peers: the names of the servers.
    """
    found: dict[str, PeerEvidence] = {}
    waiting: list[str] = []
    for entry in entries:
        code = entry.code.casefold()
        if code == _PERFORMING:
            named = _peer_in(entry.message, peers)
            waiting += [named] if named else []
        elif code == _CHECKED:
            found |= {peer: _of(peer, PeerState.REFRESHED, "named, and checked at the end") for peer in waiting}
            waiting = []
        elif entry.failed or code == _NOT_AVAILABLE:
            named = _peer_in(entry.message, peers)
            ended = [named] if named and named not in waiting else waiting
            found |= {peer: _of(peer, PeerState.FAILED, entry.message or entry.code) for peer in ended}
            waiting = [peer for peer in waiting if peer not in ended]
    found |= {peer: _of(peer, PeerState.UNFINISHED, "named, without an end") for peer in waiting}
    silent = "the product did not name it: from 8.5 on it drops a server that does not answer, without a message"
    return tuple(found.get(peer) or _of(peer, PeerState.NOT_NAMED, silent) for peer in peers)


def _of(peer: str, state: PeerState, why: str) -> PeerEvidence:
    return PeerEvidence(node=peer, state=state, why=why)


def _peer_in(message: str, peers: Sequence[str]) -> str:
    """The server that a message names, alone, in a host name or in a sentence; empty if it names none of these."""
    words = {word.casefold() for word in re.findall(r"[A-Za-z0-9_-]+", message)}
    return next((peer for peer in peers if peer.casefold() in words), "")
