"""A server with a worker and a lab: commands of another machine, an event stream, two servers, planted secrets."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.audit.check import check_file
from pipelines.cli.entry import run
from pipelines.usecases.tokens import Role
from pipelines.web.client import EsyncClient
from tests.integration.harness import Harness, four_servers, harness_at
from tests.integration.web_server import WebServer, web_server
from workers.logs import configure
from workers.records import Event, RunState
from workers.settings import load_settings

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Installation:
    """A lab, a worker, and two servers over one store."""

    lab: LabProcess
    harness: Harness
    first: WebServer
    second: WebServer


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Four untouched servers."""
    folder = tmp_path_factory.mktemp("served")
    with four_servers(folder / "lab") as lab:
        clusters = lab.cluster.parent
        with (
            harness_at(folder, ESYNC_CLUSTERS=str(clusters)) as harness,
            web_server(harness.engine, clusters) as first,
            web_server(harness.engine, clusters) as second,
        ):
            yield Installation(lab, harness, first, second)


@pytest.fixture
def elsewhere(installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment of a machine that has only a server and a token; returns the token."""
    token = installation.first.token(Role.OPERATOR, name="ann")
    (tmp_path / "token").write_text(token + "\n")
    monkeypatch.setenv("ESYNC_SERVER", installation.first.url)
    monkeypatch.setenv("ESYNC_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    return token


def test_another_machine_rolls_out_and_everyone_sees_it(
    installation: Installation, elsewhere: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the command line over the network, while a program follows the events at a second server.

    No answer, event, output or log has a token, a password of the lab or the broker's password.
    """
    log = (tmp_path / "server.log").open("w")
    configure("INFO", stream=log)
    name = installation.lab.cluster.stem
    assert 2 == run(["plan", name])
    assert 0 == run(["rollout", name, "-y", "--report", "reports"])
    shown = capfd.readouterr()
    assert 0 == run(["runs", "--json"])
    rows = json.loads(capfd.readouterr().out)
    assert [("rollout", "joined", "ann"), ("plan", "changes_pending", "ann")] == [
        (row["kind"], row["verdict"], row["who"]) for row in rows
    ]
    rollout = rows[0]["run"]
    assert 0 == run(["status", rollout])
    assert "joined" in capfd.readouterr().out.lower()
    assert 0 == run(["report", rollout, "--format", "xml"])
    assert 'failures="0"' in capfd.readouterr().out
    assert 0 == run(["report", rollout, "--bundle", "run.zip"])
    assert rollout == check_file(tmp_path / "run.zip").run
    seen = followed(installation.second, rollout)
    assert [event.id for event in installation.harness.engine.store.events(rollout)] == [event.id for event in seen]
    assert "by ann on 127.0.0.1" in seen[0].message
    log.close()
    everything = shown.out + shown.err + (tmp_path / "server.log").read_text() + installation.harness.log()
    everything += "".join(path.read_text() for path in (tmp_path / "reports").iterdir()) + answers(
        installation, rollout
    )
    broker = installation.harness.broker.url.reveal().split("@")[0].rpartition(":")[2]
    for secret in (elsewhere, elsewhere.rpartition("-")[2], installation.lab.password, broker):
        assert secret not in everything


def followed(server: WebServer, run_id: str) -> list[Event]:
    """All events of a run, with a connection that is opened again in between."""
    with EsyncClient(server.url, server.token(Role.VIEWER)) as client:
        first = [event for event, _ in zip(client.events(run_id), range(5), strict=False)]
        return first + list(client.events(run_id, first[-1].id))


def answers(installation: Installation, run_id: str) -> str:
    """Everything that the API answers about a run and its cluster."""
    client = installation.first.client(Role.ADMIN)
    run_path, cluster = f"/api/v1/runs/{run_id}", f"/api/v1/clusters/{installation.lab.cluster.stem}"
    parts = ("", "/nodes", "/record", "/history", "/events", "/plan", "/report.json", "/report.html", "/bundle")
    paths = [run_path + part for part in parts] + [cluster, f"{cluster}/file", f"{cluster}/questions"]
    texts = [client.get(path) for path in [*paths, "/api/v1/tokens", "/api/v1/clusters", "/api/v1/runs"]]
    assert {200} == {answer.status_code for answer in texts}
    return "".join(answer.text for answer in texts)


def test_many_listeners_get_each_event_once_while_a_run_works(installation: Installation) -> None:
    """They come and go; the server has one reader for them, and reads no run that has no listener."""
    with EsyncClient(installation.first.url, installation.first.token(Role.OPERATOR)) as client:
        verify = client.start(installation.lab.cluster.stem, kind="verify").run
        seen: list[list[Event]] = []
        threads = [
            threading.Thread(target=lambda: seen.append(followed(installation.first, verify))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.status(verify).state is RunState.CONCLUDED
    ids = [event.id for event in installation.harness.engine.store.events(verify)]
    assert [ids] * 12 == [[event.id for event in events] for events in seen]
