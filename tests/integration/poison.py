"""Queries to a real worker, behind other messages in its queues."""

import time
from typing import Any

from redis import Redis

from tests.integration.harness import Harness
from workers.broker.set_aside import SetAside, stored
from workers.celery_app import CONTROL_QUEUE

__all__ = ["CLUSTER", "Asker"]

#: A cluster without running servers.
CLUSTER = """
name: {name}
edition: "8.0"
origin: S1
site: {{path: 'C:\\inetpub\\wwwroot\\CMS400'}}
connection: {{transport: ntlm, user: esync, secret: 'env:NOBODY'}}
nodes:
  - {{name: S1, host: 127.0.0.1, role: staging, pool: staging}}
  - {{name: P1, host: 127.0.0.2, role: production, pool: production}}
"""


class Asker:
    """Sends queries to a worker, and reads the messages that it left."""

    def __init__(self, harness: Harness, client: Redis) -> None:
        self.harness = harness
        self.client = client

    def answers(self, timeout: float = 20) -> bool:
        """Whether the same worker process answers a query behind all other messages."""
        asked = self.harness.engine.app.send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE)
        answer = asked.get(timeout=timeout)
        return bool(self.harness.worker and self.harness.worker.poll() is None and answer["error"] == "run_unknown")

    def reply(self, task: str, queue: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - JSON
        """The answer of a task."""
        return self.harness.engine.app.send_task(task, args=args, kwargs=kwargs, queue=queue).get(timeout=20)

    def aside(self) -> tuple[SetAside, ...]:
        """The messages that the worker set aside."""
        return stored(self.client)

    def settled(self, seconds: float = 60) -> bool:
        """Whether every message is acknowledged."""
        until = time.monotonic() + seconds
        while (left := self.client.hlen("unacked") + self.client.zcard("unacked_index")) and time.monotonic() < until:
            time.sleep(0.05)
        return not left
