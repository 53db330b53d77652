"""Which servers a sync reaches: the answers of the procedure, or `unknown` where it has none (ektron-facts 5)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from tasks.ektron.facts.values import Fact
from tasks.ektron.refusals import Refused
from tasks.ektron.sync_exclusions import why_never_synced

__all__ = ["Direction", "Propagation", "Reach", "Sync", "propagate"]


class Direction(StrEnum):
    """Direction of a sync, seen from the server on which it is started."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    BIDIRECTIONAL = "bidirectional"


class Reach(StrEnum):
    """Whether a server has the file after the syncs."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Sync(Fact):
    """One sync: the server on which it is started, its direction, and the pool at its other end.

    Attributes:
        to: that pool; empty when there is only one other pool, or when it is not known.
    """

    start: str
    direction: Direction
    to: str = ""


class ServerAnswer(Fact):
    """Whether one server has the file, and why."""

    server: str
    reach: Reach
    why: str


class Propagation(Fact):
    """The answer for all servers, and the recommended sync; None for a file that no sync copies."""

    changed: str
    servers: tuple[ServerAnswer, ...]
    best: Sync | None
    advice: str
    cautions: tuple[str, ...] = ()


Answers = Mapping[str, tuple[Reach, str]]

_NEVER = "no sync was started"
_FROM_CHANGED = "the sync starts on a server that has the change: its whole pool and the other end receive it"
_PULLED = "it downloaded the file itself"
_NOT_PUSHED = "a download does not copy to the other end; start an upload afterwards"
_NOT_STATED = "the documents do not describe this case"
_EXPECTED = "not documented; it should receive the file, but do not rely on it"
_DOWN = "it is down, and a sync skips such a server without a message"
_WHICH_END = "a sync is between two databases: whether this pool is the other end depends on the profile"


@dataclass(frozen=True)
class _Servers:
    """The servers of both roles. A pool is a load-balance cluster with one database (ektron-facts 10)."""

    staging: tuple[str, ...]
    production: tuple[str, ...]
    pools: Mapping[str, str]

    @cached_property
    def names(self) -> dict[str, str]:
        """Any spelling, in lower case -> the name."""
        return {name.casefold(): name for name in (*self.staging, *self.production)}

    def known(self, name: str) -> str:
        """The server of that name, ignoring case.

        Raises:
            Refused: there is none.
        """
        if name.casefold() not in self.names:
            raise Refused(f"there is no server {name!r}", remedy=f"use one of {', '.join(self.names.values())}")
        return self.names[name.casefold()]

    def pool(self, name: str) -> str:
        """The pool of a server; by default all servers of a role are one pool."""
        return self.pools.get(name, "staging" if name in self.staging else "production")

    def others(self, name: str) -> tuple[str, ...]:
        """The other pools than that of a server, in the order of the servers."""
        pools = dict.fromkeys(self.pool(other) for other in self.names.values())
        return tuple(pool for pool in pools if pool != self.pool(name))

    def sync(self, sync: Sync) -> Sync:
        """The sync with the name of its server, and with the only pool that its other end can be.

        Raises:
            Refused: the server or the pool is unknown, or the server is a production server.
        """
        start = self.known(sync.start)
        if start in self.production:
            raise Refused(
                f"{start} is a production server, a sync must not be started there",
                remedy="start it on a staging server (procedure, prerequisites)",
            )
        others = self.others(start)
        if sync.to and sync.to not in others:
            raise Refused(
                f"{sync.to!r} cannot be the other end of a sync on {start}: that is another pool",
                remedy=f"use one of {', '.join(others)}" if others else "there is no other pool",
            )
        return Sync(start=start, direction=sync.direction, to=sync.to or (others[0] if len(others) == 1 else ""))


def propagate(
    *,
    staging: Sequence[str],
    production: Sequence[str],
    changed: str,
    syncs: Sequence[Sync],
    unavailable: Sequence[str] = (),
    path: str = "",
    pools: Mapping[str, str] | None = None,
) -> Propagation:
    """Which servers have a changed file after the given syncs.

    Args:
        staging: servers with the role staging.
        production: servers with the role production.
        changed: the server on which the file was changed.
        syncs: the started syncs, in order.
        unavailable: servers that are down; 8.5 and later skip them without a message (ektron-facts 5).
        path: the file, relative to the site root, to decide whether any sync copies it; may be empty.
        pools: server -> its pool, whose servers share one database; by default each role is one pool.

    Raises:
        Refused: a server or pool is unknown, a sync is started on a production server, or there is no staging server.
    """
    if not staging:
        raise Refused(
            "no server of the cluster has the role staging, and every sync starts on a staging server",
            remedy="set `role: staging` for the servers on which changes are made, in the cluster file",
        )
    servers = _Servers(tuple(staging), tuple(production), pools or {})
    here = servers.known(changed)
    started = [servers.sync(sync) for sync in syncs]
    excluded = why_never_synced(path) if path else ""
    answers: Answers = dict.fromkeys(servers.names.values(), (Reach.NO, excluded or _NEVER))
    answers = {**answers, here: (Reach.YES, "the file was changed here")}
    for sync in () if excluded else started:
        answers = _after(answers, sync, here, servers)
    down = {servers.known(name) for name in unavailable} - {here}
    answers = {
        **answers,
        **dict.fromkeys(down, (Reach.NO, _DOWN)),
    }
    if excluded:
        return _carried_by_no_sync(here, answers)
    return _answered(here, answers, started, servers)


def _carried_by_no_sync(changed: str, answers: Answers) -> Propagation:
    """The answer for a file that no sync copies: no sync is recommended."""
    others = [name for name in answers if name != changed]
    advice = f"change the file on each server itself: {', '.join(others)}" if others else "every server has the file"
    return Propagation(changed=changed, servers=_servers(answers), best=None, advice=advice)


def _servers(answers: Answers) -> tuple[ServerAnswer, ...]:
    return tuple(ServerAnswer(server=name, reach=reach, why=why) for name, (reach, why) in answers.items())


def _after(answers: Answers, sync: Sync, changed: str, servers: _Servers) -> dict[str, tuple[Reach, str]]:
    """The state after one more sync. No server loses the file, and an unknown answer never becomes `no`."""
    own = [name for name in answers if servers.pool(name) == servers.pool(sync.start)]
    end = [name for name in answers if name not in own and sync.to in {"", servers.pool(name)}]
    if answers[sync.start][0] is Reach.YES:
        spread = _started_with_it(sync, changed, own, end)
    else:
        spread = _started_without_it(sync, own, end, _source(answers, own, end, sure=bool(sync.to)))
    return {name: _better(old, spread.get(name, old)) for name, old in answers.items()}


def _source(answers: Answers, own: Sequence[str], end: Sequence[str], *, sure: bool) -> Reach:
    """Whether one of the two databases, or a server of its pool, has the file. Not `sure`: the other end is unknown."""
    here, there = ({answers[name][0] for name in names} for names in (own, end))
    if Reach.YES in here or (sure and Reach.YES in there):
        return Reach.YES
    return Reach.NO if here | there <= {Reach.NO} else Reach.UNKNOWN


def _better(old: tuple[Reach, str], new: tuple[Reach, str]) -> tuple[Reach, str]:
    order = (Reach.NO, Reach.UNKNOWN, Reach.YES)
    return old if old[0] is Reach.YES or order.index(old[0]) > order.index(new[0]) else new


def _started_with_it(sync: Sync, changed: str, own: Sequence[str], end: Sequence[str]) -> dict[str, tuple[Reach, str]]:
    """A sync started on a server that has the file (procedure: initiate from the server on which it was changed)."""
    if sync.direction is Direction.DOWNLOAD:
        return dict.fromkeys([*own, *end], (Reach.UNKNOWN, _NOT_STATED)) if sync.start == changed else {}
    beyond = (Reach.YES, _FROM_CHANGED) if sync.to else (Reach.UNKNOWN, _WHICH_END)
    return {**dict.fromkeys(end, beyond), **dict.fromkeys(own, (Reach.YES, _FROM_CHANGED))}


def _started_without_it(
    sync: Sync, own: Sequence[str], end: Sequence[str], source: Reach
) -> dict[str, tuple[Reach, str]]:
    """A sync started on a staging server that does not have the file; where neither end has it, nothing changes."""
    if source is Reach.NO:
        return {}
    if sync.direction is Direction.UPLOAD or source is Reach.UNKNOWN:
        return dict.fromkeys([*own, *end], (Reach.UNKNOWN, _NOT_STATED if sync.to else _WHICH_END))
    beyond = (Reach.NO, _NOT_PUSHED) if sync.direction is Direction.DOWNLOAD else (Reach.UNKNOWN, _EXPECTED)
    others = dict.fromkeys(own, (Reach.UNKNOWN, _NOT_STATED))
    return {**dict.fromkeys(end, beyond), **others, sync.start: (Reach.YES, _PULLED)}


def _answered(changed: str, answers: Answers, syncs: Sequence[Sync], servers: _Servers) -> Propagation:
    rows = _servers(answers)
    start = changed if changed in servers.staging else servers.staging[0]
    others = servers.others(start)
    if all(answer.reach is Reach.YES for answer in rows):
        advice = "every server has the file"
    elif changed in servers.staging:
        advice = f"start an upload or bidirectional sync on {changed}, where the file was changed"
        advice += f", to each of the pools {', '.join(others)}" if len(others) > 1 else ""
    else:
        advice = f"make the change on a staging server, such as {start}, and start the sync there"
    best = Sync(start=start, direction=_usual(syncs))
    return Propagation(changed=changed, servers=rows, best=best, advice=advice, cautions=_cautions(changed, servers))


def _usual(syncs: Sequence[Sync]) -> Direction:
    """The direction that was asked for, if it copies the change to the other side; otherwise upload."""
    asked = {sync.direction for sync in syncs}
    return Direction.BIDIRECTIONAL if Direction.BIDIRECTIONAL in asked else Direction.UPLOAD


def _cautions(changed: str, servers: _Servers) -> tuple[str, ...]:
    found = ["the servers of a pool share its database, but receive files later: a new file may be missing for a while"]
    if max(Counter(map(servers.pool, servers.staging)).values()) > 1:
        found.append("the staging servers are clustered: remove one from the balancer before the sync")
    if changed not in servers.staging:
        found.append("change templates on staging only, never on production")
    return tuple(found)
