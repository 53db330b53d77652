"""Servers in two sites, each with its own worker: the steps on a server run near it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.cli.entry import run as esync
from pipelines.cluster_file.loader import load_cluster
from pipelines.web.attendance import Waiting
from tasks.cluster import Cluster
from tests.chaos.judge import messages_in
from tests.integration.harness import Harness, cluster_of, four_servers, harness_at
from tests.waiting import PATIENCE, wait_until
from workers.records import Verdict
from workers.redis.connection import connect

pytestmark = pytest.mark.integration

LAST = "service_restart"  #: the last changing step of a node
SITES = {"S1": "ams", "S2": "ams", "P1": "lon", "P2": "lon"}
WAITING = re.compile(
    r"waiting for a worker of site lon since \d\d:\d\d:\d\d UTC; "
    r"start one there: celery -A pipelines\.worker worker --pool threads --site lon"
)


def placed(cluster: Cluster) -> Cluster:
    """The same servers, each with the label of its site."""
    data = cluster.model_dump()
    for node in data["nodes"]:
        node["labels"] = {"site": SITES[node["name"]]}
    return Cluster.model_validate(data)


@contextmanager
def amsterdam(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LabProcess, Harness]]:
    """Four servers, and a worker that serves Amsterdam; commands of this process use the same broker."""
    with four_servers(folder / "lab") as lab, harness_at(folder, ESYNC_SITE="ams") as harness:
        for name, value in harness.environment.items():
            monkeypatch.setenv(name, value)
        harness.wait_for_worker()
        yield lab, harness


def told(run: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `status` prints about that run."""
    assert esync(["status", run]) == 0
    return capsys.readouterr().out


def test_each_step_runs_at_the_site_of_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Amsterdam has a worker, London has none: `status` names the site; with a worker there, the run joins."""
    with amsterdam(tmp_path, monkeypatch) as (lab, harness):
        here = harness.worker
        assert here is not None
        workers = {"ams": here.pid}
        run = harness.start(placed(cluster_of(lab))).id
        wait_until(lambda: harness.engine.store.run(run).turns[1:], lambda: "London's turn has not come")
        wait_until(lambda: WAITING.search(told(run, capsys)), lambda: told(run, capsys))
        del harness.environment["ESYNC_SITE"]
        try:
            harness.start_worker(options=["--site", "lon"])
            assert harness.worker is not None
            workers["lon"] = harness.worker.pid
            done = harness.finished(run)
        finally:
            here.terminate()
            here.wait(PATIENCE)
    assert done.record.verdict is Verdict.JOINED
    ran = {(SITES[outcome.node], int(outcome.worker.split(":")[1])) for outcome in done.outcomes}
    assert ran == set(workers.items())


def test_one_machine_works_on_all_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker of one's own there are no workers elsewhere: the command's own one works on every node."""
    monkeypatch.setenv("ESYNC_STATE", str(tmp_path / "state"))
    with four_servers(tmp_path / "lab") as lab:
        file = lab.cluster.with_name("placed.yaml")
        file.write_text(lab.cluster.read_text().replace("role: production", "role: production\n  labels: {site: lon}"))
        assert load_cluster(file).node("P1").site == "lon"
        assert esync(["doctor", str(file)]) == 0


def test_the_only_worker_of_a_site_dies_in_mid_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other site's servers are done meanwhile; the views name the site; a new worker there ends the run joined."""
    with amsterdam(tmp_path, monkeypatch) as (lab, harness):
        here = harness.worker
        assert here is not None
        for node in ("P1", "P2"):
            lab.break_node(node, latency_ms=300)
        del harness.environment["ESYNC_SITE"]
        try:
            harness.start_worker(options=["--site", "lon"])
            run = harness.start(placed(cluster_of(lab, waves="all"))).id
            wait_until(
                lambda: any(
                    event.kind == "step.started" and event.node == "P1" and event.step == "config_edit"
                    for event in harness.engine.store.events(run)
                )
            )
            harness.kill_worker()
            wait_until(lambda: WAITING.search(told(run, capsys)), lambda: told(run, capsys))
            record = harness.engine.store.run(run)
            assert record.turn is not None
            wait_until(lambda: WAITING.search(Waiting(harness.engine).texts([record]).get(run, "")), seconds=40)
            name = record.turn.name
            wait_until(lambda: all(harness.engine.store.outcome(run, name, node, LAST) for node in ("S1", "S2")))
            assert not any(harness.engine.store.outcome(run, name, node, LAST) for node in ("P1", "P2"))
            with connect(harness.engine.settings.broker()) as broker:
                waiting = messages_in(broker)
                time.sleep(5)  # twice as long as a run may stand still
                assert waiting == messages_in(broker) != {}
            harness.start_worker(options=["--site", "lon"])
            ended = harness.finished(run)
        finally:
            here.terminate()
            here.wait(PATIENCE)
    assert ended.record.verdict is Verdict.JOINED, ended.record.summary
