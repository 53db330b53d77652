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
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.asynchronous.hub import Hub
from kombu.connection import Connection
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis import ConnectionPool, Redis
from redis.client import PubSub
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.sentinel import SentinelConnectionPool

from workers.broker.messages import InvalidMessage, QueueRules, task_of, validated
from workers.broker.names import common_queue, is_nodes_queue
from workers.broker.set_aside import set_aside
from workers.broker.unsettled import NETWORK, QoS, Unsettled, new_tag
from workers.logger import logger
from workers.redis.connection import READ
from workers.redis.sentinels import Sentinels

__all__ = ["NETWORK", "Channel", "SentinelTransport", "Transport", "Unsettled", "UrgentFirst"]

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
    body_encoding: str | None = None  # type: ignore[assignment] # base64 makes the body, which is text, larger
    unsettled = Unsettled()
    rules = QueueRules()
    _shared_client: Redis | None = None
    _waiting: tuple[object, int] = (None, 0)  #: the socket that waits for messages, and its number at the server
    from_transport_options: tuple[str, ...] = (*redis.Channel.from_transport_options, "unsettled", "rules")  # type: ignore[assignment] # longer than kombu's

    def abandon(self) -> None:
        """The connection is lost: reads, restores and deletes nothing over it any more."""
        self.do_restore = False
        self._in_poll = False
        self.auto_delete_queues.clear()

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - as kombu has it
        """One client a channel. Kombu makes one for each command, which costs more than the command."""
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
            self._shared_client = super()._create_client()
        return self._shared_client

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        # The server is not told the version of the library: that reads its package's files for each connection.
        return {**super()._connparams(asynchronous), "socket_read_size": READ, "driver_info": None}

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

    def close(self) -> None:
        """Ends the wait for a message, of up to a second, unless one has come; kombu only waits until it ends."""
        if self._in_poll and self._waiting[1]:
            # A user without this right, as docs/operating.md has it, waits.
            with suppress(ResponseError, *NETWORK), self.conn_or_acquire() as client:
                client.execute_command("CLIENT", "UNBLOCK", self._waiting[1])
        super().close()

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Kombu's method; before the first wait of a connection the server is asked for its number."""
        connection = self.client.connection
        if self._waiting[0] is not connection._sock:  # noqa: SLF001 - as kombu does
            self._waiting = connection._sock, 0  # noqa: SLF001 - the same
            with suppress(NoPermissionError):
                connection.send_command("CLIENT", "ID")
                self._waiting = connection._sock, connection.read_response()  # noqa: SLF001 - the same
        super()._brpop_start(timeout)

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
        if queue not in self.rules.queues and not is_nodes_queue(queue):
            return dict(loads(bytes_to_str(item)))  # none that is acknowledged
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
        properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "queue": common_queue(queue)}
        properties["delivery_tag"] = new_tag()
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

    def _receive_one(self, c: PubSub) -> bool:
        """Remote control, from any program: a message that cannot be read, or that fails, is dropped."""
        try:
            return bool(super()._receive_one(c))
        except (Empty, RedisError, *NETWORK):
            raise
        except Exception as error:  # noqa: BLE001 - any program may have sent it
            log.warning("a remote control message was dropped", error=type(error).__name__)
            return False


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


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same over connections to the server that Sentinels know."""

    sentinels: Sentinels
    from_transport_options = (*Channel.from_transport_options, "sentinels")  # type: ignore[assignment] # longer than kombu's

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> SentinelConnectionPool:  # noqa: FBT001, FBT002 - kombu's signature
        pool = self.sentinels.pool(self._connparams(asynchronous))
        # Where kombu looks for the connections to the Sentinels, which it closes with the channel.
        place = "_async_sentinel_manager" if asynchronous else "_sentinel_manager"
        setattr(self, place, pool.sentinel_manager)
        return pool


class SentinelTransport(Transport):
    """The transport of addresses with Sentinels."""

    Channel = SentinelChannel
