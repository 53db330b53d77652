"""A worker without work."""

import time

from tests.benchmarks.bars import Values
from tests.benchmarks.installation import installation

__all__ = ["idle"]

SETTLED = 5.0  #: seconds after its first answer


def idle(seconds: float) -> Values:
    """The CPU time and the commands of a worker that has nothing to do, for that long."""
    with installation(4) as ready:
        time.sleep(SETTLED)
        worker, commands, started = ready.worker_cpu(), ready.commands(), time.perf_counter()
        time.sleep(seconds)
        used, sent, took = ready.worker_cpu() - worker, ready.commands() - commands, time.perf_counter() - started
    return {"idle.cpu": 100 * used / took, "idle.commands": (sent - 1) / took}  # one command is this program's
