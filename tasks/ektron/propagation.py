"""Which servers a sync reaches: the answers of the procedure, or `unknown` where it has none (ektron-facts 5)."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from tasks.ektron.facts import Fact
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
    """One sync: the server on which it is started, and its direction."""

    start: str
    direction: Direction


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


_NEVER = "no sync was started"
_FROM_CHANGED = "the sync starts on a server that has the change: the whole cluster and the other side receive it"
_PULLED = "it downloaded the file itself"
_NOT_PUSHED = "a download does not copy to the other side; start an upload afterwards"
_NOT_STATED = "the documents do not describe this case"
_EXPECTED = "not documented; it should receive the file, but do not rely on it"


def propagate(
    *,
    staging: Sequence[str],
    production: Sequence[str],
    changed: str,
    syncs: Sequence[Sync],
    unavailable: Sequence[str] = (),
    path: str = "",
) -> Propagation:
    """Which servers have a changed file after the given syncs.

    Args:
        staging: servers of the staging cluster.
        production: servers of the production cluster.
        changed: the server on which the file was changed.
        syncs: the started syncs, in order.
        unavailable: servers that are down; 8.5 and later skip them without a message (ektron-facts 5).
        path: the file, relative to the site root, to decide whether any sync copies it; may be empty.

    Raises:
        Refused: a server is unknown, a sync is started on a production server, or there is no staging server.
    """
    if not staging:
        raise Refused(
            "no server of the cluster has the role staging, and every sync starts on a staging server",
            remedy="set `role: staging` for the servers on which changes are made, in the cluster file",
        )
    names = {name.casefold(): name for name in (*staging, *production)}
    here = _known(names, changed)
    started = [Sync(start=_known(names, sync.start), direction=sync.direction) for sync in syncs]
    _refuse_production(started, production)
    excluded = why_never_synced(path) if path else ""
    answers = dict.fromkeys(names.values(), (Reach.NO, excluded or _NEVER))
    answers[here] = (Reach.YES, "the file was changed here")
    for sync in () if excluded else started:
        answers = _after(answers, sync, here, staging)
    down = {_known(names, name) for name in unavailable} - {here}
    answers |= dict.fromkeys(down, (Reach.NO, "it is down, and a sync skips such a server without a message"))
    if excluded:
        return _carried_by_no_sync(here, answers)
    return _answered(here, answers, started, staging, cautions=_cautions(here, staging))


def _carried_by_no_sync(changed: str, answers: Mapping[str, tuple[Reach, str]]) -> Propagation:
    """The answer for a file that no sync copies: no sync is recommended."""
    others = [name for name in answers if name != changed]
    advice = f"change the file on each server itself: {', '.join(others)}" if others else "every server has the file"
    return Propagation(changed=changed, servers=_servers(answers), best=None, advice=advice)


def _servers(answers: Mapping[str, tuple[Reach, str]]) -> tuple[ServerAnswer, ...]:
    return tuple(ServerAnswer(server=name, reach=reach, why=why) for name, (reach, why) in answers.items())


def _after(
    answers: Mapping[str, tuple[Reach, str]], sync: Sync, changed: str, staging: Sequence[str]
) -> dict[str, tuple[Reach, str]]:
    """The state after one more sync. No server loses the file, and an unknown answer never becomes `no`."""
    if answers[sync.start][0] is Reach.YES:
        spread = _started_with_it(sync, changed, answers)
    else:
        spread = _started_without_it(sync, answers, staging)
    return {name: _better(old, spread.get(name, old)) for name, old in answers.items()}


def _better(old: tuple[Reach, str], new: tuple[Reach, str]) -> tuple[Reach, str]:
    order = (Reach.NO, Reach.UNKNOWN, Reach.YES)
    return old if old[0] is Reach.YES or order.index(old[0]) > order.index(new[0]) else new


def _started_with_it(sync: Sync, changed: str, answers: Mapping[str, object]) -> dict[str, tuple[Reach, str]]:
    """A sync started on a server that has the file (procedure: initiate from the server on which it was changed)."""
    if sync.direction is Direction.DOWNLOAD:
        return dict.fromkeys(answers, (Reach.UNKNOWN, _NOT_STATED)) if sync.start == changed else {}
    return dict.fromkeys(answers, (Reach.YES, _FROM_CHANGED))


def _started_without_it(
    sync: Sync, answers: Mapping[str, object], staging: Sequence[str]
) -> dict[str, tuple[Reach, str]]:
    """A sync started on a staging server that does not have the file."""
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
    servers = _servers(answers)
    if all(answer.reach is Reach.YES for answer in servers):
        advice = "every server has the file"
    elif changed in staging:
        advice = f"start an upload or bidirectional sync on {changed}, where the file was changed"
    else:
        advice = f"make the change on a staging server, such as {staging[0]}, and start the sync there"
    best = Sync(start=changed if changed in staging else staging[0], direction=_usual(syncs))
    return Propagation(changed=changed, servers=servers, best=best, advice=advice, cautions=cautions)


def _usual(syncs: Sequence[Sync]) -> Direction:
    """The direction that was asked for, if it copies the change to the other side; otherwise upload."""
    asked = {sync.direction for sync in syncs}
    return Direction.BIDIRECTIONAL if Direction.BIDIRECTIONAL in asked else Direction.UPLOAD


def _cautions(changed: str, staging: Sequence[str]) -> tuple[str, ...]:
    found = ["the other servers of a cluster receive copies later: a new file may be missing for a while"]
    if len(staging) > 1:
        found.append("the staging servers are clustered: remove one from the balancer before the sync")
    if changed not in staging:
        found.append("change templates on staging only, never on production")
    return tuple(found)


def _refuse_production(syncs: Sequence[Sync], production: Sequence[str]) -> None:
    for sync in syncs:
        if sync.start in production:
            raise Refused(
                f"{sync.start} is a production server, a sync must not be started there",
                remedy="start it on a staging server (procedure, prerequisites)",
            )


def _known(names: Mapping[str, str], name: str) -> str:
    if name.casefold() not in names:
        raise Refused(f"there is no server {name!r}", remedy=f"use one of {', '.join(names.values())}")
    return names[name.casefold()]
