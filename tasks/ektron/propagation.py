"""Which servers a sync reaches: the answers of the procedure, and `unknown` where it gives none (ektron-facts 5)."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from tasks.ektron.facts import Fact
from tasks.ektron.refusals import Refused
from tasks.ektron.travel import never_travels

__all__ = ["Direction", "Propagation", "Reach", "Sync", "propagate"]


class Direction(StrEnum):
    """Which way a sync goes, seen from the server it is started on."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    BIDIRECTIONAL = "bidirectional"


class Reach(StrEnum):
    """Whether a server has the file afterwards."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Sync(Fact):
    """One sync: where it is started, and its direction."""

    start: str
    direction: Direction


class ServerAnswer(Fact):
    """Whether one server has the file, and why."""

    server: str
    reach: Reach
    why: str


class Propagation(Fact):
    """The answer for all servers, and who had better start the sync."""

    changed: str
    servers: tuple[ServerAnswer, ...]
    best: Sync
    advice: str
    cautions: tuple[str, ...] = ()

    def of(self, server: str) -> ServerAnswer:
        """The answer for one server; case does not count.

        Raises:
            KeyError: there is no such server.
        """
        for answer in self.servers:
            if answer.server.casefold() == server.casefold():
                return answer
        raise KeyError(server)


_NEVER = "no sync was started"
_FROM_CHANGED = "the sync starts on a server that has the change: the whole cluster and the other side get it"
_PULLED = "it fetched the file itself"
_NOT_PUSHED = "a download brings nothing to the other side; an upload has to follow"
_NOT_STATED = "no document says what happens then"
_EXPECTED = "not stated; it is expected to arrive, but do not rely on it"


def propagate(
    *,
    staging: Sequence[str],
    production: Sequence[str],
    changed: str,
    syncs: Sequence[Sync],
    unavailable: Sequence[str] = (),
    path: str = "",
) -> Propagation:
    """Who has a file that was changed on one staging server, after the syncs in order.

    Args:
        staging: servers of the staging cluster.
        production: servers of the production cluster.
        changed: where the file was changed.
        syncs: what was started, in order.
        unavailable: servers that are down meanwhile; 8.5 and later drop them silently (ektron-facts 5).
        path: the file below the site root, to say whether any sync carries it; may be empty.

    Raises:
        Refused: a server is none of these, or a sync is started where none may be.
    """
    names = {name.casefold(): name for name in (*staging, *production)}
    here = _known(names, changed)
    started = [Sync(start=_known(names, sync.start), direction=sync.direction) for sync in syncs]
    _refuse_production(started, production)
    answers = dict.fromkeys(names.values(), (Reach.NO, _NEVER))
    answers[here] = (Reach.YES, "the file was changed here")
    stays = never_travels(path) if path else ""
    for sync in started:
        if stays:
            answers |= {name: (Reach.NO, stays) for name in answers if name != here}
        else:
            answers = _after(answers, sync, here, staging)
    down = {_known(names, name) for name in unavailable} - {here}
    answers |= dict.fromkeys(down, (Reach.NO, "it is down, and a dead server is skipped without a word"))
    return _answered(here, answers, started, staging, cautions=_cautions(here, staging))


def _after(
    answers: Mapping[str, tuple[Reach, str]], sync: Sync, changed: str, staging: Sequence[str]
) -> dict[str, tuple[Reach, str]]:
    """The state after one more sync; nobody loses the file, and what was open stays open."""
    if answers[sync.start][0] is Reach.YES:
        spread = _started_with_it(sync, changed, answers)
    else:
        spread = _started_without_it(sync, answers, staging)
    return {name: _better(old, spread.get(name, old)) for name, old in answers.items()}


def _better(old: tuple[Reach, str], new: tuple[Reach, str]) -> tuple[Reach, str]:
    order = (Reach.NO, Reach.UNKNOWN, Reach.YES)
    return old if old[0] is Reach.YES or order.index(old[0]) > order.index(new[0]) else new


def _started_with_it(sync: Sync, changed: str, answers: Mapping[str, object]) -> dict[str, tuple[Reach, str]]:
    """Started on a server that has the file (procedure: initiate from the server on which the file was changed)."""
    if sync.direction is Direction.DOWNLOAD:
        return dict.fromkeys(answers, (Reach.UNKNOWN, _NOT_STATED)) if sync.start == changed else {}
    return dict.fromkeys(answers, (Reach.YES, _FROM_CHANGED))


def _started_without_it(
    sync: Sync, answers: Mapping[str, object], staging: Sequence[str]
) -> dict[str, tuple[Reach, str]]:
    """Started on a staging server that lacks the file."""
    if sync.direction is Direction.UPLOAD:
        return dict.fromkeys(answers, (Reach.UNKNOWN, _NOT_STATED))
    others = (Reach.UNKNOWN, _NOT_STATED)
    beyond = (Reach.NO, _NOT_PUSHED) if sync.direction is Direction.DOWNLOAD else (Reach.UNKNOWN, _EXPECTED)
    spread = {name: others if name in staging else beyond for name in answers}
    return {**spread, sync.start: (Reach.YES, _PULLED)}


def _answered(
    changed: str,
    answers: Mapping[str, tuple[Reach, str]],
    syncs: Sequence[Sync],
    staging: Sequence[str],
    cautions: tuple[str, ...],
) -> Propagation:
    servers = tuple(ServerAnswer(server=name, reach=reach, why=why) for name, (reach, why) in answers.items())
    if all(answer.reach is Reach.YES for answer in servers):
        advice = "every server has the file"
    elif changed in staging:
        advice = f"start an upload or bidirectional sync on {changed}, where the file was changed"
    else:
        advice = f"make the change on a staging server, such as {staging[0]}, and start the sync there"
    best = Sync(start=changed if changed in staging else staging[0], direction=_usual(syncs))
    return Propagation(changed=changed, servers=servers, best=best, advice=advice, cautions=cautions)


def _usual(syncs: Sequence[Sync]) -> Direction:
    """The direction the person had in mind, where it carries the change."""
    wanted = {sync.direction for sync in syncs}
    return Direction.BIDIRECTIONAL if Direction.BIDIRECTIONAL in wanted else Direction.UPLOAD


def _cautions(changed: str, staging: Sequence[str]) -> tuple[str, ...]:
    found = ["copies to other servers of a cluster arrive later: a fresh file may be missing for a while"]
    if len(staging) > 1:
        found.append("the staging servers are clustered: take one out of the balancer before the sync")
    if changed not in staging:
        found.append("templates may be changed on staging only, never on production")
    return tuple(found)


def _refuse_production(syncs: Sequence[Sync], production: Sequence[str]) -> None:
    for sync in syncs:
        if sync.start in production:
            raise Refused(
                f"a sync may not be started on {sync.start}, a production server",
                remedy="start it on a staging server (procedure, prerequisites)",
            )


def _known(names: Mapping[str, str], name: str) -> str:
    if name.casefold() not in names:
        raise Refused(f"there is no server {name!r}", remedy=f"use one of {', '.join(names.values())}")
    return names[name.casefold()]
