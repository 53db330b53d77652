"""Runs that were requested together, a few at a time: whose turn it is. Pure.

A group is made of ids alone: those of its runs end in the group, how many work at a time, and a place:
`20261123-191500-four-servers-7f3a1c22_8_0012`. Runs are created in the order of their places. The first so many that
are not concluded may work, and a run never loses its turn, because the runs ahead of it only become fewer. So
every process decides alone, also by old knowledge, and two of them can never begin too many.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

__all__ = ["AT_MOST", "MOST", "Place", "in_line", "is_group", "is_member", "next_ones", "waits_for"]

AT_MOST = 8  #: runs of a group at the same time, if the request does not say
MOST = 10_000  #: runs of one group
_PLACE = re.compile(r"-([0-9a-f]{8})_([0-9]{1,5})_([0-9]{4,6})\Z")


class Place(NamedTuple):
    """The place of a run in its group. `at_most` is how many runs of the group may run at a time."""

    group: str  #: eight hex digits
    at_most: int
    number: int

    def __str__(self) -> str:
        return f"{self.group}_{self.at_most}_{self.number:04}"

    @classmethod
    def of(cls, run_id: str) -> "Place | None":
        """The place of the run of that id; None for a run that was requested alone."""
        match = _PLACE.search(run_id)
        return cls(match[1], int(match[2]), int(match[3])) if match else None


def is_group(name: str) -> bool:
    """Whether a name looks like that of a group."""
    return re.fullmatch(r"[0-9a-f]{8}", name) is not None


def is_member(run_id: str) -> bool:
    """Whether the run belongs to a group."""
    return _PLACE.search(run_id) is not None


def waits_for(
    run_id: str, servers: Collection[str], active: Iterable[str], servers_of: Callable[[str], Iterable[str]]
) -> str:
    """The first run of its group that has one of its servers and a place before it; empty if there is none.

    Args:
        run_id: the run; it has not begun, and changes servers.
        servers: those that it works on.
        active: the runs that are not concluded, of all groups.
        servers_of: the servers of a run.
    """
    own = Place.of(run_id)
    ahead = (run for place, run in _members(active) if own and place.group == own.group and place < own)
    return next((run for run in ahead if not set(servers).isdisjoint(servers_of(run))), "")


def next_ones(run_id: str, active: Iterable[str]) -> tuple[str, ...]:
    """The runs of its group that may run, in order. Some are already."""
    own = Place.of(run_id)
    members = [run for place, run in _members(active) if own and place.group == own.group]
    return tuple(members[: own.at_most if own else 0])


def in_line(active: Iterable[str]) -> frozenset[str]:
    """The runs that wait because as many of their group as may run are before them."""
    before: dict[str, int] = {}
    waiting = []
    for place, run in _members(active):
        if before.get(place.group, 0) >= place.at_most:
            waiting.append(run)
        before[place.group] = before.get(place.group, 0) + 1
    return frozenset(waiting)


def _members(active: Iterable[str]) -> list[tuple[Place, str]]:
    """All members of groups, by group and place."""
    return sorted((place, run) for run in active if (place := Place.of(run)))
