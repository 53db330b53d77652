"""Flower while a run proceeds: the four steps by name and their phases, and nothing secret on any page."""

import base64
import json
import time
import urllib.request
from pathlib import Path

import pytest

from pipelines import commands
from pipelines.services import FlowerAccess, working
from tests.integration.rig import cluster_of, four_servers, on_disk
from tests.integration.test_rollout import SERVICE
from tests.integration.test_secrets import CONNECTION, PLANTED
from workers.records import RunState
from workers.settings import Settings

pytestmark = pytest.mark.integration

STEPS = {f"esync.{step}" for step in ("install_check", "config_edit", "cert_copy", "service_restart")}


def page(flower: FlowerAccess, path: str) -> str:
    """What Flower shows to somebody who knows its password."""
    token = base64.b64encode(f"{flower.user}:{flower.password.reveal()}".encode()).decode()
    request = urllib.request.Request(flower.url.rstrip("/") + path, headers={"Authorization": f"Basic {token}"})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own
        return str(reply.read().decode())


def test_flower_shows_the_steps_and_no_secret(tmp_path: Path) -> None:
    """Every step is seen by name, in a phase of its own while it runs, and as ended; arguments are ids."""
    settings = Settings(state=tmp_path / "state")
    with (
        four_servers(tmp_path / "lab", lab=f"connection: '{CONNECTION}'") as lab,
        working(settings, lambda _: None, kind="up", flower=True) as services,
    ):
        flower = services.flower
        assert flower is not None
        for node in ("S1", "S2", "P1", "P2"):
            lab.break_node(node, latency_ms=80)
        run = commands.start(services.engine, cluster_of(lab)).id
        phases: set[str] = set()
        ended: set[str] = set()
        until = time.monotonic() + 60
        while not (services.engine.store.run(run).state is RunState.CONCLUDED and ended >= STEPS):
            assert time.monotonic() < until, (phases, ended)
            tasks = json.loads(page(flower, "/api/tasks?limit=1000")).values()
            phases |= {task["state"] for task in tasks if task["name"] in STEPS}
            ended |= {task["name"] for task in tasks if task["state"] == "SUCCESS"}
            time.sleep(0.1)
        assert {"OBSERVING", "APPLYING", "SUCCESS"} <= phases
        shown = "".join(page(flower, path) for path in ("/", "/tasks", "/broker", "/api/tasks?limit=1000", "/metrics"))
        key = base64.b64encode(on_disk(lab, "S1", rf"{SERVICE}\S1_SyncClient.pvk").read_bytes())[100:140].decode()
        broker = str(services.engine.app.conf.broker_url).split("@")[0].rpartition(":")[2]
        for secret in (PLANTED, lab.password, key, broker):
            assert secret not in shown
