"""The limit of open files of this process, and the work that it allows. A connection is an open file."""

import resource
from dataclasses import dataclass

from workers.logs import logger

__all__ = ["Capacity", "capacity_for", "raise_limit"]

ENOUGH = 65_536  #: more is not needed, and some libraries test each possible number
RESERVED = 64  #: logs, the event loop, connections of the process as a whole
PER_THREAD = 3  #: a node, the run store, and the results of Celery

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The work that a limit of open files allows.

    Attributes:
        threads: nodes that are worked on in parallel.
        sessions: connections to nodes that may be open, those in use included.
    """

    threads: int
    sessions: int


def raise_limit() -> int:
    """Raises the limit of this process as far as it may without privileges; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def capacity_for(threads: int, limit: int) -> Capacity:
    """The capacity under a limit: fewer threads than requested when it is too low, and at least one.

    Args:
        threads: requested.
        limit: open files.
    """
    possible = max(1, min(threads, (limit - RESERVED) // PER_THREAD))
    if possible < threads:
        log.warning(
            "the limit of open files is too low for the requested number of nodes in parallel",
            limit=limit,
            wanted=threads,
            nodes=possible,
            remedy=f"raise the limit to {RESERVED + PER_THREAD * threads} (ulimit -n, LimitNOFILE)",
        )
    return Capacity(possible, max(possible, limit - RESERVED - (PER_THREAD - 1) * possible))
