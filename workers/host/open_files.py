"""How many files this process may have open at a time, and what that is enough for. A connection is an open file."""

import resource
from dataclasses import dataclass

from workers.logs import logger

__all__ = ["Room", "raised", "room_for"]

ENOUGH = 65_536  #: nobody needs more, and some libraries look at each possible number
RESERVED = 64  #: logs, the event loop, connections of the process as a whole
PER_THREAD = 3  #: a node, the run store, and the results of Celery

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """What a limit of open files is enough for.

    Attributes:
        threads: nodes that are worked on at a time.
        sessions: connections to nodes that may be open, those in use included.
    """

    threads: int
    sessions: int


def raised() -> int:
    """Raises this process's limit as far as it may without asking anybody; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def room_for(threads: int, limit: int) -> Room:
    """What may be done at a time under a limit; fewer threads than wanted where it is too low, and at least one.

    Args:
        threads: that are wanted.
        limit: open files.
    """
    possible = max(1, min(threads, (limit - RESERVED) // PER_THREAD))
    if possible < threads:
        log.warning(
            "the limit of open files is too low for as many nodes at a time as were asked for",
            limit=limit,
            wanted=threads,
            nodes=possible,
            remedy=f"raise the limit to {RESERVED + PER_THREAD * threads} (ulimit -n, LimitNOFILE)",
        )
    return Room(possible, max(possible, limit - RESERVED - (PER_THREAD - 1) * possible))
