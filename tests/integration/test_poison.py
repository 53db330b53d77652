"""Invalid messages in the queues of a real worker: it survives, the queue continues, `doctor` lists them."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Harness
from tests.integration.poison import CLUSTER, Asker
from tests.messages import INVALID, good
from tests.sampling import examples
from tests.waiting import PATIENCE
from workers.broker.set_aside import KEPT, SET_ASIDE
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE, STARTS_QUEUE
from workers.redis.connection import connect

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def only_asker(harness: Harness) -> Iterator[Asker]:
    """One worker for all tests; each test begins with no message set aside."""
    harness.wait_for_worker()
    with connect(harness.engine.settings.store()) as client:
        yield Asker(harness, client)


@pytest.fixture
def asker(only_asker: Asker) -> Asker:
    """A worker with no message set aside."""
    only_asker.client.delete(SET_ASIDE)
    return only_asker


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_message_is_set_aside(asker: Asker, name: str) -> None:
    """For any error in a message: the worker answers the query behind it, and the message is listed."""
    asker.client.lpush(CONTROL_QUEUE, INVALID[name])
    assert asker.answers()
    (entry,) = asker.aside()
    assert CONTROL_QUEUE == entry.queue
    assert entry.reason
    assert len(entry.model_dump_json()) < 2000
    assert entry.message.isprintable()
    assert asker.settled()


@pytest.mark.parametrize("queue", [NODES_QUEUE, STARTS_QUEUE])
def test_every_queue_continues(asker: Asker, queue: str) -> None:
    """The same in each queue; none of the messages is delivered again."""
    some = [INVALID["body []"], INVALID["application/data"], INVALID["random bytes"], INVALID["unknown task"]]
    asker.client.lpush(queue, *some)
    assert {"error": "input_refused"}.items() <= asker.reply("esync.rollout", queue, cluster="nowhere").items()
    assert len(some) == len(asker.aside())
    assert asker.settled()


def test_the_list_is_bounded(asker: Asker) -> None:
    """Of a thousand large messages, the newest hundred are kept, each shortened."""
    for number in range(0, 1000, 50):
        asker.client.lpush(CONTROL_QUEUE, *(f"{n} {'x' * 20_000}" for n in range(number, number + 50)))
    assert asker.answers(60)
    assert KEPT == asker.client.llen(SET_ASIDE)
    assert asker.aside()[0].message.startswith("999 x")
    assert 300_000 > (asker.client.memory_usage(SET_ASIDE, samples=0) or 0)


def test_invalid_messages_do_not_delay_valid_ones(asker: Asker) -> None:
    """Two hundred queries between as many invalid messages are all answered."""
    bad = list(INVALID.values())
    asked = []
    for number in range(200):
        asker.client.lpush(CONTROL_QUEUE, bad[number % len(bad)])
        asked.append(asker.harness.engine.app.send_task("esync.status", kwargs={"run": "none"}, queue=CONTROL_QUEUE))
    assert {"run_unknown"} == {question.get(timeout=PATIENCE)["error"] for question in asked}
    assert asker.settled()


def test_invalid_unacknowledged_messages_do_not_block_others(asker: Asker) -> None:
    """An invalid entry among the unacknowledged messages is set aside; the message behind it is delivered."""
    message = json.dumps([good(), "", CONTROL_QUEUE])
    for tag, kept in (("1.000-poison", b"\xff\xfe"), ("2.000-poison", "[1,2,3]"), ("3.000-fine", message)):
        asker.client.hset("esync.v1.unacked", tag, kept)
    assert asker.settled(20)
    assert asker.answers()
    assert {"esync.v1.unacked"} <= {entry.queue for entry in asker.aside()}


def test_invalid_remote_control_messages_are_dropped(asker: Asker) -> None:
    """No message in the control channel of the workers ends a worker, or the connection with what it just takes."""
    bad = list(INVALID.values())
    failures = asker.harness.log().count("the consumer failed")
    strange = [b'{"__type__": "uuid", "__value__": {"hex": 1}}', b'{"__type__": "datetime", "__value__": []}']
    for item in [*bad, *strange, b'{"properties":{}}', json.dumps(good()).encode()]:
        asker.client.publish("/0.esync.v1.pidbox", item)
    assert asker.answers()
    asker.harness.wait_for_worker()
    assert failures == asker.harness.log().count("the consumer failed")


STRANGE: tuple[Any, ...] = ({"a": 1}, ["four-servers"], 5, None, True, 1.5, "\ud800", "x" * 100_000)


@pytest.mark.parametrize("value", STRANGE, ids=[repr(value)[:12] for value in STRANGE])
def test_wrong_arguments_get_an_error_reply(asker: Asker, value: object) -> None:
    """A wrong type, an unknown argument, a missing one: the documented error, and no traceback."""
    before = asker.harness.log().count("Traceback")
    for task, queue, name in (("esync.rollout", STARTS_QUEUE, "cluster"), ("esync.status", CONTROL_QUEUE, "run")):
        for answer in (
            asker.reply(task, queue, **{name: value}),
            asker.reply(task, queue, value),
            asker.reply(task, queue, **{name: "none", "nobody_knows": value}),
            asker.reply(task, queue, "none", 1, 2, 3, 4, 5),
            asker.reply(task, queue),
        ):
            assert {"error", "message"} == answer.keys()
            assert answer["error"] == "input_refused"
            assert len(answer["message"]) < 500
    assert before == asker.harness.log().count("Traceback")


@pytest.mark.parametrize(
    "step", ["install_check", "config_edit", "cert_copy", "service_restart", "rollback", "cleanup"]
)
def test_steps_of_no_run_are_refused(asker: Asker, step: str) -> None:
    """A step without a run, or with arguments of a wrong type, returns the reason and never raises."""
    task = f"esync.{step}"
    before = asker.harness.log().count("Traceback")
    assert "forgotten" == asker.told(task, NODES_QUEUE, "no-run", "wave-1", "S1")["status"]
    for value in STRANGE:
        assert "refused" == asker.told(task, NODES_QUEUE, value, "wave-1", "S1")["status"]
    assert "refused" == asker.told(task, NODES_QUEUE)["status"]
    assert "refused" == asker.told(task, NODES_QUEUE, run="a", turn="b", node="c", more="d")["status"]
    assert before == asker.harness.log().count("Traceback")


def test_messages_for_unknown_runs_are_acknowledged(asker: Asker) -> None:
    """`begin` and `join` for unknown runs, or with wrong arguments, leave no message and no traceback."""
    before = asker.harness.log().count("Traceback")
    for args in (("no-run",), (5,), (), ("no-run", "wave-1"), ("no-run", {"a": 1}), ("a", "b", "c")):
        for task in ("esync.begin", "esync.join_and_verify"):
            assert asker.reply(task, CONTROL_QUEUE, *args) is None
    assert asker.settled()
    assert before == asker.harness.log().count("Traceback")


def test_doctor_shows_what_was_set_aside(asker: Asker, tmp_path: Path, esync: Path) -> None:
    """`esync doctor` shows their number, the reasons, and how to delete them; with the option it deletes them."""
    asker.client.lpush(CONTROL_QUEUE, INVALID["body []"], INVALID["body []"], b"\x07\x1b[31m not JSON")
    assert asker.answers()
    cluster = tmp_path / "shop.yaml"
    cluster.write_text(CLUSTER.format(name="shop"))

    def doctor(*options: str) -> str:
        done = subprocess.run(
            [str(esync), "doctor", str(cluster), *options],
            env={**os.environ, **asker.harness.environment, "NOBODY": "x"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stderr

    said = doctor()
    assert "3 unusable messages" in said
    assert "2 x the body is not [args, kwargs, embed] (queue esync.v1.control)" in said
    assert "--forget-set-aside" in said
    assert "\x07" not in said
    assert "3 unusable messages" in doctor("--forget-set-aside")
    assert "set" not in doctor().splitlines()[0]
    assert not asker.aside()


def _mutated(chance: random.Random) -> bytes:
    """A valid message with one field replaced, removed or repeated, or with changed bytes."""
    message = good(chance.choice(["esync.status", "esync.rollout", "esync.install_check", "esync.begin"]))
    values: list[Any] = [None, 0, -1, 1e308, True, "", "x" * 5000, "\x00", [], {}, [[[]]], {"a": {"b": []}}, "none"]
    for _ in range(chance.randint(0, 3)):
        place: Any = message
        while isinstance(place, dict) and place:
            name = chance.choice(list(place))
            if chance.random() < 0.5 or not isinstance(place[name], dict):
                place[name] = deepcopy(chance.choice(values))
                break
            place = place[name]
    item = bytearray(json.dumps(message).encode())
    for _ in range(chance.choice([0, 0, 1, 5])):
        item[chance.randrange(len(item))] = chance.randrange(256)
    return bytes(item[: chance.choice([len(item), len(item), chance.randrange(len(item))])])


@pytest.mark.parametrize("seed", range(examples(40, 4)))
def test_no_mutated_message_ends_the_worker(asker: Asker, seed: int) -> None:
    """Three hundred messages with random errors: the worker answers, and settles all of them."""
    chance = random.Random(seed)  # noqa: S311 - made-up messages, no secrets
    for queue in (CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE):
        asker.client.lpush(queue, *(_mutated(chance) for _ in range(100)))
    assert asker.answers(60)
    for queue in (STARTS_QUEUE, NODES_QUEUE):
        assert isinstance(asker.reply("esync.status", queue, run="none"), dict)
    assert asker.settled(), asker.client.hgetall("esync.v1.unacked")
    assert "Unrecoverable" not in asker.harness.log()
