"""The broker's channel: kombu's for Redis, made to outlive restarts of the server and messages that are none.

What kombu does by itself, and why it is not enough:

- A connection that is lost is closed; closing restores what was not acknowledged, over a connection that is gone, and
  ends the worker (`'NoneType' object has no attribute 'hostname'`). Here what this process works on stays noted on the
  server as not acknowledged, nothing is delivered twice, and it is acknowledged over whatever connection there is when
  the work is done. A worker that dies leaves it to the visibility timeout, as ever.
- A message is opened on trust, after it was taken off the queue. Here `workers.broker.messages` opens it; what is unfit
  is set aside.
"""

from collections.abc import Callable
from queue import Empty
from time import time
from typing import Any
from uuid import uuid4

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from workers.broker.messages import Border, Unfit, opened, task_of
from workers.broker.set_aside import set_aside
from workers.logs import logger

__all__ = ["NETWORK", "Channel", "Hands", "Transport", "UrgentFirst"]

#: What a broken connection raises. Kombu's own list has KeyError in it, which a strange message raises as well.
NETWORK = (NoConnection, NoAnswer, OSError)

_AT_ONCE = 1000  #: messages looked at when some are moved to another queue
#: KEYS from, to; ARGV what a message to be moved has in it, how many to look at. The others stay in their order.
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


class Hands:
    """What this process has taken from the broker and not settled, over all connections it had and will have."""

    def __init__(self) -> None:
        self.held: set[str] = set()  #: delivery tags of the messages that are worked on
        self._owed: dict[str, bool] = {}  #: tag -> goes back to its queue, told when there was no connection
        self._returned: list[tuple[str, bytes]] = []  #: queue and message, taken when the connection broke

    @property
    def empty(self) -> bool:
        """Whether there is nothing to settle."""
        return not (self.held or self._owed or self._returned)

    def owe(self, tag: str, *, requeue: bool) -> None:
        """Remembers how a message ended until the broker can be told."""
        self._owed[tag] = requeue

    def give_back(self, queue: str, item: bytes) -> None:
        """Remembers a message that was taken off its queue and could not be noted as taken."""
        self._returned.append((queue, item))

    def settle(self, qos: "QoS", client: Any) -> None:  # noqa: ANN401 - kombu gives no types
        """Tells the broker what it could not be told.

        Raises:
            RedisError: no connection again; what is left is told the next time.
        """
        while self._returned:
            client.rpush(*self._returned[-1])
            self._returned.pop()
        for tag, requeue in list(self._owed.items()):
            if requeue:
                qos.restore_by_tag(tag, client, leftmost=True)
            else:
                qos.forget(tag, client)
            self._owed.pop(tag, None)


class QoS(redis.QoS):
    """Acknowledges by the tag, whichever connection the message came over; never raises for want of one."""

    @property
    def hands(self) -> Hands:
        """Of this process."""
        hands: Hands = self.channel.hands
        return hands

    def can_consume(self) -> bool:
        """Counts what is worked on from earlier connections, too."""
        return not self.prefetch_count or len(self.hands.held) < self.prefetch_count

    def append(self, message: "Message", delivery_tag: str) -> None:
        """Notes a message as taken, with the queue it came from and not with what it says of itself."""
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time()})
            pipe.hset(self.unacked_key, delivery_tag, dumps([message._raw, *_way_back(message)]))  # noqa: SLF001 - kombu's way
            pipe.execute()
        self.hands.held.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Done with it."""
        self._settled(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Done with it, or back to the end of its queue."""
        self._settled(delivery_tag, requeue=requeue)

    def _settled(self, tag: str, *, requeue: bool) -> None:
        self.hands.held.discard(tag)
        self.hands.owe(tag, requeue=requeue)
        try:
            with self.channel.conn_or_acquire() as client:
                self.hands.settle(self, client)
        except (*NETWORK, RedisError) as error:
            log.info("the broker is told later that a message is done", error=type(error).__name__)
        virtual.QoS.ack(self, tag)

    def forget(self, tag: str, client: Any) -> None:  # noqa: ANN401 - kombu gives no types
        """Takes a message off the list of those that are not acknowledged."""
        self._remove_from_indices(tag, client.pipeline()).execute()

    def restore_visible(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - passed on
        """Called when a connection is new, and every few seconds: what is owed first."""
        with self.channel.conn_or_acquire() as client:
            self.hands.settle(self, client)
        super().restore_visible(*args, **more)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - kombu's signature
        """Puts a message back on its queue; one that cannot be is set aside: it must not stop those behind it."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except NETWORK:
            raise
        except Exception as error:  # noqa: BLE001 - whatever lies there, by whoever
            with self.channel.conn_or_acquire(client) as connection:
                item = connection.hget(self.unacked_key, tag) or b""
                set_aside(connection, self.unacked_key, item, f"cannot be restored: {type(error).__name__}")
                self.forget(tag, connection)

    def restore_unacked(self, client: Any = None) -> None:  # noqa: ANN401 - kombu's signature
        """At the end of the process: everything goes back. Without a connection it waits for its timeout."""
        try:
            with self.channel.conn_or_acquire(client) as connection:
                self.hands.settle(self, connection)
                for tag in list(self.hands.held):
                    self.restore_by_tag(tag, connection)
                    self.hands.held.discard(tag)
        except (*NETWORK, RedisError) as error:
            log.warning("messages could not be given back", error=type(error).__name__, count=len(self.hands.held))
        self._delivered.clear()


def _way_back(message: "Message") -> tuple[str, str]:
    """Exchange and routing key for putting it back: the queue itself, where the border has noted it."""
    info = message.delivery_info
    return ("", info["queue"]) if "queue" in info else (info["exchange"], info["routing_key"])


class Message(virtual.Message):
    """A message that may be told twice that it is done."""

    def ack_log_error(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - passed on
        """Acknowledged, unless it was."""
        if not self.acknowledged:
            super().ack_log_error(*args, **more)

    def reject_log_error(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - passed on
        """Rejected, unless it was."""
        if not self.acknowledged:
            super().reject_log_error(*args, **more)


class UrgentFirst:
    """The order queues are asked in: the first always first, the others in turn, the one just served last."""

    def __init__(self, queues: tuple[str, ...] = ()) -> None:
        self._queues = list(queues)

    def update(self, queues: list[str]) -> None:
        """These queues, from now on."""
        self._queues = list(queues)

    def consume(self, count: int) -> list[str]:
        """So many of them."""
        return self._queues[:count]

    def rotate(self, last: str) -> None:
        """That one was served."""
        if last in self._queues[1:]:
            self._queues.remove(last)
            self._queues.append(last)


class Channel(redis.Channel):
    """Opens messages by the border's rules, and lets a lost connection go quietly."""

    QoS = QoS
    Message: type[virtual.Message] = Message
    hands = Hands()
    border = Border()
    from_transport_options: tuple[str, ...] = (*redis.Channel.from_transport_options, "hands", "border")  # type: ignore[assignment] # longer than kombu's

    def give_up(self) -> None:
        """The connection is gone: nothing can be read, restored or deleted over it any more."""
        self.do_restore = False
        self._in_poll = False
        self.auto_delete_queues.clear()

    def _get_pool(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's signature
        # Kombu asks a closed channel for its address; what follows is an AttributeError that nobody expects.
        if self.connection is None or self.connection.client is None:
            raise NoConnection("this channel is closed")
        return super()._get_pool(asynchronous)

    def _update_queue_cycle(self) -> None:
        """In the border's order of urgency, whatever order the command line had."""
        rank = {queue: place for place, queue in enumerate(self.border.queues)}
        self._queue_cycle.update(sorted(self.active_queues, key=lambda queue: rank.get(queue, len(rank))))

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ANN401 - kombu's signature
        """Kombu's, but for how the message is opened."""
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
        """Hands one message on. Whatever it is, the worker lives and the queue goes on.

        Raises:
            NoConnection: and its kin; the message goes back to its queue with the next connection.
        """
        tag = ""
        try:
            message = self._opened(queue, item)
            if message is None:
                return
            tag = message["properties"]["delivery_tag"]
            self.connection._deliver(message, queue)  # noqa: SLF001 - kombu's way
        except (*NETWORK, ResponseError):  # the latter: a server that is full, or became a replica
            if tag not in self.hands.held:
                self.hands.give_back(queue, item)
            raise
        except Exception as error:  # the border lets nothing in that we know to do this
            log.exception("a message broke its consumer", queue=queue)
            self.refuse(queue, item, f"broke the consumer: {type(error).__name__}", tag)

    def _opened(self, queue: str, item: bytes) -> dict[str, Any] | None:
        """The message; None when it is set aside, or belongs to another queue and was moved there."""
        if queue not in self.border.queues:
            return dict(loads(bytes_to_str(item)))
        try:
            message = opened(item)
        except Unfit as unfit:
            self.refuse(queue, item, unfit.reason)
            return None
        moved = self.border.moves.get((queue, task_of(message)))
        if moved:
            with self.conn_or_acquire() as client:
                client.lpush(moved, item)
                # Where one is, thousands may be, with questions between them: those next in the queue, in one go.
                client.eval(_MOVE, 2, queue, moved, f'"task": "{task_of(message)}"', _AT_ONCE)
            return None
        properties = message["properties"]
        properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "queue": queue}
        # A delivery's own: by the sender's, a second delivery would be settled with the first.
        properties["delivery_tag"] = str(uuid4())
        return message

    def refuse(self, queue: str, item: bytes, reason: str, tag: str = "") -> None:
        """Sets a message aside, and is done with it."""
        with self.conn_or_acquire() as client:
            set_aside(client, queue, item, reason)
        if tag:
            self.qos.ack(tag)

    def refuse_message(self, message: Any, reason: str) -> None:  # noqa: ANN401 - kombu's and ours
        """The same for a message that was let in, and that Celery cannot use."""
        queue = message.delivery_info.get("queue", "")
        self.refuse(queue, dumps(message._raw).encode(), reason, message.delivery_tag)  # noqa: SLF001 - kombu's name

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:  # noqa: ANN401 - kombu's signature
        """Remote control, from anybody: what breaks it is dropped."""
        try:
            return bool(super()._deliver_fanout_message(message, exchange))
        except NETWORK:
            raise
        except Exception as error:  # noqa: BLE001 - whatever was sent, by whoever
            log.warning("a message of remote control was dropped", exchange=exchange, error=type(error).__name__)
            return True


class Transport(redis.Transport):
    """Kombu's for Redis, with our channel."""

    Channel = Channel
    _forget_ticks: Callable[[], None] | None = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ANN401 - kombu's signature
        """Remembers what it adds to the loop: kombu leaves it there for good."""
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        added = loop.on_tick - before
        self._forget_ticks = lambda: loop.on_tick.difference_update(added)

    def give_up(self) -> None:
        """The connection is gone."""
        for channel in [*self.channels, *self._avail_channels]:
            channel.give_up()
        self.cycle.close()  # type: ignore[union-attr] # Redis has one
        if self._forget_ticks:
            self._forget_ticks()
