"""The messages that this process took from the broker and did not settle yet: on the server, and in this process.

Kombu keeps them twice on the server, in a hash and in an index by time. Here the time is in the tag of a message, so
one command records a message, and one settles it.
"""

from collections.abc import Sequence
from contextlib import suppress
from time import time
from typing import Any
from uuid import uuid4

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from workers.broker.names import is_nodes_queue
from workers.logger import logger
from workers.redis.connection import takes_no_writes

__all__ = ["NETWORK", "QoS", "Unsettled", "new_tag"]

#: Errors of a broken connection. Kombu's own list contains KeyError, which an invalid message raises as well.
NETWORK = (NoConnection, NoAnswer, OSError)

log = logger(__name__)


class Unsettled:
    """The messages that this process took from the broker and did not settle yet, over all its connections."""

    def __init__(self) -> None:
        self.held: set[str] = set()  #: delivery tags of the messages in work
        self._ended: dict[str, bool] = {}  #: tag -> whether it returns to its queue; the broker does not know it yet
        self._returned: list[tuple[str, bytes]] = []  #: queue and message, taken while the connection broke
        self._late = False  #: whether the log says that the broker could not be informed

    def __json__(self) -> int:
        """How many messages are in work, for `celery inspect stats`."""
        return len(self.held)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to settle."""
        return not (self.held or self.ended)

    @property
    def ended(self) -> bool:
        """Whether the broker has to be informed."""
        return bool(self._ended or self._returned)

    def settle_later(self, tag: str, *, requeue: bool) -> None:
        """Remembers how a message ended until the broker is informed."""
        self._ended[tag] = requeue

    def return_later(self, queue: str, item: bytes) -> None:
        """Remembers a message that left its queue and could not be recorded as taken."""
        self._returned.append((queue, item))

    def settle(self, qos: "QoS", client: Redis) -> None:
        """Settles what could not be settled before.

        Raises:
            RedisError: no connection again; the rest is settled at the next call.
        """
        while self._returned:
            client.rpush(*self._returned[-1])
            self._returned.pop()
        ended = list(self._ended.items())
        if done := [tag for tag, requeue in ended if not requeue]:
            qos.forget(done, client)
        for tag, requeue in ended:
            if requeue:
                qos.restore_by_tag(tag, client, leftmost=True)
            self._ended.pop(tag, None)
        self._late = False

    def could_not_settle(self, error: Exception) -> None:
        """Says so in the log, once until it can."""
        if not self._late:
            self._late = True
            log.info("messages are done or return, and the broker takes that later", error=type(error).__name__)


def new_tag() -> str:
    """A tag for a message that is taken now. One tag a delivery: with the sender's, two would be settled together."""
    return f"{time():.3f}-{uuid4()}"


def _taken_at(tag: str) -> float:
    """When a message was taken, by the clock of its worker; 0 for a tag that is not ours."""
    try:
        return float(tag.partition("-")[0])
    except ValueError:
        return 0.0


class QoS(redis.QoS):
    """Acknowledges by the tag, whatever connection the message used; never fails without a connection."""

    @property
    def unsettled(self) -> Unsettled:
        """The unsettled messages of this process."""
        unsettled: Unsettled = self.channel.unsettled
        return unsettled

    def can_consume(self) -> bool:
        """Counts messages from earlier connections too."""
        return not self.prefetch_count or len(self.unsettled.held) < self.prefetch_count

    def append(self, message: virtual.Message, delivery_tag: str) -> None:
        """Records a message as taken, with its real queue and not with the one that it names."""
        with self.channel.conn_or_acquire() as client:
            client.hset(self.unacked_key, delivery_tag, dumps([message._raw, *_return_address(message)]))  # noqa: SLF001 - kombu does the same
        self.unsettled.held.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The message is done. That of a step is acknowledged later, with others: what is done is not done again."""
        message = self._delivered.get(delivery_tag)
        self._ended(delivery_tag, requeue=False)
        if message is None or not is_nodes_queue(_return_address(message)[1]):
            self.settle()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """The message is done, or returns to the end of its queue."""
        self._ended(delivery_tag, requeue=requeue)
        self.settle()

    def _ended(self, tag: str, *, requeue: bool) -> None:
        self.unsettled.held.discard(tag)
        self.unsettled.settle_later(tag, requeue=requeue)
        virtual.QoS.ack(self, tag)

    def settle(self) -> None:
        """Settles the messages that have ended, if there is a connection."""
        if not self.unsettled.ended:
            return
        try:
            with self.channel.conn_or_acquire() as client:
                self.unsettled.settle(self, client)
        except (*NETWORK, RedisError) as error:
            self.unsettled.could_not_settle(error)

    def forget(self, tags: Sequence[str], client: Redis) -> None:
        """Removes messages from the unacknowledged messages."""
        client.hdel(self.unacked_key, *tags)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:  # noqa: ANN401 - a pipeline
        """Removes it within a transaction."""
        with self.pipe_or_acquire(pipe) as pipeline:
            return pipeline.hdel(self.unacked_key, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Called for a new connection, and every few seconds: settles what is left, and returns what took too long."""
        del start
        self.settle()
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        try:
            with self.channel.conn_or_acquire() as client, suppress(redis.MutexHeld):
                self._restore_overdue(client, num)
        except ResponseError as error:
            if not takes_no_writes(error):
                raise
            self.unsettled.could_not_settle(error)

    def _restore_overdue(self, client: Redis, most: int) -> None:
        with redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
            for tag in self._overdue(client)[:most]:
                self.restore_by_tag(tag, client)

    def _overdue(self, client: Redis) -> list[str]:
        """The tags of the messages that were taken too long ago, the oldest first."""
        latest = time() - self.visibility_timeout
        tags = (bytes_to_str(tag) for tag in client.hkeys(self.unacked_key))
        return sorted((tag for tag in tags if _taken_at(tag) <= latest), key=_taken_at)

    def restore_by_tag(self, tag: str, client: Redis | None = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Returns a message to its queue; when that will always fail, sets it aside, so that it does not block others.

        Raises:
            RedisError: the broker does not answer, or takes no messages now; the message stays unacknowledged.
        """
        try:
            super().restore_by_tag(tag, client, leftmost)
        except NETWORK:
            raise
        except Exception as error:  # any program may have written it
            if isinstance(error, RedisError) and takes_no_writes(error):
                raise
            with self.channel.conn_or_acquire(client) as connection:
                item = connection.hget(self.unacked_key, tag) or b""
                self.channel.refuse(self.unacked_key, item, f"cannot be restored: {type(error).__name__}")
                self.forget([tag], connection)

    def restore_unacked(self, client: Redis | None = None) -> None:
        """Returns all messages at the end of the process; without a connection their timeout does that."""
        try:
            with self.channel.conn_or_acquire(client) as connection:
                self.unsettled.settle(self, connection)
                for tag in list(self.unsettled.held):
                    self.restore_by_tag(tag, connection)
                    self.unsettled.held.discard(tag)
        except (*NETWORK, RedisError) as error:
            log.warning(
                "messages could not be returned to their queues",
                error=type(error).__name__,
                count=len(self.unsettled.held),
            )
        self._delivered.clear()


def _return_address(message: virtual.Message) -> tuple[str, str]:
    """Exchange and routing key for returning a message: its real queue, when that was recorded."""
    info = message.delivery_info
    return ("", info["queue"]) if "queue" in info else (info["exchange"], info["routing_key"])
