"""Very many starts at once: questions are answered first, starts are limited, and refused with a reason."""

import json
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.cluster_file.loader import load_cluster
from pipelines.usecases import runs as commands
from tests.integration.harness import Harness, harness_at
from tests.integration.poison import CLUSTER, Asker
from tests.messages import good
from tests.sampling import examples, in_turn
from tests.waiting import wait_until
from workers.celery_app import CONTROL_QUEUE, STARTS_QUEUE
from workers.errors import TooManyRuns
from workers.records import RunRecord
from workers.redis.connection import connect

pytestmark = pytest.mark.integration

MANY = examples(10_000, 1000)
MOST = 5  #: active runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cluster files."""
    made = tmp_path_factory.mktemp("clusters")
    for name in ("shop", "blog", "wiki"):
        (made / f"{name}.yaml").write_text(CLUSTER.format(name=name))
    return made


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Harness]:
    """A worker with a limit of a few runs."""
    with harness_at(
        tmp_path_factory.mktemp("harness"), ESYNC_CLUSTERS=str(folder), ESYNC_MAX_ACTIVE=str(MOST)
    ) as started:
        started.wait_for_worker()
        yield started


@pytest.fixture
def asker(harness: Harness) -> Iterator[Asker]:
    """A broker without runs or messages."""
    for record in harness.engine.store.runs():
        harness.engine.store.forget(record.id)
    with connect(harness.engine.settings.store()) as client:
        client.delete(STARTS_QUEUE, CONTROL_QUEUE)
        yield Asker(harness, client)


def at_work(harness: Harness, folder: Path, name: str) -> RunRecord:
    """A run that stays active for the whole test: it is paused before it begins."""
    cluster = load_cluster(folder / f"{name}.yaml")
    made = harness.engine.store.create(
        RunRecord(
            id=f"20260101-000000-{name}-{uuid.uuid4().hex[:6]}",
            cluster=name,
            spec=cluster.model_dump(mode="json"),
            key="first",
            who="test",
        )
    )
    harness.engine.store.flag(made.id, "pause", "by a test")
    return made


def flood(asker: Asker, queue: str, cluster: str, many: int = MANY) -> list[str]:
    """Queues that many triggers, each with its own key; returns their ids."""
    ids = [str(uuid.uuid4()) for _ in range(many)]
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    with asker.client.pipeline(transaction=False) as pipe:
        for id_ in ids:
            message = good("esync.rollout", queue)
            message["headers"]["id"] = id_
            content = json.dumps([[], {"cluster": cluster, "key": id_}, nothing]).encode()
            message["body"] = b64encode(content).decode()
            pipe.lpush(queue, json.dumps(message))
        pipe.execute()
    return ids


def drained(asker: Asker) -> bool:
    """Waits until all triggers were taken from the queues."""
    wait_until(lambda: not asker.client.llen(STARTS_QUEUE) + asker.client.llen(CONTROL_QUEUE), seconds=500)
    return asker.settled()


@pytest.mark.parametrize(
    ("queue", "bound"),
    [
        pytest.param(queue, bound, marks=in_turn(at, 2, "queues that are flooded"))
        for at, (queue, bound) in enumerate(((STARTS_QUEUE, 5), (CONTROL_QUEUE, 30)))
    ],
)
def test_questions_go_before_starts(
    asker: Asker, folder: Path, queue: str, bound: float, record_property: Callable[[str, object], None]
) -> None:
    """While thousands of triggers wait in the new queue or the old one, a question is answered in seconds.

    All of them are for one cluster with an active run: each is answered with that run, and none creates another.
    """
    first = at_work(asker.harness, folder, "shop")
    ids = flood(asker, queue, "shop")
    began = time.monotonic()
    assert asker.answers(bound)
    answered = time.monotonic() - began
    assert drained(asker)
    took = time.monotonic() - began
    record_property("measured", f"{MANY} triggers in {queue}: a question {answered:.2f} s, all of them {took:.0f} s")
    assert [first.id] == [record.id for record in asker.harness.engine.store.runs(1000)]
    reply = json.loads(asker.client.get(f"celery-task-meta-{ids[-1]}") or "")["result"]
    assert reply["error"] == "cluster_locked"
    assert first.id in reply["message"]


def test_starts_are_bounded(asker: Asker, folder: Path) -> None:
    """Above the limit a trigger and the command line are refused with the reason; an existing run is still answered."""
    standing = [at_work(asker.harness, folder, name) for name in ("shop", "wiki")]
    for number in range(MOST - len(standing)):
        asker.harness.engine.store.create(standing[0].model_copy(update={"id": f"other-{number}", "key": f"k{number}"}))
        asker.harness.engine.store.flag(f"other-{number}", "pause", "by a test")
    refused = asker.reply("esync.rollout", STARTS_QUEUE, cluster="blog", key="k")
    assert refused["error"] == "too_many_runs"
    assert "ESYNC_MAX_ACTIVE" in refused["message"]
    assert {"run": standing[0].id} == asker.reply("esync.rollout", STARTS_QUEUE, cluster="shop", key="first")
    bounded = replace(
        asker.harness.engine,
        settings=asker.harness.engine.settings.model_copy(update={"max_active": MOST, "clusters": folder}),
    )
    with pytest.raises(TooManyRuns, match=f"{MOST} runs are active"):
        commands.start(bounded, load_cluster(folder / "blog.yaml"))
    assert standing[1].id == commands.start(bounded, load_cluster(folder / "wiki.yaml"), key="first").id
    assert len(asker.harness.engine.store.runs(1000)) == MOST


def test_a_trigger_sent_the_old_way_is_answered(asker: Asker, folder: Path) -> None:
    """A start that an older program sends to the control queue is moved to the new queue, and answered as before."""
    first = at_work(asker.harness, folder, "shop")
    assert {"run": first.id} == asker.reply("esync.rollout", CONTROL_QUEUE, cluster="shop", key="first")
    made = asker.reply("esync.rollout", CONTROL_QUEUE, cluster="blog", key="new")["run"]
    assert made == asker.reply("esync.rollout", STARTS_QUEUE, cluster="blog", key="new")["run"]


def test_many_at_once_for_one_cluster_make_one_run(asker: Asker) -> None:
    """Many triggers with different keys for one free cluster: while a run is active, no other starts."""
    flood(asker, STARTS_QUEUE, "blog", 100)
    assert drained(asker)
    runs = asker.harness.engine.store.runs(1000)
    assert runs
    assert {"locked"} & {record.verdict for record in runs} == set()
    spans = sorted((record.created, record.ended) for record in runs)
    assert all(one[1] and one[1] <= two[0] for one, two in pairwise(spans))
