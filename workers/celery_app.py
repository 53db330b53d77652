"""The Celery app and its configuration: every setting that matters, explicit, with its reason.

Celery on Redis can lose a message and deliver others twice (kombu takes and acknowledges in two steps; redelivery
depends on age alone). So Celery only transports: steps are idempotent, outcomes are in the run store, and the
reconciler repeats what was lost. The settings here make that rare and fast.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from celery import Celery, signals
from celery.app.backends import BACKEND_ALIASES
from kombu.entity import Queue
from kombu.transport import TRANSPORT_ALIASES

from workers.broker.consumer import Consumer
from workers.broker.messages import QueueRules
from workers.broker.names import CONTROL_QUEUE, NODES_QUEUE, OWN, STARTS_QUEUE, nodes_queue
from workers.broker.results import Results
from workers.broker.site_queues import AMQP, queue_of
from workers.broker.transport import SentinelTransport, Transport, Unsettled, UrgentFirst
from workers.redis.address import address_of
from workers.redis.connection import ANSWER_TIMEOUT, KEEPALIVE
from workers.redis.sentinels import sentinels_of
from workers.settings import Settings

__all__ = ["CONTROL_QUEUE", "NODES_QUEUE", "STARTS_QUEUE", "START_TASK", "make_app", "serve_own", "serve_site"]

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
TRANSPORT_ALIASES["sentinel"] = f"{SentinelTransport.__module__}:{SentinelTransport.__name__}"
BACKEND_ALIASES.update(dict.fromkeys(("redis", "rediss", "sentinel"), f"{Results.__module__}:{Results.__name__}"))


def _queues() -> tuple[Queue, ...]:
    return tuple(queue_of(name) for name in _RULES.queues)


def serve_site(app: Celery, site: str) -> None:
    """Lets the worker of this process take steps on the nodes of a site only, besides what every worker takes.

    The option `-Q` of the worker replaces this choice.
    """
    app.amqp.queues.select((CONTROL_QUEUE, STARTS_QUEUE, nodes_queue(site)))


def serve_own(app: Celery, holder: str) -> None:
    """Gives the worker of this process a queue of its own, beside the common one.

    Args:
        app: before its worker starts.
        holder: the name of this process, as in the outcomes of its steps.
    """
    app.amqp.queues.holder = holder


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
            # Not Celery's names: each application returns what is in this list after its own visibility timeout.
            "unacked_key": f"{OWN}.unacked",
            "unacked_index_key": f"{OWN}.unacked_index",
            "unacked_mutex_key": f"{OWN}.unacked_mutex",
            "queue_order_strategy": f"{UrgentFirst.__module__}:{UrgentFirst.__name__}",
            "rules": _RULES,
            "unsettled": Unsettled(),
            "socket_timeout": ANSWER_TIMEOUT,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "socket_keepalive_options": KEEPALIVE,
            # A wait for messages is answered every second. One that is not is given up after twice these seconds: its
            # connection is dead, and nothing says so.
            "health_check_interval": 8,
            "max_connections": connections + 10,
        },
    }


def _apart() -> dict[str, Any]:
    """Names of our own for what all Celery applications on a database share by default.

    With Celery's names a `control shutdown` of any of them ends our workers, and its Flower shows our tasks. No
    `global_keyprefix`: queues and answers keep their keys, which other programs use (README).
    """
    return {
        "control_exchange": OWN,  # its channel is esync.v1.pidbox
        "event_exchange": f"{OWN}.events",
        "event_queue_prefix": f"{OWN}.events",
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
        # One for all threads, with connections for each: none of ours waits for a result, which would need its own.
        "result_backend_thread_safe": True,
        # One immediate retry on a new connection, for every command: the script that counts the members of a chord has
        # no other retry. If that fails, the errback of the chord joins, otherwise the reconciler.
        "redis_retry_on_timeout": True,
        "redis_socket_timeout": ANSWER_TIMEOUT,
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
        # Flower knows tasks only from events. A task is listed from the moment a worker has it: an event about each
        # sent task costs as much as sending it. How many wait is on Flower's page of the queues.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_enable_remote_control": True,
        # workers.logs configures logging; what a library prints is not logged.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


@signals.setup_logging.connect(weak=False)
def _leave_logging_alone(**_: object) -> None:
    """Celery configures no logging when this signal has a receiver."""


def make_app(settings: Settings, control: Iterable[str] = ()) -> Celery:
    """A configured app without tasks. It does not connect yet.

    The broker's password is only in the configuration: Celery masks it in `celery report`, in its banner and in its
    logs, and no process gets it as an argument.

    Args:
        settings: the broker, and the size of this worker.
        control: patterns (`esync.join*`) of the names of tasks that must not wait behind steps on nodes.

    Raises:
        InputRefused: no broker is configured, or its URL is invalid.
    """
    address = address_of(settings.broker())
    url, sentinels = address.url.reveal(), sentinels_of(address)
    if sentinels:
        url = f"sentinel{url[url.index('://') :]}"
    app = Celery("esync", broker=url, backend=url, amqp=AMQP)
    connections = min(64, max(10, settings.concurrency))
    app.conf.update(
        _content() | _delivery(control) | _broker(settings, connections) | _apart() | _results() | _worker(settings),
    )
    if sentinels:  # what both sides of Celery need
        app.conf.broker_transport_options |= {"sentinels": sentinels}
        app.conf.result_backend_transport_options |= {"sentinels": sentinels}
    return app
