"""The Celery app and its configuration: every setting that matters, explicit, with its reason.

Celery on Redis can lose a message and deliver others twice (kombu takes and acknowledges in two steps; redelivery
depends on age alone). So Celery only transports: steps are idempotent, outcomes are in the run store, and the
reconciler repeats what was lost. The settings here make that rare and fast.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from workers.broker.consumer import Consumer
from workers.broker.messages import QueueRules
from workers.broker.transport import Transport, Unsettled, UrgentFirst
from workers.redis.address import verified
from workers.settings import Settings

__all__ = ["CONTROL_QUEUE", "NODES_QUEUE", "STARTS_QUEUE", "START_TASK", "make_app"]

# The version is in the queue's name: a worker of an older release discards a task that it does not know, and the chord
# of that task never ends. Releases with different tasks use different queues.
NODES_QUEUE = "esync.v1.nodes"  #: steps on nodes
CONTROL_QUEUE = "esync.v1.control"  #: queries, beginning and joining: taken before anything in the other queues
STARTS_QUEUE = "esync.v1.starts"  #: starts by other programs; no query waits behind them, however many there are
START_TASK = "esync.rollout"  #: other programs start a run with it; it is moved here from the control queue

_KEEP = timedelta(days=7)  #: longer than any run, also one paused over a weekend: a chord hangs when its keys expire
# Enough for a restart of the server: an outage of 6 s then delays by 6 s, and no step runs twice. With the default of
# three tries (0.6 s) Celery loses the next step of a chain.
_PATIENT = {"max_retries": 60, "interval_start": 0, "interval_step": 0.2, "interval_max": 3}


#: The control queue first, the others in turn.
_RULES = QueueRules(
    queues=(CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE),
    moves={(CONTROL_QUEUE, START_TASK): STARTS_QUEUE},
)
# Under the scheme of the URL, which Celery, Flower and `celery report` know; for this process only.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{Transport.__module__}:{Transport.__name__}"))


def _queues() -> tuple[Queue, ...]:
    return tuple(_queue(name) for name in _RULES.queues)


def _queue(name: str) -> Queue:
    # With the names that Celery uses for a caller who knows only the queue's name.
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _content() -> dict[str, Any]:
    """The serialization. Pickle would run the code of anyone who can write to the broker."""
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # No arguments and tracebacks in results: every user of Flower can read those.
        "result_extended": False,
        "task_remote_tracebacks": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _delivery(control: Iterable[str]) -> dict[str, Any]:
    """The queue of each message, and when it is acknowledged."""
    return {
        "task_queues": _queues(),
        "task_default_queue": NODES_QUEUE,
        "task_default_exchange": NODES_QUEUE,
        "task_default_routing_key": NODES_QUEUE,
        # A misspelt queue is an error at once, and not a queue without a worker.
        "task_create_missing_queues": False,
        "task_routes": [
            {pattern: {"queue": CONTROL_QUEUE} for pattern in control} | {START_TASK: {"queue": STARTS_QUEUE}}
        ],
        # A step is acknowledged when it has ended: steps of a killed worker are delivered again.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,  # a killed child of a prefork pool; threads have none
        # After an unexpected exception the task is not repeated forever.
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_publish_retry": True,
        "task_publish_retry_policy": _PATIENT,
        # The errback of the body is enough: it reads the store, whichever member failed.
        "task_allow_error_cb_on_chord_header": False,
    }


def _broker(settings: Settings, connections: int) -> dict[str, Any]:
    """The connection to the broker, and the time after which a message is delivered again."""
    return {
        "broker_connection_timeout": 5,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the default ends the worker after 100
        "broker_channel_error_retry": True,  # also for "LOADING", while the server reads its file
        # For publishers: with the default of 10, threads that end at the same time wait for each other.
        "broker_pool_limit": connections,
        "broker_transport_options": {
            # A fixed age, never renewed: a step that still runs then is started a second time. Steps are limited to
            # less than half of it. All programs on one broker must use the same value: the smallest one counts.
            "visibility_timeout": settings.visibility_timeout,
            # Together: lost messages are searched for every 5 s; the default is every 100 s.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": f"{UrgentFirst.__module__}:{UrgentFirst.__name__}",
            "rules": _RULES,
            "unsettled": Unsettled(),
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "max_connections": connections + 10,
        },
    }


def _results() -> dict[str, Any]:
    """The result backend: it counts the members of a chord."""
    return {
        "result_expires": _KEEP,
        "result_chord_expires": _KEEP,
        "result_backend_transport_options": {"retry_policy": _PATIENT},
        # That policy covers one command (SET). This one covers the rest of storing a result: without it, a connection
        # that broke while idle makes a successful step a failed member of its chord.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 60,
        "result_backend_base_sleep_between_retries_ms": 100,
        "result_backend_max_sleep_between_retries_ms": 3000,
        # One immediate retry on a new connection, for every command: the script that counts the members of a chord has
        # no other retry. If that fails, the errback of the chord joins, otherwise the reconciler.
        "redis_retry_on_timeout": True,
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
    }


def _worker(settings: Settings) -> dict[str, Any]:
    """The worker process. Its threads wait for Windows; they have no deadlines and no cancelling, esync has its own."""
    return {
        "worker_pool": "threads",
        "worker_consumer": f"{Consumer.__module__}:{Consumer.__name__}",
        "worker_concurrency": settings.concurrency,
        "worker_prefetch_multiplier": 1,  # the time that a message waits in a worker counts for the visibility timeout
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # threads cannot be cancelled
        # Flower knows only what events report, also about queued tasks.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_enable_remote_control": True,
        # workers.logs configures logging; what a library prints is not logged.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


@signals.setup_logging.connect(weak=False)
def _leave_logging_alone(**_: object) -> None:
    """Celery configures no logging when this signal has a receiver."""


def make_app(settings: Settings, control: Iterable[str] = (), *, results: bool = True) -> Celery:
    """A configured app without tasks. It does not connect yet.

    The broker's password is only in the configuration: Celery masks it in `celery report`, in its banner and in its
    logs, and no process gets it as an argument.

    Args:
        settings: the broker, and the size of this worker.
        control: patterns (`esync.join*`) of the names of tasks that must not wait behind steps on nodes.
        results: False for a process that only publishes (command, web): it subscribes to no result channel, and has no
            `AsyncResult` that fails at exit. Workers publish chords, and need results.

    Raises:
        InputRefused: no broker is configured, or its URL is invalid.
    """
    url = verified(settings.broker()).reveal()
    app = Celery("esync", broker=url, backend=url if results else None)
    connections = min(64, max(10, settings.concurrency))
    app.conf.update(
        _content() | _delivery(control) | _broker(settings, connections) | _results() | _worker(settings),
    )
    return app
