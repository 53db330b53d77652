"""Connections that wait for messages, and how messages that are done are acknowledged."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ResponseError

from tests.refusing import Refusal, refusing
from workers.broker.names import CONTROL_QUEUE, NODES_QUEUE
from workers.broker.set_aside import SET_ASIDE, stored
from workers.celery_app import make_app
from workers.logs import configure
from workers.settings import Secret, Settings

LONG = 60  #: seconds for which the connection waits for one message
SOON = 20.0


@pytest.fixture
def app(valkey: Redis, valkey_url: Secret) -> Iterator[Celery]:
    """An app on an empty server."""
    del valkey
    app = make_app(Settings(broker_url=valkey_url))
    yield app
    app.close()


@pytest.fixture
def waiting(app: Celery) -> Iterator[Any]:
    """A channel that waits for messages."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.brpop_timeout = LONG
        with app.amqp.TaskConsumer(channel), suppress(TimeoutError):
            connection.drain_events(timeout=0.1)
            pytest.fail("there was a message")
        yield channel


def test_a_channel_that_waits_for_messages_ends_at_once(waiting: Any) -> None:  # noqa: ANN401 - a channel of kombu
    """A worker without work ends when it is asked to, not when its wait for a message has ended."""
    began = time.monotonic()
    waiting.close()
    assert time.monotonic() - began < SOON


def test_a_message_that_has_come_meanwhile_is_not_lost(waiting: Any, app: Celery, valkey: Redis) -> None:  # noqa: ANN401 - the same
    """The server has taken it out of its queue for the channel that ends: it returns there."""
    app.send_task("esync.test", queue=NODES_QUEUE)
    assert valkey.llen(NODES_QUEUE) == 0
    waiting.close()
    assert valkey.llen(NODES_QUEUE) == 1


def test_a_user_who_may_not_end_the_wait_takes_messages(valkey: Redis, valkey_url: Secret) -> None:
    """The server may allow no command about connections: a worker then only ends later."""
    valkey.acl_setuser("plain", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-client"])
    address = urlsplit(valkey_url.reveal())
    app = make_app(Settings(broker_url=Secret(f"redis://plain:x@{address.hostname}:{address.port}/0")))
    app.send_task("esync.test", queue=NODES_QUEUE)
    taken: list[object] = []
    consumer = partial(app.amqp.TaskConsumer, callbacks=[lambda body, _: taken.append(body)])
    try:
        with app.connection_for_read() as connection, consumer(connection):
            connection.drain_events(timeout=SOON)
    finally:
        app.close()
        valkey.acl_deluser("plain")
    assert len(taken) == 1


@contextmanager
def messages_of(app: Celery, queue: str, number: int) -> Iterator[list[Any]]:
    """Messages that a channel has taken, and which are not acknowledged."""
    for _ in range(number):
        app.send_task("esync.test", queue=queue)
    messages: list[Any] = []
    with app.connection_for_read() as connection, app.amqp.TaskConsumer(connection.default_channel) as consumer:
        consumer.on_message = messages.append
        while len(messages) < number:
            connection.drain_events(timeout=SOON)
        yield messages


@pytest.fixture
def taken(app: Celery) -> Iterator[list[Any]]:
    """Three messages of steps, taken and not acknowledged."""
    with messages_of(app, NODES_QUEUE, 3) as messages:
        yield messages


def test_messages_that_are_done_are_acknowledged_together(taken: list[Any], valkey: Redis) -> None:
    """They count as done at once; the broker gets one command for all, and those in work stay with it."""
    qos = taken[0].channel.qos
    before = valkey.info("commandstats").get("cmdstat_hdel", {"calls": 0})["calls"]
    for message in taken[:2]:
        message.ack()
    assert qos.unsettled.held == {taken[2].delivery_tag}
    assert valkey.hlen(qos.unacked_key) == 3
    qos.settle()
    assert valkey.hkeys(qos.unacked_key) == [taken[2].delivery_tag]
    assert valkey.info("commandstats")["cmdstat_hdel"]["calls"] == before + 1


def test_a_request_that_is_done_is_acknowledged_at_once(app: Celery, valkey: Redis) -> None:
    """After a crash it would be done again, and it may have started a run."""
    with messages_of(app, CONTROL_QUEUE, 1) as (message,):
        message.ack()
        assert valkey.hlen(message.channel.qos.unacked_key) == 0


def test_a_message_that_has_to_be_tried_again_is_in_its_queue_at_once(taken: list[Any], valkey: Redis) -> None:
    """Any worker can take it; messages that are done meanwhile are acknowledged with it."""
    taken[0].ack()
    taken[1].requeue()
    assert valkey.llen(NODES_QUEUE) == 1
    assert valkey.hlen(taken[0].channel.qos.unacked_key) == 1


def test_a_channel_that_ends_acknowledges_what_is_done(taken: list[Any], valkey: Redis) -> None:
    """And returns the others to their queue."""
    taken[0].ack()
    taken[0].channel.close()
    assert valkey.llen(NODES_QUEUE) == 2
    assert valkey.hlen(taken[0].channel.qos.unacked_key) == 0


@pytest.mark.parametrize("why", Refusal)
def test_a_message_is_not_lost_while_the_broker_takes_no_writes(
    taken: list[Any], valkey: Redis, why: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays unacknowledged, and returns to its queue as soon as that is possible; the log says so once."""
    configure("INFO")
    qos = taken[0].channel.qos
    with refusing(valkey, why):
        taken[0].requeue()
        for _ in range(3):
            qos.settle()
            qos.restore_visible(interval=1)
        with pytest.raises(ResponseError):
            qos.restore_by_tag(taken[1].delivery_tag)
        assert (valkey.llen(NODES_QUEUE), valkey.hlen(qos.unacked_key)) == (0, 3)
    qos.settle()
    assert (valkey.llen(NODES_QUEUE), valkey.hlen(qos.unacked_key)) == (1, 2)
    assert not valkey.exists(SET_ASIDE)
    assert 1 == capsys.readouterr().err.count("the broker takes that later")


def test_a_message_whose_queue_is_no_queue_is_set_aside(taken: list[Any], valkey: Redis) -> None:
    """Another program wrote there: the message would keep all others from their queues."""
    qos = taken[0].channel.qos
    valkey.set(NODES_QUEUE, "of another program")
    qos.restore_by_tag(taken[0].delivery_tag)
    assert valkey.hlen(qos.unacked_key) == 2
    (kept,) = stored(valkey)
    assert kept.reason == "cannot be restored: ResponseError"
