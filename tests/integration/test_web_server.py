"""The server over a real socket: who is answered, and what every answer has."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.cli.entry import run
from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from tests.integration.harness import Harness, harness_at
from tests.integration.web_server import WebServer, web_server
from workers.redis.connection import WORKER
from workers.settings import load_settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker without a worker."""
    with harness_at(tmp_path_factory.mktemp("served"), worker=False) as started:
        yield started


@pytest.fixture(scope="module")
def server(harness: Harness) -> Iterator[WebServer]:
    """A server with that broker."""
    with web_server(harness.engine) as started:
        yield started


def test_nothing_is_answered_without_a_token(server: WebServer) -> None:
    """The refusal is a problem document, with the security headers of every answer."""
    client = server.client(None)
    answer = client.get("/api/v1/runs/x/events")
    assert (401, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert "not_logged_on" == answer.json()["error"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "no-store" == answer.headers["cache-control"]


def test_another_name_is_refused(server: WebServer) -> None:
    """A page that resolves its own name to this machine gets nothing."""
    client = server.client()
    assert 421 == client.get("/api/v1/runs", headers={"Host": "evil.example"}).status_code


def test_an_unknown_run_has_no_events(server: WebServer) -> None:
    """The error is that of the command line."""
    client = server.client()
    answer = client.get("/api/v1/runs/none/events")
    assert (404, "run_unknown") == (answer.status_code, answer.json()["error"])


@pytest.fixture
def at_the_broker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a command on the machine of the server."""
    for name, value in harness.environment.items():
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    return {**os.environ, **harness.environment}


def test_tokens_are_created_listed_and_revoked(
    server: WebServer, at_the_broker: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The text is printed once; with the token's end the server refuses it."""
    assert at_the_broker
    assert 0 == run(["token", "create", "--role", "viewer", "--name", "dash", "--cluster", "shop", "--json"])
    made = json.loads(capfd.readouterr().out)
    headers = {"Authorization": f"Bearer {made['token']}"}
    client = server.client(None)
    assert ["shop"] == client.get("/api/v1/me", headers=headers).json()["clusters"]
    assert 0 == run(["token", "list"])
    listed = capfd.readouterr().out
    assert f"{made['id']}  viewer" in listed
    assert made["token"].rpartition("-")[2] not in listed
    assert 0 == run(["token", "revoke", made["id"]])
    assert 401 == client.get("/api/v1/me", headers=headers).status_code
    assert 1 == run(["token", "revoke", made["id"]])
    assert 64 == run(["token", "create", "--role", "viewer", "--expires", "soon"])


def test_serve_becomes_a_process_without_secrets_in_its_arguments(
    harness: Harness, at_the_broker: dict[str, str], tmp_path: Path
) -> None:
    """It says where it listens, and ends when it is asked to."""
    command = [sys.executable, "-c", "from pipelines.cli.entry import main; main()"]
    options = ["serve", "--listen", "127.0.0.1:0", "--clusters", str(tmp_path)]
    with subprocess.Popen([*command, *options], env=at_the_broker, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert 204 == httpx.get(f"{url}api/v1/health").status_code
        shown = " ".join(psutil.Process(process.pid).cmdline())
        process.terminate()
        process.wait(60)
    assert "pipelines.web.app" in shown
    for secret in (harness.environment["ESYNC_SEAL_KEY"], harness.broker.url.reveal()):
        assert secret not in shown


def test_a_silent_store_is_reported_before_a_worker_would_give_up(harness: Harness, tmp_path: Path) -> None:
    """Also to a page, and by a server that never reached it."""
    command = [sys.executable, "-m", "pipelines.web.app", "--listen", "127.0.0.1:0"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = f"redis://:x@127.0.0.1:{silent.getsockname()[1]}/0"
        environment = {**os.environ, **harness.environment, "ESYNC_BROKER_URL": broker}
        with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            begun = time.monotonic()
            token = {"Authorization": "Bearer esync-viewer-0123456789"}
            answers = [httpx.get(f"{url}api/v1/runs", headers=token, timeout=60)]
            api, begun = time.monotonic() - begun, time.monotonic()
            answers.append(httpx.get(url, cookies={"esync-session": "0123456789"}, timeout=60))
            page = time.monotonic() - begun
            process.terminate()
            process.wait(60)
    assert [503, 503] == [answer.status_code for answer in answers]
    assert max(api, page) < WORKER.answer + 3


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--listen", "nowhere"], 64, "is not HOST:PORT"),
        (["--listen", "192.0.2.1:1"], 1, "cannot be listened on"),
        (["--access", "access.yaml"], 1, "rules.0.role"),
        (["--access", "openid.yaml"], 1, "secret env:NOT_THERE: the variable is not set"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    options: list[str], status: int, said: str, harness: Harness, tmp_path: Path
) -> None:
    """In one line, with what to do."""
    (tmp_path / "access.yaml").write_text("rules: [{role: king}]")
    provider = {"issuer": "https://login.example", "client_id": "esync", "secret": "env:NOT_THERE"}
    (tmp_path / "openid.yaml").write_text(json.dumps({"openid": provider, "url": "https://esync.example"}))
    environment = {**os.environ, **harness.environment}
    command = [sys.executable, "-m", "pipelines.web.app", *options]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (status, "") == (ended.returncode, ended.stdout)
    assert said in ended.stderr
    assert 1 == ended.stderr.count("\n")


def test_two_servers_share_limits_and_idempotency_keys(harness: Harness, tmp_path: Path) -> None:
    """Neither keeps anything itself: the same request to both is one run, and failed logons are counted together."""
    cluster = {"name": "shop", "edition": "8.0", "origin": "S1", "site": {"path": r"C:\inetpub\wwwroot\CMS400"}}
    nodes = [{"name": "S1", "host": "s1.example.net", "role": "staging", "pool": "staging"}]
    account = {"user": "svc", "secret": "env:SHOP_PASSWORD"}
    (tmp_path / "shop.yaml").write_text(json.dumps({**cluster, "connection": account, "nodes": nodes}))
    access = Access(logons=3)
    with (
        web_server(harness.engine, tmp_path, access) as first,
        web_server(harness.engine, tmp_path, access) as second,
        ThreadPoolExecutor(8) as threads,
    ):
        headers = {"Authorization": f"Bearer {first.token(Role.OPERATOR)}", "Idempotency-Key": "deploy"}

        def start(number: int) -> httpx.Response:
            url = (first, second)[number % 2].url
            return httpx.post(
                f"{url}/api/v1/runs", json={"kind": "verify", "cluster": "shop"}, headers=headers, timeout=60
            )

        answers = list(threads.map(start, range(8)))
        assert [200] * 7 + [201] == sorted(answer.status_code for answer in answers)
        assert 1 == len({answer.json()["run"] for answer in answers})
        wrong = {"Authorization": "Bearer wrong"}
        asked = [httpx.get(f"{one.url}/api/v1/me", headers=wrong, timeout=60) for one in (first, second) * 2]
        assert [401, 401, 401, 429] == [answer.status_code for answer in asked]
