"""The limit of open files of this process, and the work that it allows. A connection is an open file."""

import resource
from dataclasses import dataclass

from workers.logger import logger

__all__ = ["Capacity", "capacity_for", "possible_limit", "raise_limit", "shortage"]

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


def possible_limit() -> int:
    """The limit that a process here may raise its own to, without privileges."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)


def shortage(threads: int, limit: int) -> tuple[str, str]:
    """What a limit does not allow, as a sentence, and its remedy; both empty when it is enough.

    Args:
        threads: nodes that a worker shall work on in parallel.
        limit: open files of the worker.
    """
    allowed = _allowed(threads, limit)
    if allowed == threads:
        return "", ""
    what = f"the limit of {limit} open files lets a worker work on {allowed} nodes in parallel, not on {threads}"
    return what, f"raise the limit to {RESERVED + PER_THREAD * threads} (ulimit -n, LimitNOFILE)"


def raise_limit() -> int:
    """Raises the limit of this process as far as it may without privileges; returns the limit."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)[0], possible_limit()
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return most
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def capacity_for(threads: int, limit: int) -> Capacity:
    """The capacity under a limit: fewer threads than requested when it is too low, and at least one.

    Args:
        threads: requested.
        limit: open files.
    """
    what, remedy = shortage(threads, limit)
    if what:
        log.warning("the limit of open files is too low", what=what, remedy=remedy)
    possible = _allowed(threads, limit)
    return Capacity(possible, max(possible, limit - RESERVED - (PER_THREAD - 1) * possible))


def _allowed(threads: int, limit: int) -> int:
    return max(1, min(threads, (limit - RESERVED) // PER_THREAD))
