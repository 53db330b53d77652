"""Broker, worker and Flower as commands start and end them: no secret is visible, no process remains."""

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from lab.control.remote import spare_addresses
from pipelines.engine import connect_engine
from pipelines.local.provided import FlowerAccess
from pipelines.local.reading import engine_only
from pipelines.local.services import _reserved_port, engine_with_worker
from pipelines.local.state import command_here
from tests.integration.harness import four_servers
from tests.sampling import EXHAUSTIVE, rotated
from tests.waiting import PATIENCE, next_line, wait_until
from tests.warm import warm_lab
from workers.broker.names import NODES_QUEUE
from workers.errors import InputRefused, SecretUnavailable, ServiceLost, StoreUnavailable
from workers.redis.connection import Waits, connect
from workers.redis.embedded import EmbeddedBroker
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings

pytestmark = pytest.mark.integration

ESYNC = [sys.executable, "-c", "from pipelines.cli.entry import main; main()"]


def _processes(folder: Path) -> list[psutil.Process]:
    """The processes with a working directory in that folder: all that a command started, and no others."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


def _quiet(_: str) -> None:
    """Ignores reports."""


def _get(flower: FlowerAccess, path: str, *, method: str = "GET", known: bool = True) -> int:
    connection = http.client.HTTPConnection(urlsplit(flower.url).netloc, timeout=PATIENCE)
    token = base64.b64encode(f"{flower.user}:{flower.password.reveal()}".encode()).decode()
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Authorization": f"Basic {token}"} if known else {})
        return connection.getresponse().status


def test_all_services_start_work_and_end(tmp_path: Path) -> None:
    """Each worker takes messages, Flower and the API answer who may ask; afterwards only files remain."""
    settings = Settings(state=tmp_path / "state", workers=2)
    with engine_with_worker(settings, _quiet, kind="up", flower=True) as services:
        assert services.flower is not None
        names = [name for answer in services.engine.app.control.ping(timeout=PATIENCE, limit=2) for name in answer]
        assert len(set(names)) == 2
        assert [401, 200] == [_get(services.flower, "/workers", known=known) for known in (False, True)]
        assert _get(services.flower, "/api/worker/shutdown/x", method="POST") == 403
        assert services.page is not None
        token = services.page.token_file.read_text().strip()
        asked = httpx.get(f"{services.page.url}api/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert (200, "admin") == (asked.status_code, asked.json()["role"])
        secrets = [services.flower.password.reveal(), (settings.state / "seal.key").read_text(), token]
        secrets.append(str(services.engine.app.conf.broker_url).split("@")[0].rpartition(":")[2])
        running = _processes(tmp_path)
        assert len(running) == 5
        for process in running:
            assert not [secret for secret in secrets if secret in " ".join(process.cmdline())]
        assert command_here(settings.state) == "up"
    assert _processes(tmp_path) == []
    assert command_here(settings.state) == ""
    private = [settings.state, *(settings.state / name for name in ("seal.key", "flower.password", "page.token"))]
    assert [oct(path.stat().st_mode & 0o077) for path in private] == ["0o0"] * 4
    logs = "".join(path.read_text("utf-8", "replace") for path in (settings.state / "logs").iterdir())
    assert not [secret for secret in secrets if secret in logs]


def test_services_whose_state_folder_is_removed_end_and_leave_the_next_one_alone(tmp_path: Path) -> None:
    """No other command finds them any more. What the next command has recorded in its new folder stays."""
    settings = _settings(tmp_path)

    def lost() -> str:
        try:
            services.check()
        except ServiceLost as error:
            return error.message
        return ""

    with engine_with_worker(settings, _quiet) as services:
        shutil.rmtree(settings.state)
        wait_until(lost)
        assert "the state folder was removed or replaced" in lost()
        (settings.state / "broker").mkdir(parents=True)
        (settings.state / "broker" / "broker.url").write_text("redis://:next@127.0.0.1:1/0")
        (settings.state / "services.json").write_text(json.dumps({"kind": "up", "pid": 1, "children": []}))
    assert _processes(tmp_path) == []
    assert (settings.state / "broker" / "broker.url").exists()
    assert (settings.state / "services.json").exists()


def test_without_flower_everything_else_works_and_after_an_error_no_process_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Flower that cannot start is given up with a report, and the worker works; after any error all services end."""
    reported: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("pipelines.local.services._reserved_port", lambda _: taken.getsockname()[1])
        with (
            contextlib.suppress(ZeroDivisionError),
            engine_with_worker(_settings(tmp_path), reported.append, flower=True) as services,
        ):
            assert services.flower is None
            assert services.engine.app.control.ping(timeout=PATIENCE, limit=1)
            raise ZeroDivisionError
    assert "everything else continues" in reported[-1]
    assert _processes(tmp_path) == []


def test_no_other_program_gets_the_port_of_flower() -> None:
    """From its choice until the end, also while Flower does not run; Flower itself can listen on it."""
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", _reserved_port(stack))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        with socket.create_server(address) as flower, socket.create_connection(address):
            assert flower.getsockname() == address


def test_a_killed_worker_is_restarted(tmp_path: Path) -> None:
    """A new worker starts, and that is reported."""
    reported: list[str] = []
    with engine_with_worker(_settings(tmp_path), reported.append) as services:
        worker = next(process for process in _processes(tmp_path) if "celery" in " ".join(process.cmdline()))
        worker.kill()
        wait_until(lambda: any("restarting it" in text for text in reported))
        wait_until(lambda: services.engine.app.control.ping(timeout=0.5, limit=1))
    assert "the worker was ended by SIGKILL; restarting it (1 of 4)" in reported[0]
    assert _processes(tmp_path) == []


def test_one_command_at_a_time_runs_services_but_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a command runs its own services, another one is refused with a remedy, and reading works."""
    monkeypatch.setattr("pipelines.local.turns.LOCK_PATIENCE", 0.1)
    settings = _settings(tmp_path)
    with engine_with_worker(settings, _quiet):
        with engine_only(settings) as engine:
            assert engine.store.runs() == ()
        with (
            pytest.raises(InputRefused, match=r"another esync command \(rollout\)"),
            engine_with_worker(settings, _quiet),
        ):
            pass
    with engine_only(settings) as engine:
        assert engine.store.runs() == ()
    assert _processes(tmp_path) == []


@contextlib.contextmanager
def _started(
    tmp_path: Path, *arguments: str, within: Sequence[str] = (), **more: str
) -> Iterator[subprocess.Popen[str]]:
    own = {"ESYNC_STATE": str(tmp_path / "state"), "TMPDIR": str(tmp_path), "ESYNC_WORKERS": "1", **more}
    own = {**os.environ, **{name: value for name, value in own.items() if value}}
    process = subprocess.Popen(
        [*within, *ESYNC, *arguments],
        env=own, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def _run(tmp_path: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    with _started(tmp_path, *arguments, **more) as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def test_up_serves_other_commands_until_it_is_interrupted(tmp_path: Path) -> None:
    """`esync up` prints the addresses; other commands use its services; Ctrl-C ends all of it with exit 0."""
    with EmbeddedBroker(tmp_path / "state" / "broker") as broker, connect(broker.url) as client:
        client.set("shop:basket", "1")
    with _started(tmp_path, "up", ESYNC_WORKERS="") as up:
        wait_until(lambda: command_here(tmp_path / "state") == "up")
        assert next_line(up, "Flower: http://127.0.0.1:")
        assert next_line(up) == f"password file: {tmp_path}/state/flower.password\n"
        assert next_line(up).startswith("broker for other programs")
        address = subprocess.run(next_line(up), shell=True, capture_output=True, text=True, check=True).stdout  # noqa: S602 - as printed
        assert re.fullmatch(r"redis://:[\w-]{20,}@127\.0\.0\.1:\d+/0\n", address)
        assert "ESYNC_CLUSTERS" in next_line(up)
        assert next_line(up).startswith(
            "warning: the database of the broker has 1 key of other programs (shop:basket); "
        )
        assert _run(tmp_path, "runs")[0] == 0
        with engine_with_worker(_settings(tmp_path), _quiet) as services:
            assert services.own == ""
        assert len(_processes(tmp_path / "state")) == 3 + len(os.sched_getaffinity(0))
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0
    assert _processes(tmp_path) == []


def test_up_starts_a_worker_and_flower_for_the_broker_of_others(tmp_path: Path) -> None:
    """With ESYNC_BROKER_URL no broker is started; Ctrl-C ends worker and Flower, and the broker continues."""
    with EmbeddedBroker(tmp_path / "outer") as broker, connect(broker.url) as client:
        outer = Settings(state=tmp_path / "state", broker_url=broker.url, seal_key=new_seal_key())
        environment = {
            "ESYNC_BROKER_URL": broker.url.reveal(),
            "ESYNC_SEAL_KEY": (outer.seal_key or broker.url).reveal(),
        }
        with _started(tmp_path, "up", **environment) as up:
            told = [next_line(up) for _ in range(6)]
            assert told[0].startswith("a worker for the broker of ESYNC_BROKER_URL is running; ")
            assert told[1].startswith("page: http://127.0.0.1:")
            assert told[2].startswith("Flower: http://127.0.0.1:")
            assert "ESYNC_CLUSTERS" in told[4]
            assert told[5].endswith("Ctrl-C stops them, not the broker\n")
            with engine_with_worker(outer, _quiet) as services:
                assert services.own == ""
                assert not services.engine.unserved({NODES_QUEUE}, 5)
            assert len(_processes(tmp_path / "state")) == 1 + 1 + 1
            assert not (tmp_path / "state" / "broker").exists()
            up.send_signal(signal.SIGINT)
            assert up.wait(PATIENCE) == 0
        assert _processes(tmp_path / "state") == []
        assert client.ping()


def test_up_refuses_a_broker_that_no_worker_of_this_machine_could_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the seal key of that broker, and when it does not answer; nothing is started."""
    monkeypatch.setattr("pipelines.local.services.connect_engine", partial(connect_engine, waits=Waits(0.1, 0.1)))
    nowhere = Settings(state=tmp_path / "state", broker_url=Secret("redis://127.0.0.1:1/0"))
    for settings, refusal in (
        (nowhere, SecretUnavailable),
        (nowhere.model_copy(update={"seal_key": new_seal_key()}), StoreUnavailable),
    ):
        with pytest.raises(refusal), engine_with_worker(settings, _quiet, kind="up"):
            pass
        assert command_here(settings.state) == ""
    assert _processes(tmp_path) == []


MASKS = (0o000, 0o277, 0o022, 0o077) if EXHAUSTIVE else (0o000, 0o277)


@pytest.mark.parametrize("umask", [MASKS[number] for number in rotated(len(MASKS), 2, "umask")])
def test_all_files_on_this_machine_are_private(tmp_path: Path, umask: int) -> None:
    """With any umask each file of the state folder is 0600, and each folder 0700, also those of children."""
    state = tmp_path / "new" / "state"
    before = os.umask(umask)
    try:
        with engine_with_worker(Settings(state=state, workers=1), _quiet, kind="up", flower=True) as services:
            services.engine.store.runs()
            made = sorted(state.rglob("*"))
    finally:
        os.umask(before)
    names = {path.name for path in made}
    assert {"seal.key", "flower.password", "services.json", "services.lock", "worker.log", "flower.log"} <= names
    assert {"broker.conf", "broker.url", "broker.pid", "broker.log", "broker.lock", "broker.owner"} <= names
    assert any(".aof" in name for name in names)
    assert {"0o600"} == {oct(path.stat().st_mode & 0o7777) for path in state.rglob("*") if path.is_file()}
    folders = [path for path in (state.parent, state, *made) if path.is_dir()]
    assert {"0o700"} == {oct(path.stat().st_mode & 0o7777) for path in folders}


def test_a_closed_output_pipe_changes_nothing(tmp_path: Path) -> None:
    """`esync plan ... | head -c 1`: the plan is saved, the exit status is that of the plan, there is no error."""
    with (
        warm_lab(tmp_path / "lab", "--nodes", "2", "--address", spare_addresses()) as lab,
        _started(tmp_path, "plan", str(lab.cluster), "-o", str(tmp_path / "plan.json")) as plan,
    ):
        assert plan.stdout is not None
        plan.stdout.close()
        plan.stdout = None
        reported = plan.stderr.read() if plan.stderr else ""
        assert plan.wait(PATIENCE) == 2
    assert "error" not in reported
    assert "Traceback" not in reported
    assert json.loads((tmp_path / "plan.json").read_text())["esync_plan"] == 3


@pytest.mark.parametrize("arguments", [["runs", "--json"], ["--help"], ["--version"]])
def test_a_full_disk_behind_stdout_is_reported(tmp_path: Path, arguments: list[str]) -> None:
    """A command that writes to a full disk ends with 1 and one error."""
    own = {**os.environ, "ESYNC_STATE": str(tmp_path / "state")}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*ESYNC, *arguments], env=own, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "error: a file or stream cannot be used: No space left on device",
        "  Fix: free space there, or name another place",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.6 + 0.15 * step for step in range(18)] if EXHAUSTIVE else [1.2])
def test_after_an_interrupted_start_no_process_remains(tmp_path: Path, number: signal.Signals, after: float) -> None:
    """After Ctrl-C or SIGTERM at any moment of the start there is no process, and no traceback."""
    with _started(tmp_path, "up") as up:
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.wait(after)
        up.send_signal(number)
        reported = up.communicate(timeout=PATIENCE)[1]
    assert up.returncode in {0, 128 + number, -number}
    assert "Traceback" not in reported
    assert _processes(tmp_path) == []


def test_after_the_end_of_the_terminal_no_process_remains(tmp_path: Path) -> None:
    """Shell and kernel say several times that it is closed, also while the services end."""
    with _started(tmp_path, "up") as up:
        next_line(up, "all esync commands")
        while up.poll() is None:
            up.send_signal(signal.SIGHUP)
            time.sleep(0.02)
    assert up.returncode in {128 + signal.SIGHUP, -signal.SIGHUP}  # the second once Python itself ends
    assert _processes(tmp_path) == []


def test_a_command_that_nohup_has_started_outlives_its_terminal(tmp_path: Path) -> None:
    """The end of the terminal does not reach it: a run that was left for the night continues."""
    with _started(tmp_path, "up", within=("nohup",)) as up:
        next_line(up, "all esync commands")
        up.send_signal(signal.SIGHUP)
        assert _run(tmp_path, "runs")[0] == 0
        assert up.poll() is None
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=PATIENCE)
    assert up.returncode == 0
    assert _processes(tmp_path) == []


def test_the_services_of_a_killed_command_are_ended_by_the_next(tmp_path: Path) -> None:
    """After SIGKILL of `esync up`, the next command ends its worker and Flower, and its broker at the end."""
    with _started(tmp_path, "up") as up:
        next_line(up, "all esync commands")
        orphans = {process.pid for process in _processes(tmp_path / "state")}
        up.kill()
        up.wait(PATIENCE)
    with engine_with_worker(_settings(tmp_path), _quiet):
        left = orphans & {process.pid for process in _processes(tmp_path)}
        assert len(left) <= 1, "the broker may be kept, worker and Flower may not"
    assert _processes(tmp_path) == []


def test_a_command_finds_the_services_again_that_were_restarted(tmp_path: Path) -> None:
    """`esync up` is ended in mid-run, and started at another address: the command that follows the run continues."""
    with four_servers(tmp_path / "lab") as lab, contextlib.ExitStack() as stack:
        up = stack.enter_context(_started(tmp_path, "up"))
        next_line(up, "all esync commands")
        rollout = stack.enter_context(_started(tmp_path, "rollout", str(lab.cluster), "--yes"))
        next_line(rollout, "wave-1")
        up.terminate()
        up.communicate(timeout=PATIENCE)
        again = stack.enter_context(_started(tmp_path, "up"))
        next_line(again, "all esync commands")
        said = rollout.communicate(timeout=PATIENCE)[1]
    assert (rollout.returncode, "JOINED" in said) == (0, True), said


def test_the_same_command_again_finishes_a_run_that_was_left(tmp_path: Path) -> None:
    """The worker of that run has ended with its command: the next one finishes it, then has nothing to do itself."""
    quick = {"ESYNC_LEASE": "2", "ESYNC_STALL_AFTER": "2", "ESYNC_RECONCILE_EVERY": "0.5"}
    with four_servers(tmp_path / "lab") as lab:
        command = ("rollout", str(lab.cluster), "--yes")
        with _started(tmp_path, *command, **quick) as first:
            next_line(first, "wave-1")
            first.terminate()
            assert "The worker stops with this command" in first.communicate(timeout=PATIENCE)[1]
        status, _, said = _run(tmp_path, *command, **quick)
    assert (status, said.count("JOINED")) == (0, 2), said
    assert "is gone; a new worker finishes that run first" in said
    assert "nothing to do: all 4 nodes are as they should be" in said


def test_demo_ends_joined_and_clean(tmp_path: Path) -> None:
    """`esync demo` exits 0, writes its report, prints data on stdout only, and removes everything else."""
    status, out, err = _run(tmp_path, "demo", "--json")
    assert status == 0, err
    assert json.loads(out)["verdict"] == "joined"
    assert "also in Flower: http://127.0.0.1:" in err
    password = err.partition(" password ")[2].split()[0]
    assert password not in out
    page = next(tmp_path.glob("esync-report-*.html"))
    assert password not in page.read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [page.name, page.with_suffix(".json").name]
    assert _processes(tmp_path) == []


def test_demo_that_is_interrupted_is_clean(tmp_path: Path) -> None:
    """After two Ctrl-C during the demo: exit 130, no process and no folder."""
    with _started(tmp_path, "demo") as demo:
        next_line(demo, "run created")
        demo.send_signal(signal.SIGINT)
        time.sleep(0.3)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE)
        assert demo.returncode == 130
    assert _processes(tmp_path) == []
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_lab_stays_until_it_is_ended(tmp_path: Path) -> None:
    """`esync lab` prints one JSON object when all servers listen, and ends them with itself."""
    folder, addresses = str(tmp_path / "lab"), spare_addresses()
    with _started(tmp_path, "lab", "--dir", folder, "--nodes", "2", "--address", addresses, "--json") as lab:
        assert lab.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += next_line(lab, output=lab.stdout)
        assert len(json.loads(text)["nodes"]) == 2
        lab.terminate()
        assert lab.wait(PATIENCE) == 143
    assert _processes(tmp_path) == []


def test_a_lab_that_cannot_start_reports_the_reason(tmp_path: Path) -> None:
    """The operator gets the error of the lab."""
    status, out, err = _run(tmp_path, "lab", "--dir", str(tmp_path / "lab"), "--config", str(tmp_path / "none.yaml"))
    assert (status, out) == (1, "")
    assert "error: the lab cannot start: " in err
    assert "none.yaml cannot be read" in err
