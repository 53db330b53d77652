"""A fail-over in mid-run, with real Sentinels: the same worker finds the new primary, and the run ends joined."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.engine import connect_engine
from pipelines.local.provided import FlowerAccess
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at
from tests.integration.test_broker_restarts import answers, same_worker, twice
from tests.integration.test_flower import page
from tests.ports import kept_ports
from tests.sentinel_group import SentinelGroup
from tests.waiting import wait_until
from workers.records import Verdict
from workers.redis.connection import connect
from workers.settings import Secret

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four servers, slow enough for a fail-over during a run."""
    with four_servers(tmp_path / "lab") as running:
        for node in FOUR:
            running.break_node(node, latency_ms=60)
        yield running


def at(harness: Harness, url: Secret) -> Harness:
    """The same with another broker."""
    settings = harness.engine.settings.model_copy(update={"broker_url": url})
    environment = {**harness.environment, "ESYNC_BROKER_URL": url.reveal()}
    return replace(harness, engine=connect_engine(settings), environment=environment)


def test_flower_shows_the_queues(tmp_path: Path) -> None:
    """It logs on at the Sentinels, asks the next one where the first does not answer, and counts in that database."""
    with SentinelGroup(tmp_path / "group") as group, connect(group.database(3)) as client:
        client.rpush("esync.v1.nodes", "one", "two")
        group.kill_first_sentinel()
        assert lengths(tmp_path, group.database(3))["esync.v1.nodes"] == 2


def lengths(folder: Path, url: Secret) -> dict[str, int]:
    """The queues that a Flower of this broker shows."""
    with kept_ports() as (port,):
        access = FlowerAccess(f"http://127.0.0.1:{port}/", "ops", Secret("of-Flower"), folder / "unused")
        environment = {
            **os.environ, "ESYNC_STATE": str(folder), "ESYNC_BROKER_URL": url.reveal(), "FLOWER_PORT": str(port),
            "FLOWER_BASIC_AUTH": f"{access.user}:{access.password.reveal()}", "FLOWER_ADDRESS": "127.0.0.1",
        }  # fmt: skip
        with subprocess.Popen([sys.executable, "-m", "pipelines.local.flower"], env=environment) as flower:
            try:
                wait_until(lambda: "esync.v1.nodes" in shown(access) or flower.poll() is not None)
                assert flower.poll() is None
                found = json.loads(page(access, "/api/queues/length"))["active_queues"]
                return {one["name"]: one["messages"] for one in found}
            finally:
                flower.terminate()


def shown(flower: FlowerAccess) -> str:
    """Flower's page of the queues; empty while Flower does not answer."""
    with suppress(OSError):
        return page(flower, "/broker")
    return ""


def test_a_run_survives_a_fail_over(
    tmp_path: Path, lab: LabProcess, record_property: Callable[[str, object], None]
) -> None:
    """The primary is killed in mid-run: messages, results and the run store continue on the other server."""
    with SentinelGroup(tmp_path / "group") as group, harness_at(tmp_path / "harness", worker=False) as own:
        harness = at(own, group.url)
        harness.start_worker()
        try:
            run = harness.start(cluster_of(lab)).id
            harness.wait_for_step(run, "install_check")
            group.kill_primary()
            killed = time.monotonic()
            group.wait_for_another()
            chosen = time.monotonic()
            done = harness.finished(run)
            assert Verdict.JOINED is done.record.verdict
            took = f"{chosen - killed:.1f} s until the fail-over, joined {time.monotonic() - chosen:.1f} s later"
            record_property("measured", f"Sentinel: {took}, {len(twice(harness, run))} steps twice")
            assert same_worker(harness), harness.log()[-3000:]
            group.restart_other()
            assert answers(harness)
            assert same_worker(harness), harness.log()[-3000:]
        finally:
            harness.end_worker()
            harness.engine.app.close()
