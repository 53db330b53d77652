"""Chords that are sent without Celery's canvas."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Signature, chain, chord
from redis import Redis

from workers.broker.chords import Call, send_chord
from workers.broker.names import CONTROL_QUEUE, NODES_QUEUE
from workers.celery_app import make_app
from workers.settings import Secret, Settings

NODES = ("N1", "N2")


@pytest.fixture
def app(valkey_url: Secret, valkey: Redis) -> Iterator[Celery]:
    """An app whose server is empty."""
    del valkey
    made = make_app(Settings(broker_url=valkey_url), ["test.join"])
    yield made
    made.close()


def _body(app: Celery) -> Signature:
    made = app.signature("test.join", args=("run", "wave 1"), immutable=True)
    return made.set(queue=CONTROL_QUEUE, ignore_result=True)


def _sent(valkey: Redis) -> list[Any]:
    """The queue and its messages, which are removed; without what is random in each, and addresses for replies."""
    (queue,) = valkey.scan_iter(f"{NODES_QUEUE}*")
    (counted,) = map(str, valkey.scan_iter("*.s"))
    found = [json.loads(item) for item in reversed(valkey.lrange(queue, 0, -1))]
    for message in found:
        message["body"] = json.loads(message["body"])
        del message["properties"]["delivery_tag"]
    group = counted.removeprefix("esync.v1.group-").removesuffix(".s")
    members = str(valkey.get(counted))
    valkey.flushdb()
    plain = json.dumps([queue, members, *found]).replace(group, "GROUP")
    return list(_without_replies(json.loads(plain)))


def _without_replies(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: _without_replies(one) for name, one in value.items() if name != "reply_to"}
    return [_without_replies(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("steps", [("one",), ("one", "two"), ("one", "two", "three", "four")])
@pytest.mark.parametrize("priority", [0, 6])
def test_the_messages_are_those_of_the_canvas(
    steps: tuple[str, ...], priority: int, app: Celery, valkey: Redis
) -> None:
    """So Celery's worker does with them what it does with a chord of chains."""
    options = {"queue": NODES_QUEUE, **({"priority": priority} if priority else {})}

    def signature(step: str, node: str) -> Signature:
        made = app.signature(f"test.{step}", args=("run", node), immutable=True)
        return made.set(task_id=f"{step} {node}", **options)

    body = _body(app)
    body.on_error(_body(app))
    chains = [chain(*(signature(step, node) for step in steps)) for node in NODES]
    chord(chains, app=app, task_id=str(uuid.uuid4()))(body)
    expected = _sent(valkey)
    body = _body(app)
    body.on_error(_body(app))
    calls = [[Call(f"test.{step}", f"{step} {node}", ("run", node), options) for step in steps] for node in NODES]
    send_chord(app, calls, body)
    assert expected == _sent(valkey)
