"""Brokers with a wrong clock, replaced brokers, and forged records."""

import os
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from lab.control.remote import LabProcess
from pipelines.reconcile import resume_stalled
from pipelines.usecases import rollback
from tests.fake_clock import fake_clock
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.integration.test_rollout import SERVICE, assert_joined
from tests.sampling import rotated
from workers.errors import RecordRefused
from workers.records import RunRecord, Status, Verdict
from workers.redis.connection import connect
from workers.redis.embedded import find_server

pytestmark = pytest.mark.integration

FENCE = r"C:\ProgramData\esync-rollout\fence"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def left_behind(lab: LabProcess, node: str, content: str) -> Path:
    """A fence file from before."""
    file = on_disk(lab, node, FENCE)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_a_node_that_accepts_no_writer_is_freed(harness: Harness, lab: LabProcess) -> None:
    """Numbers from a fast clock are continued; the largest number is refused, with the command that frees the node."""
    hour_ahead = int(time.time() * 1000) + 3_600_000
    left_behind(lab, "S2", f"{hour_ahead:020d}\n")
    full = left_behind(lab, "P1", f"{2**63 - 1:020d}\n")
    done = harness.rollout(cluster_of(lab))
    result = {node.node: node for node in done.nodes}
    assert (Verdict.FAILED, Status.FAILED) == (done.record.verdict, result["P1"].status)
    assert "esync cleanup --fence P1" in result["P1"].problem.remedy
    assert {Status.CHANGED} == {result[node].status for node in ("S1", "S2", "P2")}
    assert f"{hour_ahead + 1:020d}" == on_disk(lab, "S2", FENCE).read_text()[:20]
    freed = harness.finished(rollback.free(harness.engine, cluster_of(lab), ["p1"]).id)
    assert (Verdict.CLEAN, False) == (freed.record.verdict, full.exists())
    assert {"P1"} == {outcome.node for outcome in freed.outcomes}
    assert Verdict.JOINED is harness.rollout(cluster_of(lab)).record.verdict
    assert_joined(lab, SERVICE, "30")


def with_a_clock(folder: Path, shift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives brokers that start later another clock: by a program with the name of the server, first on PATH."""
    fake = " ".join(map(shlex.quote, fake_clock(shift)))
    folder.mkdir()
    program = folder / "valkey-server"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || export {fake}\nexec {find_server()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_brokers_with_different_clocks_serve_one_cluster(
    lab: LabProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour fast, a month slow, or three times the speed: each rolls out, and replaces a killed worker.

    `make test` tries some of them.
    """
    spoilt = on_disk(lab, "P1", r"C:\Program Files\Ektron\EktronWindowsService30\P1_SyncClient.cer")
    shifts = ("+1h", "-30d", "+0 x3")
    for place, shift in [(place, shifts[place]) for place in rotated(len(shifts), 2, "clocks of brokers")]:
        with monkeypatch.context() as patched:
            with_a_clock(tmp_path / f"bin-{place}", shift, patched)
            with harness_at(tmp_path / f"harness-{place}") as harness:
                assert Verdict.JOINED is harness.rollout(cluster_of(lab)).record.verdict
                spoilt.write_bytes(b"spoilt")
                run = harness.start(cluster_of(lab))
                harness.wait_for_step(run.id, "install_check")
                harness.kill_worker()
                harness.start_worker()
                assert Verdict.JOINED is harness.finished(run.id).record.verdict


def test_no_node_is_freed_while_a_run_is_active(harness: Harness, lab: LabProcess) -> None:
    """The error names the run that has the cluster; the fence file is unchanged."""
    file = left_behind(lab, "P1", f"{7:020d}\n")
    holder = RunRecord(id="holder", cluster=cluster_of(lab).name, spec=cluster_of(lab).model_dump(mode="json"))
    harness.engine.store.create(holder)
    assert harness.engine.store.lock_servers(cluster_of(lab).servers, holder.id, 600) is None
    refused = harness.finished(rollback.free(harness.engine, cluster_of(lab), ["P1"]).id)
    harness.engine.store.forget(holder.id)
    assert Verdict.LOCKED is refused.record.verdict
    assert "holder" in refused.record.summary
    assert file.exists()


def test_an_empty_broker_replaces_a_lost_one(tmp_path: Path, lab: LabProcess) -> None:
    """The second broker learns of the first from the nodes, and its runs get later numbers."""
    for number in (1, 2):
        with harness_at(tmp_path / f"harness-{number}") as harness:
            for node in FOUR:
                (on_disk(lab, node, r"C:\inetpub\wwwroot\CMS400\web.config")).touch()
            assert Verdict.JOINED is harness.rollout(cluster_of(lab)).record.verdict
            free = harness.rollout(cluster_of(lab))
            assert Verdict.JOINED is free.record.verdict


def test_a_forged_record_reveals_no_secret(harness: Harness, lab: LabProcess, tmp_path: Path) -> None:
    """An attacker with the password of the broker forges a run with his node and a file of the worker."""
    (tmp_path / "seal.key").write_text("planted")
    genuine = harness.rollout(cluster_of(lab)).record
    with socket.create_server(("127.0.0.1", 0)) as his, connect(harness.engine.settings.store()) as broker:
        his.settimeout(0)
        forge(broker, genuine, his.getsockname()[1], tmp_path / "seal.key")
        harness.engine.app.send_task("esync.begin", args=("evil",), queue="esync.v1.control", ignore_result=True)
        with pytest.raises(RecordRefused, match="evil"):
            resume_stalled(harness.engine, "evil")
        assert Verdict.JOINED is harness.rollout(cluster_of(lab)).record.verdict
        with pytest.raises(BlockingIOError):
            his.accept()
        refused: list[RecordRefused] = []
        listed = harness.engine.store.runs(refused=refused.append)
        assert (["evil"], True) == ([error.run for error in refused], len(listed) > 1)
        broker.srem("esync:active", "evil")
    assert "evil" in harness.log()


def forge(broker: Redis, genuine: RunRecord, port: int, secret: Path) -> None:
    """A run that was never requested, once with the seal of another run and once without a seal."""
    spec = dict(genuine.spec)
    spec["connection"] = {**spec["connection"], "port": port, "secret": f"file:{secret}"}
    spec["nodes"] = [{**node, "host": "127.0.0.1"} for node in spec["nodes"]]
    record = RunRecord(id="evil", cluster="another", spec=spec).to_json()
    seal = str(broker.hget(f"esync:run:{genuine.id}", "record"))[:33]
    fields: dict[Any, Any] = {"version": "0", "token": "t", "cluster": "another", "record": seal + record}
    broker.hset("esync:run:evil", mapping=fields)
    broker.zadd("esync:runs", {"evil": 1_000_000})
    broker.sadd("esync:active", "evil")
