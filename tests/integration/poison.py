"""Queries to a real worker, behind other messages in its queues."""

import ast
import time
from typing import Any

from celery.utils import uuid
from redis import Redis

from tests.integration.harness import Harness
from tests.waiting import PATIENCE
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

    def answers(self, timeout: float = PATIENCE) -> bool:
        """Whether the same worker process answers a query behind all other messages."""
        asked = self.harness.engine.app.send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE)
        answer = asked.get(timeout=timeout)
        return bool(self.harness.worker and self.harness.worker.poll() is None and answer["error"] == "run_unknown")

    def reply(self, task: str, queue: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - JSON
        """The answer of a task."""
        return self.harness.engine.app.send_task(task, args=args, kwargs=kwargs, queue=queue).get(timeout=PATIENCE)

    def told(self, task: str, queue: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - as the step returned it
        """What a step returned, by the event of the worker: the result of a step is not stored."""
        app, task_id, returned = self.harness.engine.app, uuid(), list[str]()

        def succeeded(event: dict[str, Any]) -> None:
            if event["uuid"] == task_id:
                returned.append(event["result"])
                receiver.should_stop = True

        def ask(*_: object, **__: object) -> None:
            app.send_task(task, args=args, kwargs=kwargs, queue=queue, task_id=task_id, ignore_result=True)

        with app.connection_for_read() as connection:
            # Again at each heartbeat: the worker may be faster than our subscription.
            receiver = app.events.Receiver(connection, handlers={"task-succeeded": succeeded, "worker-heartbeat": ask})
            receiver.on_consume_ready = ask
            receiver.capture(timeout=PATIENCE, wakeup=False)
        return ast.literal_eval(returned[0])

    def aside(self) -> tuple[SetAside, ...]:
        """The messages that the worker set aside."""
        return stored(self.client)

    def settled(self, seconds: float = PATIENCE) -> bool:
        """Whether every message is acknowledged."""
        until = time.monotonic() + seconds
        while (left := self.client.hlen("esync.v1.unacked")) and time.monotonic() < until:
            time.sleep(0.05)
        return not left
