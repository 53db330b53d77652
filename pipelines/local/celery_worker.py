"""One worker process: `python -m pipelines.local.celery_worker [NAME]`.

The same as `celery -A pipelines.worker worker` without Celery's own command line, which takes a fifth of the start,
and without what other libraries load for nothing.
It prints `ready` as soon as it takes messages; logs go to stderr.
"""

import gc
import os
import secrets
import socket
import sys
from collections.abc import Sequence

from pipelines.local.processes import READY
from workers.host.unneeded import leave_out

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Works until it is ended; returns the exit status.

    Args:
        arguments: the name of the process among all workers of the broker; a new one without it: containers share
            host names.
    """
    leave_out()
    gc.disable()  # until it is ready: what is loaded stays, and is not searched for garbage later (`spare_loaded`)
    from celery.signals import worker_ready  # noqa: PLC0415 - see above: only now

    from pipelines.worker import app  # noqa: PLC0415 - see above: only now

    worker_ready.connect(_say_so)
    name = arguments[0] if arguments else f"esync-{os.getpid()}-{secrets.token_hex(3)}@{socket.gethostname()}"
    # Without mingle and gossip: nothing is kept in other workers, and waiting for them takes a second at every start.
    worker = app.Worker(hostname=name, quiet=True, without_mingle=True, without_gossip=True)
    worker.start()
    return int(worker.exitcode or 0)


def _say_so(**_: object) -> None:
    print(READY, flush=True)  # noqa: T201 - read by the process that started this one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
