"""Two workers on one broker: a server has a session with one of them, and not one with each."""

import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess, spare_addresses
from tasks.cluster import Cluster
from tests.fake_clock import fake_clock
from tests.integration.harness import Harness, cluster_of, harness_at
from tests.waiting import wait_until
from tests.warm import warm_lab
from workers.broker.names import NODES_QUEUE
from workers.records import Verdict
from workers.redis.connection import connect

pytestmark = pytest.mark.integration

NODES = 12  #: more than one worker does as a whole


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Untouched servers."""
    more = ("--nodes", str(NODES), "--disk", "memory", "--address", spare_addresses())
    with warm_lab(tmp_path / "lab", *more) as running:
        yield running


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Two workers that answer; the second one is `Harness.worker`."""
    with harness_at(tmp_path / "harness") as running:
        first = running.worker
        assert first is not None
        running.start_worker()
        wait_until(lambda: len(running.engine.own_queues.served()) > 1)
        yield running
        first.terminate()
        first.wait(15)


def test_workers_whose_clocks_differ_say_nothing_about_the_clocks_of_the_servers(
    tmp_path: Path, lab: LabProcess
) -> None:
    """One is ten minutes ahead: the servers that it looks at are not behind the others."""
    with harness_at(tmp_path / "harness") as harness:
        first = harness.worker
        assert first is not None
        harness.start_worker("env", *fake_clock("+10m"))
        wait_until(lambda: len(harness.engine.own_queues.served()) > 1)
        done = harness.rollout(cluster_of(lab))
        first.terminate()
        first.wait(15)
    assert Verdict.JOINED == done.record.verdict, done.record.summary
    assert 2 == len({outcome.worker for outcome in done.outcomes})


@pytest.mark.parametrize("policy", [{}, {"at_most": {"rack": 5}}], ids=["together", "one by one"])
def test_each_server_stays_with_the_worker_that_began_with_it(
    harness: Harness, lab: LabProcess, policy: dict[str, object]
) -> None:
    """Through all turns: one logon, one PowerShell; and both workers work."""
    data = cluster_of(lab).model_dump()
    data["policy"] |= policy
    for node in data["nodes"]:
        node["labels"] = {"rack": "a"}
    done = harness.rollout(Cluster.model_validate(data))
    assert Verdict.JOINED == done.record.verdict
    workers = defaultdict(set)
    for outcome in done.outcomes:
        workers[outcome.node].add(outcome.worker)
    assert {1} == {len(names) for names in workers.values()}, workers
    assert 2 == len(set.union(*workers.values()))
    assert {1} == {counted["powershell_starts"] for counted in lab.reports().values()}


def test_the_steps_of_a_killed_worker_are_done_by_the_other(harness: Harness, lab: LabProcess) -> None:
    """Also those that wait in its own queue, from which no other takes."""
    cluster = cluster_of(lab, waves="all")
    run = harness.start(cluster).id
    harness.wait_for_step(run, "config_edit")
    struck = time.monotonic()
    harness.kill_worker()
    done = harness.finished(run)
    assert Verdict.JOINED == done.record.verdict
    assert time.monotonic() - struck < 20
    with connect(harness.engine.settings.broker()) as client:
        assert [] == list(client.scan_iter(f"{NODES_QUEUE}@*"))
    wait_until(lambda: len(harness.engine.own_queues.served()) == 1)


def test_a_worker_that_stops_leaves_its_steps_to_the_other(harness: Harness, lab: LabProcess) -> None:
    """It ends what it has begun; what would follow on these servers is done by the other, at once."""
    run = harness.start(cluster_of(lab, waves="all")).id
    harness.wait_for_step(run, "config_edit")
    assert harness.worker is not None
    harness.worker.send_signal(signal.SIGTERM)
    harness.worker.wait(30)
    assert 1 == len(harness.engine.own_queues.served())
    assert Verdict.JOINED == harness.finished(run).record.verdict
