"""The own queues of workers: what a worker does not take goes to all."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from kombu.transport.redis import Channel
from redis import Redis

from workers.broker.names import NODES_QUEUE, common_queue, holder_of, is_nodes_queue, nodes_queue, own_queue
from workers.broker.own_queues import STUCK, OwnQueues
from workers.celery_app import make_app, serve_own, serve_site
from workers.host.holders import new_holder
from workers.settings import Secret, Settings

HERE, AWAY = own_queue(NODES_QUEUE, new_holder()), own_queue(nodes_queue("ams"), "host:1:abcdef")


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Not moving by itself."""
    return Clock()


@pytest.fixture
def queues(valkey: Redis, clock: Clock) -> OwnQueues:
    """Of two workers that live, in an empty broker."""
    for queue in (HERE, AWAY):
        OwnQueues(valkey, clock, clock).serve(queue)
    return OwnQueues(valkey, clock, clock)


def messages(valkey: Redis, queue: str, priority: int = 0) -> list[str]:
    """Those of a queue with that priority, the next one first."""
    key = f"{queue}{Channel.sep}{priority}" if priority else queue
    return [str(text) for text in valkey.lrange(key, 0, -1)][::-1]


def test_names_of_queues() -> None:
    """An own queue is one of steps, and knows its worker and the common queue beside it."""
    assert ("esync.v1.nodes.ams", "host:1:abcdef") == (common_queue(AWAY), holder_of(AWAY))
    assert all(map(is_nodes_queue, (NODES_QUEUE, nodes_queue("ams"), HERE, AWAY)))
    assert (NODES_QUEUE, "") == (common_queue(NODES_QUEUE), holder_of(NODES_QUEUE))
    assert not is_nodes_queue("esync.v1.control@host:1:abcdef")


def test_a_worker_that_left_is_not_sent_anything(valkey: Redis, queues: OwnQueues) -> None:
    """What it left is for all workers of its site, each message with its priority, in order."""
    for priority, text in ((0, "1"), (0, "2"), (9, "3")):
        valkey.lpush(f"{AWAY}{Channel.sep}{priority}" if priority else AWAY, text)
    assert {HERE, AWAY} == queues.served()
    queues.leave(AWAY)
    assert {HERE} == queues.served()
    assert (["1", "2"], ["3"]) == (messages(valkey, nodes_queue("ams")), messages(valkey, nodes_queue("ams"), 9))
    assert not valkey.keys(f"{AWAY}*")


def test_a_process_of_this_machine_that_has_ended_is_noticed_at_once(valkey: Redis, queues: OwnQueues) -> None:
    """Before anybody finds out: it gets no message, its messages go to all, and `release` reports its death once."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = own_queue(NODES_QUEUE, new_holder().replace(f":{os.getpid()}:", f":{child.pid}:"))
    queues.serve(dead)
    assert dead in queues.served()
    child.communicate()
    assert dead not in queues.served()
    valkey.lpush(dead, "1")
    assert [True, False] == [queues.release(), queues.release()]
    assert ["1"] == messages(valkey, NODES_QUEUE)
    assert {HERE, AWAY} == OwnQueues(valkey).served()
    assert 0 > (valkey.zscore("esync.v1.workers", dead) or 0)


def test_a_worker_that_takes_nothing_for_a_while_is_helped(valkey: Redis, queues: OwnQueues, clock: Clock) -> None:
    """It was cut off, or all its threads wait. It gets messages again as soon as it says that it lives."""
    valkey.lpush(AWAY, "1", "2")
    queues.release()
    clock.now += STUCK - 0.1
    queues.release()
    assert ["1", "2"] == messages(valkey, AWAY)
    clock.now += 0.1
    queues.release()
    assert ["1", "2"] == messages(valkey, nodes_queue("ams"))
    assert {HERE} == queues.served()
    clock.now += 5
    queues.serve(AWAY)
    assert {HERE, AWAY} == queues.served()


def test_what_is_sent_to_a_worker_that_has_just_left_is_not_lost(
    valkey: Redis, queues: OwnQueues, clock: Clock
) -> None:
    """Who sent it had looked before; it goes to all workers in the next round, for some minutes."""
    queues.leave(AWAY)
    for text in ("1", "2"):
        clock.now += 200
        valkey.lpush(AWAY, text)
        queues.release()
        assert text == valkey.lindex(nodes_queue("ams"), 0)
    clock.now += 601
    queues.release()
    assert [HERE] == valkey.zrange("esync.v1.workers", 0, -1)


def test_idle_workers_look_seldom(valkey: Redis, queues: OwnQueues, clock: Clock) -> None:
    """However often they are called."""
    queues.leave(AWAY)
    queues.release()
    valkey.lpush(AWAY, "1")
    queues.release(at_most_every=10)
    assert not valkey.exists(nodes_queue("ams"))
    clock.now += 10
    queues.release(at_most_every=10)
    assert valkey.exists(nodes_queue("ams"))


def test_a_worker_that_takes_its_messages_keeps_them(valkey: Redis, queues: OwnQueues, clock: Clock) -> None:
    """However many wait: another worker would need a session of its own with each of their nodes."""
    valkey.lpush(AWAY, *map(str, range(5)))
    for _ in range(4):
        queues.release()
        clock.now += STUCK
        valkey.rpop(AWAY)
    queues.release()
    assert ["4"] == messages(valkey, AWAY)
    valkey.rpop(AWAY)
    for _ in range(3):  # an empty queue waits for nothing
        queues.release()
        clock.now += STUCK
    assert AWAY in queues.served()


def test_a_worker_that_is_never_heard_of_again_is_forgotten(valkey: Redis, queues: OwnQueues, clock: Clock) -> None:
    """A day later: the broker does not collect the names of all workers that ever were."""
    clock.now += 90_000
    queues.serve(HERE)
    queues.release()
    assert {HERE} == queues.served()
    assert 1 == valkey.zcard("esync.v1.workers")


@pytest.mark.parametrize("site", ["", "ams"])
def test_a_step_stays_with_the_worker_that_sends_it(site: str) -> None:
    """If that worker takes from a queue of its own, beside the common one; else it goes to all workers."""
    app = make_app(Settings(broker_url=Secret("redis://127.0.0.1:1/0")))
    if site:
        serve_site(app, site)
    serve_own(app, "host:1:abcdef")

    def sent_to(common: str) -> str:
        return str(app.amqp.router.route({"queue": own_queue(common)}, "esync.config_edit")["queue"].name)

    assert nodes_queue(site) == sent_to(nodes_queue(site))
    app.amqp.queues.take_from_own()
    assert own_queue(nodes_queue(site), "host:1:abcdef") == sent_to(nodes_queue(site))
    assert own_queue(nodes_queue(site), "host:1:abcdef") in app.amqp.queues.consume_from
    assert nodes_queue("lon") == sent_to(nodes_queue("lon"))


def test_a_worker_without_steps_has_no_queue_of_its_own() -> None:
    """One with `-Q` and the control queue only, and a process that is no worker."""
    app = make_app(Settings(broker_url=Secret("redis://127.0.0.1:1/0")))
    app.amqp.queues.take_from_own()
    serve_own(app, "host:1:abcdef")
    app.amqp.queues.select(["esync.v1.control"])
    app.amqp.queues.take_from_own()
    assert "" == app.amqp.queues.own
    assert {"esync.v1.control"} == app.amqp.queues.consume_from.keys()
