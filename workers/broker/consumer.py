"""Celery's consumer, made to outlive what comes in: a connection that breaks, a message that nobody can use."""

import warnings
from contextlib import suppress
from functools import partial
from typing import Any

from celery.exceptions import CPendingDeprecationWarning, NotRegistered
from celery.utils.objects import Bunch
from celery.worker import loops
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from redis.exceptions import ConnectionError as NoConnection

from workers.logs import logger

__all__ = ["Consumer", "Request"]

#: Seconds between two tries to reach the broker: kombu's own rise to 30.
_AGAIN = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5}

log = logger(__name__)


class Request(CeleryRequest):  # type: ignore[misc] # celery has no types
    """A request that always settles its message: one that does not holds a place in the worker for ever."""

    def on_failure(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - passed on
        """Told to whoever waits, if that can be done."""
        try:
            super().on_failure(*args, **more)
        except Exception:
            log.exception("a failure could not be told", task=self.name, id=self.id)
            self.acknowledge()


class Consumer(CeleryConsumer):  # type: ignore[misc] # celery has no types
    """Reconnects whatever broke, and is done with every message, whatever it is."""

    connection: Any

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **more: Any) -> None:  # noqa: ANN401 - passed on
        # Neither serves us: no clocks, no revoked tasks to learn from others. They cost a second at each connection.
        alone = {"without_mingle": True, "without_gossip": True}
        super().__init__(*args, worker_options={**(worker_options or {}), **alone}, **more)
        queues = self.app.amqp.queues
        # A queue whose messages are moved to another is read together with that one, whatever `-Q` says.
        for (queue, _), moved in self.app.conf.broker_transport_options["border"].moves.items():
            if queue in queues.consume_from:
                queues.select_add(queues[moved])

    def loop(self, consumer: CeleryConsumer, *args: Any) -> None:  # noqa: ANN401 - passed on
        """Celery's loop; what it does not expect ends the connection and not the worker."""
        try:
            (loops.asynloop if self.hub else loops.synloop)(consumer, *args)
        except self.connection_errors + self.channel_errors:
            raise
        except Exception as error:
            log.exception("the consumer broke; it connects again")
            raise NoConnection(f"the consumer broke: {type(error).__name__}") from error

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Lets go of the connection before Celery closes it: closing talks to a server that is gone."""
        self.connection.transport.give_up()
        try:
            with warnings.catch_warnings():  # about a setting that we have made explicitly
                warnings.simplefilter("ignore", CPendingDeprecationWarning)
                super().on_connection_error_after_connected(exc)
        except Exception:
            log.exception("the broken connection could not be closed")
            self.connection = None

    def shutdown(self) -> None:
        """Ends; what is still in hand since a connection was lost goes back over a new one, if there is a broker."""
        super().shutdown()
        if self.app.conf.broker_transport_options["hands"].empty:
            return
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.5)
                connection.channel().qos.restore_unacked()
        except Exception as error:  # noqa: BLE001 - the process ends; what is left waits for its timeout
            log.warning("messages could not be given back", error=type(error).__name__)

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - celery has no types
        """Tries more often than kombu does."""
        conn.ensure_connection = partial(conn.ensure_connection, **_AGAIN)
        return super().ensure_connected(conn)

    def update_strategies(self) -> None:
        """Only our own tasks, each with a request that settles."""
        for task in self.app.tasks.values():
            task.Request = f"{__name__}:{Request.__name__}"
        super().update_strategies()
        for name in [name for name in self.strategies if name.startswith("celery.")]:
            del self.strategies[name]

    def on_unknown_task(self, body: object, message: Any, exc: Exception) -> None:  # noqa: ANN401 - celery's signature
        """Set aside; whoever asked gets the error that Celery would give."""
        del body, exc
        name, id_ = message.headers["task"], message.headers["id"]
        self._refuse(message, f"no task is named {name!r}")
        asked = Bunch(name=name, chord=None, root_id=None, errbacks=None, correlation_id=id_, reply_to=None)
        with suppress(Exception):
            self.app.backend.mark_as_failure(id_, NotRegistered(name), request=asked)

    def on_unknown_message(self, body: object, message: Any) -> None:  # noqa: ANN401 - celery's signature
        """Set aside."""
        del body
        self._refuse(message, "no task message")

    def on_invalid_task(self, body: object, message: Any, exc: Exception) -> None:  # noqa: ANN401 - celery's signature
        """Set aside."""
        del body
        self._refuse(message, f"not a valid task message: {str(exc)[:100]}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - celery's signature
        """Set aside."""
        self._refuse(message, f"cannot be decoded: {type(exc).__name__}")

    def _refuse(self, message: Any, reason: str) -> None:  # noqa: ANN401 - celery has no types
        message.channel.refuse_message(message, reason)
