"""Whether a step still has its node: a store that has lost its last moments may have given the node to another step."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.execution.outcomes import Job
from workers.errors import Conflict, EsyncError
from workers.remembered import Remembered

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["ASKED_EVERY", "Claims"]

ASKED_EVERY = 3.0  #: seconds between two questions about one step: a step asks at every turn of every wait
_STEPS = 1000  #: whose last question is remembered


class Claims:
    """Asks the store whether the claims of steps are the newest ones on their nodes.

    Args:
        store: has the claims.
        clock: monotonic seconds.
    """

    def __init__(self, store: "RunStore", clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._asked: Remembered[float] = Remembered(_STEPS)

    def lost(self, job: Job) -> bool:
        """Whether what the step does counts no more; then another one waits for this thread to leave the node."""
        name = f"{job.claim} {' '.join(job.key)}"
        if self._clock() - (self._asked.get(name) or job.since) < ASKED_EVERY:
            return False
        try:
            self._store.number(job.record.id, job.node, job.claim)
        except Conflict:
            return True
        except EsyncError:  # it does not answer; or the run only looks, and has no servers
            pass
        self._asked.put(name, self._clock())
        return False
