"""One worker process: `python -m pipelines.local.celery_worker [NAME]`.

The same as `celery -A pipelines.worker worker` without Celery's own command line, which takes a fifth of the start.
It prints `ready` as soon as it takes messages; logs go to stderr.
"""

import os
import secrets
import socket
import sys
from collections.abc import Sequence

from celery.signals import worker_ready

from pipelines.local.processes import READY
from pipelines.worker import app

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Works until it is ended; returns the exit status.

    Args:
        arguments: the name of the process among all workers of the broker; a new one without it: containers share
            host names.
    """
    name = arguments[0] if arguments else f"esync-{os.getpid()}-{secrets.token_hex(3)}@{socket.gethostname()}"
    # Without mingle and gossip: nothing is kept in other workers, and waiting for them takes a second at every start.
    worker = app.Worker(hostname=name, quiet=True, without_mingle=True, without_gossip=True)
    worker.start()
    return int(worker.exitcode or 0)


@worker_ready.connect
def _say_so(**_: object) -> None:
    print(READY, flush=True)  # noqa: T201 - read by the process that started this one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
