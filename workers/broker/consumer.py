"""Celery's consumer, which here survives a broken connection, and a message that it cannot use."""

import time
import warnings
from contextlib import suppress
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import CPendingDeprecationWarning, NotRegistered
from celery.utils.objects import Bunch
from celery.worker import loops
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from kombu.asynchronous.hub import Hub
from kombu.message import Message
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError

from workers.broker.notes import FAILURE
from workers.broker.own_queues import OwnQueues
from workers.broker.phases import accepted
from workers.logger import logger
from workers.redis.connection import takes_no_writes

__all__ = ["Consumer", "Request"]

#: Seconds between two attempts to reach the broker: kombu's default rises to 30.
_RECONNECT = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5}

_PAUSE = 2.0  #: seconds until a broker that takes no writes is tried again

#: Seconds between two reports to the broker: what was acknowledged, and the events for Flower, of which 24 are sent at
#: once. A worker that is killed meanwhile may get messages again whose steps are done.
REPORTS_EVERY = 0.2

log = logger(__name__)


class Request(CeleryRequest):
    """A request that always settles its message: otherwise it would occupy a place in the worker forever.

    It reports a failed step to Flower as failed, although the task has succeeded.
    """

    def on_accepted(self, *args: object) -> None:
        """Called in the thread that is about to run the task."""
        super().on_accepted(*args)
        accepted(self.send_event)

    def on_failure(self, exc_info: ExceptionInfo, *args: object, **more: object) -> None:
        """Reports the failure to the caller, if that is possible."""
        try:
            super().on_failure(exc_info, *args, **more)
        except Exception:
            log.exception("a failure could not be reported", task=self.name, id=self.id)
            self.acknowledge()
        finally:
            # Its frame holds it: half a megabyte of a rejected message would stay until garbage is collected.
            error = getattr(exc_info.exception, "exc", exc_info.exception)
            error.__traceback__ = error.__context__ = None

    def send_event(self, event: str, **fields: object) -> None:
        """Sends an event about this task; of a step that failed, `task-failed` in place of `task-succeeded`."""
        failure = FAILURE.take(self.id) if event == "task-succeeded" else ""
        if failure:
            super().send_event("task-failed", exception=failure, runtime=fields.get("runtime"))
        else:
            super().send_event(event, **fields)


class Consumer(CeleryConsumer):
    """Reconnects after every error, and settles every message."""

    connection: Any  # of kombu; None after a failed close
    task_consumer: Any  # of kombu
    _events_waiting = False

    def __init__(self, *args: object, worker_options: dict[str, bool] | None = None, **more: object) -> None:
        # Not needed: esync uses neither clocks nor revoked tasks of other workers. They take a second per connection.
        alone = {"without_mingle": True, "without_gossip": True}
        super().__init__(*args, worker_options={**(worker_options or {}), **alone}, **more)
        queues = self.app.amqp.queues
        # A worker that reads a queue also reads the queue that its messages are moved to, whatever `-Q` says.
        for (queue, _), moved in self.app.conf.broker_transport_options["rules"].moves.items():
            if queue in queues.consume_from:
                queues.select_add(queues[moved])
        queues.take_from_own()

    def loop(self, consumer: CeleryConsumer, *args: object) -> None:
        """Celery's loop; an unexpected error ends the connection and not the worker."""
        try:
            (loops.asynloop if self.hub else loops.synloop)(consumer, *args)
        except self.connection_errors + self.channel_errors:
            raise
        except Exception as error:
            log.exception("the consumer failed; it reconnects")
            raise NoConnection(f"the consumer failed: {type(error).__name__}") from error

    def register_with_event_loop(self, hub: Hub) -> None:
        """Sends collected events and acknowledgements at fixed times: Celery sends what there is in each turn."""
        super().register_with_event_loop(hub)
        hub.timer.call_repeatedly(REPORTS_EVERY, self._report)

    def on_send_event_buffered(self) -> None:
        """An event was collected, by any thread."""
        self._events_waiting = True

    def _report(self) -> None:
        self.task_consumer.channel.qos.settle()
        self._send_events()

    def _send_events(self) -> None:
        if self._events_waiting:
            self._events_waiting = False
            self._flush_events()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Celery's method."""
        super().on_connection_error_before_connected(exc)
        _wait_for_writes(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Abandons the connection before Celery closes it: closing would send commands to a lost server."""
        self.connection.transport.abandon()
        try:
            with warnings.catch_warnings():  # about a setting that is set explicitly
                warnings.simplefilter("ignore", CPendingDeprecationWarning)
                super().on_connection_error_after_connected(exc)
        except Exception:
            log.exception("the broken connection could not be closed")
            self.connection = None
        _wait_for_writes(exc)

    def shutdown(self) -> None:
        """Ends; messages unsettled since a connection was lost return to their queues over a new one, if possible."""
        with suppress(Exception):
            self._report()
        self._leave_own_queue()
        super().shutdown()
        if self.app.conf.broker_transport_options["unsettled"].empty:
            return
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.5)
                connection.channel().qos.restore_unacked()
        except Exception as error:  # noqa: BLE001 - the process ends; what is left is delivered again after its timeout
            log.warning("messages could not be returned to their queues", error=type(error).__name__)

    def _leave_own_queue(self) -> None:
        """The steps that end from now on are followed by steps of other workers."""
        queues = self.app.amqp.queues
        own, queues.own = queues.own, ""
        if not own:
            return
        try:
            with self.task_consumer.channel.conn_or_acquire() as client:
                OwnQueues(client).leave(own)
        except Exception as error:  # noqa: BLE001 - the process ends; the reconciler of another one does it
            log.info("steps stay in the queue of this worker for a moment", error=type(error).__name__)

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - a method of it is replaced
        """Reconnects sooner than kombu does."""
        conn.ensure_connection = partial(conn.ensure_connection, **_RECONNECT)
        return super().ensure_connected(conn)

    def update_strategies(self) -> None:
        """Accepts only our own tasks, each with a request that settles its message."""
        for task in self.app.tasks.values():
            task.Request = f"{__name__}:{Request.__name__}"
        super().update_strategies()
        for name in [name for name in self.strategies if name.startswith("celery.")]:
            del self.strategies[name]

    def on_unknown_task(self, body: object, message: Message, exc: Exception) -> None:
        """Sets the message aside; the caller gets the error that Celery would return."""
        del body, exc
        name, id_ = message.headers["task"], message.headers["id"]
        self._refuse(message, f"there is no task {name!r}")
        request = Bunch(name=name, chord=None, root_id=None, errbacks=None, correlation_id=id_, reply_to=None)
        with suppress(Exception):
            self.app.backend.mark_as_failure(id_, NotRegistered(name), request=request)

    def on_unknown_message(self, body: object, message: Message) -> None:
        """Sets the message aside."""
        del body
        self._refuse(message, "not a task message")

    def on_invalid_task(self, body: object, message: Message, exc: Exception) -> None:
        """Sets the message aside."""
        del body
        self._refuse(message, f"not a valid task message: {str(exc)[:100]}")

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Sets the message aside."""
        self._refuse(message, f"cannot be decoded: {type(exc).__name__}")

    def _refuse(self, message: Message, reason: str) -> None:
        message.channel.refuse_message(message, reason)


def _wait_for_writes(error: Exception) -> None:
    """A broker that accepts connections and no writes would be tried a hundred times a second, each time in the log."""
    if isinstance(error, RedisError) and takes_no_writes(error):
        time.sleep(_PAUSE)
