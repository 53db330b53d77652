"""The Celery app and its configuration: every setting that matters, explicit, with its reason.

Celery on Redis by itself loses a message now and then and delivers others twice (kombu takes and acknowledges in two
steps; redelivery goes by age alone). It is our transport, not our truth: steps are idempotent, outcomes are in the run
store, and the reconciler repeats what got lost. The settings here make that rare and quick.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from workers.broker.consumer import Consumer
from workers.broker.messages import Border
from workers.broker.transport import Hands, Transport, UrgentFirst
from workers.redis.connection import verified
from workers.settings import Settings

__all__ = ["CONTROL_QUEUE", "NODES_QUEUE", "STARTS_QUEUE", "START_TASK", "make_app"]

# The version is in the queue's name: a worker of an older release throws away a task it does not know, and the chord
# of that task never ends. Different releases with different tasks use different queues.
NODES_QUEUE = "esync.v1.nodes"  #: steps on nodes
CONTROL_QUEUE = "esync.v1.control"  #: questions, beginning and joining: taken before anything that waits elsewhere
STARTS_QUEUE = "esync.v1.starts"  #: other programs' starts; any number of them, and no question waits for them
START_TASK = "esync.rollout"  #: what other programs start a run with; sent to the control queue, it is moved

_KEEP = timedelta(days=7)  #: longer than any run, paused over a weekend or not: when a chord's keys expire, it hangs
# Rides out a restart of the server: a 6 s outage then costs 6 s, and no step runs twice. Celery's own three tries
# (0.6 s) lose the next step of a chain instead.
_PATIENT = {"max_retries": 60, "interval_start": 0, "interval_step": 0.2, "interval_max": 3}


#: Control first, the others in turn.
_BORDER = Border(
    queues=(CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE),
    moves={(CONTROL_QUEUE, START_TASK): STARTS_QUEUE},
)
# By the name in the URL, as Celery, Flower and `celery report` know it; for this process only.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{Transport.__module__}:{Transport.__name__}"))


def _queues() -> tuple[Any, ...]:
    return tuple(_queue(name) for name in _BORDER.queues)


def _queue(name: str) -> Any:  # noqa: ANN401 - kombu gives no types
    # Named as Celery names them for a caller who knows only the queue's name.
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _content() -> dict[str, Any]:
    """What may travel. Pickle would run the code of anyone who can write to the broker."""
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Arguments and tracebacks stay out of results: anyone who may look at Flower may read those.
        "result_extended": False,
        "task_remote_tracebacks": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def _delivery(control: Iterable[str]) -> dict[str, Any]:
    """Which message goes where, and when it counts as done."""
    return {
        "task_queues": _queues(),
        "task_default_queue": NODES_QUEUE,
        "task_default_exchange": NODES_QUEUE,
        "task_default_routing_key": NODES_QUEUE,
        # A misspelt queue is an error at once, not a queue that nobody reads.
        "task_create_missing_queues": False,
        "task_routes": [
            {pattern: {"queue": CONTROL_QUEUE} for pattern in control} | {START_TASK: {"queue": STARTS_QUEUE}}
        ],
        # A step is acknowledged when it has ended: those of a worker that died come back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,  # a killed child of a prefork pool; threads have none
        # An unforeseen exception is not cured by running the task again for ever.
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_publish_retry": True,
        "task_publish_retry_policy": _PATIENT,
        # The body's own errback is enough: it reads the store, whichever member failed.
        "task_allow_error_cb_on_chord_header": False,
    }


def _broker(settings: Settings, connections: int) -> dict[str, Any]:
    """The connection to the broker, and how long a message may be away."""
    return {
        "broker_connection_timeout": 5,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the default ends the worker after 100
        "broker_channel_error_retry": True,  # "LOADING", while the server reads its file, is no reason to end either
        # Publishers of one process: with the default of 10, threads that end together wait for each other.
        "broker_pool_limit": connections,
        "broker_transport_options": {
            # A fixed age, never renewed: a step still running then is started a second time. Steps are bounded to less
            # than half of it. All programs on one broker must agree: the smallest wins.
            "visibility_timeout": settings.visibility_timeout,
            # Together these are how often the lost are looked for: every 5 s; the default is every 100 s.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": f"{UrgentFirst.__module__}:{UrgentFirst.__name__}",
            "border": _BORDER,
            "hands": Hands(),
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "max_connections": connections + 10,
        },
    }


def _results() -> dict[str, Any]:
    """The result backend: what the chord counts with."""
    return {
        "result_expires": _KEEP,
        "result_chord_expires": _KEEP,
        "result_backend_transport_options": {"retry_policy": _PATIENT},
        # That policy covers one command (SET). This one covers the rest of storing a result, and without it a
        # connection that broke while idle turns a step that went well into a failed member of its chord.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 60,
        "result_backend_base_sleep_between_retries_ms": 100,
        "result_backend_max_sleep_between_retries_ms": 3000,
        # One immediate second try on a new connection, for every command: the script that counts a chord's members
        # has no other. It can still fail; then the chord's errback joins, and without that the reconciler.
        "redis_retry_on_timeout": True,
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
    }


def _worker(settings: Settings) -> dict[str, Any]:
    """The worker process. Threads wait for Windows; deadlines and cancelling are ours, threads have neither."""
    return {
        "worker_pool": "threads",
        "worker_consumer": f"{Consumer.__module__}:{Consumer.__name__}",
        "worker_concurrency": settings.concurrency,
        "worker_prefetch_multiplier": 1,  # waiting in a worker counts for the visibility timeout
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # threads cannot be cancelled
        # Flower sees what events tell it, queued work included.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_enable_remote_control": True,
        # Logging is configured by workers.logs; prints of a library stay prints.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator] # celery has no types
def _leave_logging_alone(**_: object) -> None:
    """Celery configures no logging where somebody listens to this signal."""


def make_app(settings: Settings, control: Iterable[str] = (), *, results: bool = True) -> Celery:
    """A configured app without tasks. Nothing is connected yet.

    The broker's password is in the configuration and nowhere else: Celery masks it in `celery report`, in its banner
    and in its logs, and no process gets it as an argument.

    Args:
        settings: where the broker is, and this worker's size.
        control: patterns (`esync.join*`) of the names of tasks that must not wait behind steps on nodes.

        results: False for a process that only publishes (command, web): it then subscribes to no result channel, and
            has no `AsyncResult` that complains at exit. Chords are published by workers, which need results.

    Raises:
        InputRefused: no broker is configured, or its URL is not usable.
    """
    url = verified(settings.broker()).reveal()
    app = Celery("esync", broker=url, backend=url if results else None)
    connections = min(64, max(10, settings.concurrency))
    app.conf.update(
        _content() | _delivery(control) | _broker(settings, connections) | _results() | _worker(settings),
    )
    return app
