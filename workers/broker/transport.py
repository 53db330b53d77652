"""Kombu's Redis transport, which here survives restarts of the server, and invalid messages.

What kombu does, and why it is not enough:

- It closes a lost connection; closing restores unacknowledged messages over that connection, and ends the worker
  (`'NoneType' object has no attribute 'hostname'`). Here the messages that this process works on stay unacknowledged on
  the server, nothing is delivered twice, and a message is acknowledged over the connection that exists when its work is
  done. Messages of a killed worker are delivered again after the visibility timeout, as usual.
- It trusts a message that it took from the queue. Here `workers.broker.messages` validates it, and an invalid message
  is set aside.
"""

from collections.abc import Callable
from queue import Empty
from time import time
from typing import Any
from uuid import uuid4

from kombu.asynchronous.hub import Hub
from kombu.connection import Connection
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from workers.broker.messages import InvalidMessage, QueueRules, task_of, validated
from workers.broker.set_aside import set_aside
from workers.logs import logger

__all__ = ["NETWORK", "Channel", "Transport", "Unsettled", "UrgentFirst"]

#: Errors of a broken connection. Kombu's own list contains KeyError, which an invalid message raises as well.
NETWORK = (NoConnection, NoAnswer, OSError)

_AT_ONCE = 1000  #: messages examined when some are moved to another queue
#: KEYS from, to; ARGV the text in messages that are moved, how many to examine. The others keep their order.
_MOVE = """
local next_ones = redis.call('LRANGE', KEYS[1], -ARGV[2], -1)
redis.call('LTRIM', KEYS[1], 0, -ARGV[2] - 1)
local stay = {}
for place = #next_ones, 1, -1 do
  local item = next_ones[place]
  if string.find(item, ARGV[1], 1, true) then redis.call('LPUSH', KEYS[2], item) else table.insert(stay, 1, item) end
end
for _, item in ipairs(stay) do redis.call('RPUSH', KEYS[1], item) end
"""

log = logger(__name__)


class Unsettled:
    """The messages that this process took from the broker and did not settle yet, over all its connections."""

    def __init__(self) -> None:
        self.held: set[str] = set()  #: delivery tags of the messages in work
        self._ended: dict[str, bool] = {}  #: tag -> whether it returns to its queue, while there is no connection
        self._returned: list[tuple[str, bytes]] = []  #: queue and message, taken while the connection broke

    def __json__(self) -> int:
        """How many messages are in work, for `celery inspect stats`."""
        return len(self.held)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to settle."""
        return not (self.held or self._ended or self._returned)

    def settle_later(self, tag: str, *, requeue: bool) -> None:
        """Remembers how a message ended until the broker can be informed."""
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
        for tag, requeue in list(self._ended.items()):
            if requeue:
                qos.restore_by_tag(tag, client, leftmost=True)
            else:
                qos.forget(tag, client)
            self._ended.pop(tag, None)


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

    def append(self, message: "Message", delivery_tag: str) -> None:
        """Records a message as taken, with its real queue and not with the one that it names."""
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time()})
            pipe.hset(self.unacked_key, delivery_tag, dumps([message._raw, *_return_address(message)]))  # noqa: SLF001 - kombu does the same
            pipe.execute()
        self.unsettled.held.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The message is done."""
        self._settled(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """The message is done, or returns to the end of its queue."""
        self._settled(delivery_tag, requeue=requeue)

    def _settled(self, tag: str, *, requeue: bool) -> None:
        self.unsettled.held.discard(tag)
        self.unsettled.settle_later(tag, requeue=requeue)
        try:
            with self.channel.conn_or_acquire() as client:
                self.unsettled.settle(self, client)
        except (*NETWORK, RedisError) as error:
            log.info("a message is done; it is acknowledged when there is a connection", error=type(error).__name__)
        virtual.QoS.ack(self, tag)

    def forget(self, tag: str, client: Redis) -> None:
        """Removes a message from the list of unacknowledged messages."""
        self._remove_from_indices(tag, client.pipeline()).execute()

    def restore_visible(self, *args: object, **more: object) -> None:
        """Called for a new connection, and every few seconds: settles what is left first."""
        with self.channel.conn_or_acquire() as client:
            self.unsettled.settle(self, client)
        super().restore_visible(*args, **more)

    def restore_by_tag(self, tag: str, client: Redis | None = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Returns a message to its queue; when that fails, sets it aside, so that it does not block others."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except NETWORK:
            raise
        except Exception as error:  # noqa: BLE001 - any program may have written it
            with self.channel.conn_or_acquire(client) as connection:
                item = connection.hget(self.unacked_key, tag) or b""
                set_aside(connection, self.unacked_key, item, f"cannot be restored: {type(error).__name__}")
                self.forget(tag, connection)

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


def _return_address(message: "Message") -> tuple[str, str]:
    """Exchange and routing key for returning a message: its real queue, when that was recorded."""
    info = message.delivery_info
    return ("", info["queue"]) if "queue" in info else (info["exchange"], info["routing_key"])


class Message(virtual.Message):
    """A message that may be settled twice."""

    def ack_log_error(self, *args: object, **more: object) -> None:
        """Acknowledges it once."""
        if not self.acknowledged:
            super().ack_log_error(*args, **more)

    def reject_log_error(self, *args: object, **more: object) -> None:
        """Rejects it once."""
        if not self.acknowledged:
            super().reject_log_error(*args, **more)


class UrgentFirst:
    """The order of the queues: the first one always first, the others in turn, the last served one last."""

    def __init__(self, queues: tuple[str, ...] = ()) -> None:
        self._queues = list(queues)

    def update(self, queues: list[str]) -> None:
        """Sets the queues."""
        self._queues = list(queues)

    def consume(self, count: int) -> list[str]:
        """The first `count` of them."""
        return self._queues[:count]

    def rotate(self, last: str) -> None:
        """Moves a served queue to the end."""
        if last in self._queues[1:]:
            self._queues.remove(last)
            self._queues.append(last)


class Channel(redis.Channel):
    """Validates messages, and abandons a lost connection without commands."""

    QoS = QoS
    Message: type[virtual.Message] = Message
    unsettled = Unsettled()
    rules = QueueRules()
    from_transport_options: tuple[str, ...] = (*redis.Channel.from_transport_options, "unsettled", "rules")  # type: ignore[assignment] # longer than kombu's

    def abandon(self) -> None:
        """The connection is lost: reads, restores and deletes nothing over it any more."""
        self.do_restore = False
        self._in_poll = False
        self.auto_delete_queues.clear()

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:  # noqa: FBT001, FBT002 - kombu's signature
        # Kombu reads the address of a closed channel, which raises an AttributeError that nothing handles.
        if self.connection is None or self.connection.client is None:
            raise NoConnection("this channel is closed")
        pool: ConnectionPool = super()._get_pool(asynchronous)
        return pool

    def _update_queue_cycle(self) -> None:
        """In the order of urgency of the rules, whatever the order on the command line is."""
        rank = {queue: place for place, queue in enumerate(self.rules.queues)}
        self._queue_cycle.update(sorted(self.active_queues, key=lambda queue: rank.get(queue, len(rank))))

    def _brpop_read(self, **options: object) -> bool:
        """Kombu's method, except for how the message is parsed."""
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            queue = bytes_to_str(reply[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._take(queue, reply[1])
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()

    def _take(self, queue: str, item: bytes) -> None:
        """Delivers one message. No message ends the worker or blocks its queue.

        Raises:
            NoConnection: or another error of NETWORK; the message returns to its queue with the next connection.
        """
        tag = ""
        try:
            message = self._validated(queue, item)
            if message is None:
                return
            tag = message["properties"]["delivery_tag"]
            self.connection._deliver(message, queue)  # noqa: SLF001 - kombu does the same
        except (*NETWORK, ResponseError):  # ResponseError: a server without memory, or one that became a replica
            if tag not in self.unsettled.held:
                self.unsettled.return_later(queue, item)
            raise
        except Exception as error:  # no valid message is known to do this
            log.exception("a message failed in its consumer", queue=queue)
            self.refuse(queue, item, f"failed in the consumer: {type(error).__name__}", tag)

    def _validated(self, queue: str, item: bytes) -> dict[str, Any] | None:
        """The message; None when it was set aside, or moved to another queue."""
        if queue not in self.rules.queues:
            return dict(loads(bytes_to_str(item)))
        try:
            message = validated(item)
        except InvalidMessage as invalid:
            self.refuse(queue, item, invalid.reason)
            return None
        moved = self.rules.moves.get((queue, task_of(message)))
        if moved:
            with self.conn_or_acquire() as client:
                client.lpush(moved, item)
                # There may be thousands more, with queries between them: moves those that are next in one command.
                client.eval(_MOVE, 2, queue, moved, f'"task": "{task_of(message)}"', _AT_ONCE)
            return None
        properties = message["properties"]
        properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "queue": queue}
        # A new tag per delivery: with the sender's tag, a second delivery would be settled with the first.
        properties["delivery_tag"] = str(uuid4())
        return message

    def refuse(self, queue: str, item: bytes, reason: str, tag: str = "") -> None:
        """Sets a message aside, and acknowledges it."""
        with self.conn_or_acquire() as client:
            set_aside(client, queue, item, reason)
        if tag:
            self.qos.ack(tag)

    def refuse_message(self, message: virtual.Message, reason: str) -> None:
        """The same for a valid message that Celery cannot use."""
        queue = message.delivery_info.get("queue", "")
        self.refuse(queue, dumps(message._raw).encode(), reason, message.delivery_tag)  # noqa: SLF001 - kombu's name

    def _deliver_fanout_message(self, message: object, exchange: str) -> bool:
        """Remote control, from any program: a message that fails is dropped."""
        try:
            return bool(super()._deliver_fanout_message(message, exchange))
        except NETWORK:
            raise
        except Exception as error:  # noqa: BLE001 - any program may have sent it
            log.warning("a remote control message was dropped", exchange=exchange, error=type(error).__name__)
            return True


class Transport(redis.Transport):
    """Kombu's Redis transport, with our channel."""

    Channel = Channel
    _forget_ticks: Callable[[], None] | None = None

    def register_with_event_loop(self, connection: Connection, loop: Hub) -> None:
        """Remembers the callbacks that it adds to the loop: kombu never removes them."""
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        added = loop.on_tick - before
        self._forget_ticks = lambda: loop.on_tick.difference_update(added)

    def abandon(self) -> None:
        """The connection is lost."""
        for channel in [*self.channels, *self._avail_channels]:
            channel.abandon()
        self.cycle.close()  # type: ignore[union-attr] # Redis has one
        if self._forget_ticks:
            self._forget_ticks()
