"""A run that no worker takes: its page, the API and a command elsewhere say so, and how to start one."""

from pathlib import Path

import pytest

from pipelines.cli import server as remote
from pipelines.cli.entry import run as esync
from pipelines.usecases import runs
from pipelines.usecases.tokens import Role
from pipelines.web import attendance
from tests.integration.harness import harness_at
from tests.integration.web_server import web_server
from tests.unit.pipelines.report.sample_run import cluster_of
from tests.waiting import wait_until
from workers.settings import load_settings

pytestmark = pytest.mark.integration


def test_a_run_without_a_worker_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since when, and the command that starts one; the page itself does not wait for the answer."""
    monkeypatch.setattr(attendance, "_QUIET", 0.0)
    with harness_at(tmp_path, worker=False) as harness, web_server(harness.engine) as server:
        run = runs.start(harness.engine, cluster_of()).id
        client = server.client(Role.VIEWER)
        assert "for a worker" not in client.get(f"/runs/{run}").text
        wait_until(lambda: "Waiting for a worker since" in client.get(f"/runs/{run}").text)
        assert "start one: esync up" in client.get(f"/runs/{run}").text


def test_a_command_elsewhere_says_that_no_worker_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`esync status` and `esync runs` at once, a command that follows a run when that does not move."""
    monkeypatch.setattr(attendance, "_QUIET", 0.0)
    monkeypatch.setattr(remote, "QUIET", 0.0)
    with harness_at(tmp_path, worker=False) as harness, web_server(harness.engine) as server:
        run = runs.start(harness.engine, cluster_of()).id
        monkeypatch.setenv("ESYNC_SERVER", server.url)
        monkeypatch.setenv("ESYNC_TOKEN", server.token(Role.VIEWER))
        load_settings.cache_clear()
        assert 0 == esync(["status", run])
        assert "waiting for a worker since" in capfd.readouterr().out
        (listed,) = server.client(Role.VIEWER).get("/api/v1/runs").json()["runs"]
        assert "start one: esync up" in listed["waiting"]
        assert 0 == esync(["runs"])
        assert f"run {run}: waiting for a worker since" in capfd.readouterr().err
        with remote.connected() as client:
            updates = remote.updates_from(client, run)
            begun = updates("")
            assert "" == begun.waiting
            assert "start one: esync up" in updates(begun.events[-1].id).waiting
