"""Flower during a run shows the four steps by name with their phases, and no secret on any page."""

import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from flower.urls import handlers

from pipelines.local.provided import FlowerAccess, Running
from pipelines.local.services import engine_with_worker
from pipelines.usecases import runs as commands
from tests.integration.harness import cluster_of, four_servers, on_disk
from tests.integration.test_rollout import SERVICE
from tests.integration.test_secrets import CONNECTION, PLANTED
from tests.waiting import PATIENCE
from workers.records import RunState
from workers.settings import Settings

pytestmark = pytest.mark.integration

STEPS = {f"esync.{step}" for step in ("install_check", "config_edit", "cert_copy", "service_restart")}


def page(flower: FlowerAccess, path: str) -> str:
    """The page that Flower shows with the right password."""
    token = base64.b64encode(f"{flower.user}:{flower.password.reveal()}".encode()).decode()
    request = urllib.request.Request(flower.url.rstrip("/") + path, headers={"Authorization": f"Basic {token}"})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:  # noqa: S310 - our own
        return str(reply.read().decode())


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker, a worker and Flower, which the tests leave running."""
    settings = Settings(state=tmp_path_factory.mktemp("services") / "state", workers=1)
    with engine_with_worker(settings, lambda _: None, kind="up", flower=True) as running:
        yield running


def test_flower_shows_the_steps_and_no_secret(services: Running, tmp_path: Path) -> None:
    """Every step is shown by name, with its phase while it runs, and as ended; arguments are ids."""
    flower = services.flower
    assert flower is not None
    with four_servers(tmp_path / "lab", lab=f"connection: '{CONNECTION}'") as lab:
        for node in ("S1", "S2", "P1", "P2"):
            lab.break_node(node, latency_ms=80)
        run = commands.start(services.engine, cluster_of(lab)).id
        phases: set[str] = set()
        ended: set[str] = set()
        until = time.monotonic() + PATIENCE
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


def _answer(flower: FlowerAccess, method: str, path: str, header: str = "") -> int:
    connection = http.client.HTTPConnection(urlsplit(flower.url).netloc, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Authorization": header} if header else {})
        return connection.getresponse().status


def test_flower_answers_nobody_without_the_password(services: Running) -> None:
    """Every route of Flower with every method, and unknown routes: 401 without the right password."""
    routes = [route[0] if isinstance(route, tuple) else route.regex.pattern for route in handlers]
    assert {"/metrics", "/healthcheck"} <= set(routes)
    paths = [re.sub(r"\(\.[+*]\)", "x", route).rstrip("$?").replace(".*", "/nothing") for route in routes]
    flower = services.flower
    assert flower is not None
    known = base64.b64encode(f"{flower.user}:{flower.password.reveal()}".encode()).decode()
    for path in paths:
        for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
            assert (path, method, 401) == (path, method, _answer(flower, method, path))
    wrong = base64.b64encode(f"{flower.user}:{flower.password.reveal()}x".encode()).decode()
    for header in (f"Basic {wrong}", "Basic", "Basic %", f"Bearer {known}", "Basic w6Q6", known):
        assert (header, 401) == (header, _answer(flower, "GET", "/metrics", header))
    for path in ("/metrics", "/healthcheck", "/workers", "/static/css/flower.css"):
        assert (path, 200) == (path, _answer(flower, "GET", path, f"Basic {known}"))
    assert _answer(flower, "POST", "/api/worker/shutdown/x", f"Basic {known}") == 403
    folder = services.engine.settings.state
    (process,) = [one for one in psutil.process_iter() if "pipelines.local.flower" in _command(one, folder)]
    assert "ESYNC_SEAL_KEY" not in process.environ()


def _command(process: psutil.Process, folder: Path) -> list[str]:
    with contextlib.suppress(psutil.Error, OSError):
        if process.cwd().startswith(str(folder)):
            return process.cmdline()
    return []


@pytest.mark.parametrize("logon", ["", "esync:", "esync"])
def test_flower_does_not_start_without_a_password(logon: str) -> None:
    """Without a password Flower does not start, and ends with one sentence."""
    own = {"FLOWER_BASIC_AUTH": logon} if logon else {}
    given = {**os.environ, "ESYNC_BROKER_URL": "redis://:x@127.0.0.1:1/0", **own}
    command = [sys.executable, "-m", "pipelines.local.flower"]
    ended = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert (1, "set FLOWER_BASIC_AUTH to USER:PASSWORD; Flower does not start without it\n") == (
        ended.returncode,
        ended.stderr,
    )
