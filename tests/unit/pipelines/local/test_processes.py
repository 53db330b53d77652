"""Child processes: started with secrets in their environment only, and ended completely."""

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.local import turns
from pipelines.local.processes import Child, environment
from pipelines.local.state import command_here, record_services
from pipelines.local.turns import exclusive
from workers.errors import EsyncError
from workers.host.processes import start_ticks

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)
PLANTED = "pl4nted-Passw0rd"


def _child(folder: Path, code: str, **more: Path | dict[str, str]) -> Child:
    return Child("thing", ["-c", code], folder=folder, log=folder / "logs" / "thing.log", **more)  # type: ignore[arg-type]


def _until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit, "waited for too long"
        time.sleep(0.01)


def test_a_child_has_ended_after_its_block(tmp_path: Path) -> None:
    """Leaving the block ends the process, also when the block raises."""
    child = _child(tmp_path, "import time; time.sleep(60)")

    def broken() -> None:
        with child:
            assert start_ticks(child.pid)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert child.exit_status is not None
    assert not start_ticks(child.pid)


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed after the patience is over."""
    child = _child(tmp_path, STUBBORN).start()
    _until(lambda: b"ready" in child.log.read_bytes())
    child.stop(patience=0.1)
    assert child.exit_status == -9


def test_a_child_runs_in_its_own_session(tmp_path: Path) -> None:
    """Ctrl-C in the terminal goes to our process group; a child is in another one."""
    with _child(tmp_path, "import time; time.sleep(60)") as child:
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_secrets_travel_in_the_environment(tmp_path: Path) -> None:
    """The value of a variable is in no argument, and only the owner can read log and output."""
    code = "import os, time; print(os.environ['X_SECRET'], flush=True); time.sleep(60)"
    with _child(tmp_path, code, own={"X_SECRET": PLANTED}, output=tmp_path / "output") as child:
        _until(lambda: (tmp_path / "output").exists() and PLANTED in (tmp_path / "output").read_text())
        assert PLANTED.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (child.log, tmp_path / "output")}
    assert modes == {0o600}


def test_variables_for_celery_and_flower_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERY_*, FLOWER_* and the run store do not reach our children; other variables do, and our own replace them."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("ESYNC_STORE_URL", "redis://elsewhere")
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    monkeypatch.setenv("SHOP_PASSWORD", "kept")
    made = environment({"FLOWER_PORT": "1"})
    assert "CELERY_BROKER_URL" not in made
    assert "ESYNC_STORE_URL" not in made
    assert "FLOWER_UNAUTHENTICATED_API" not in made
    assert (made["FLOWER_PORT"], made["SHOP_PASSWORD"]) == ("1", "kept")


def test_the_error_of_a_child_has_its_last_log_line(tmp_path: Path) -> None:
    """The error names the status, the last line of the log without its password, and the log."""
    child = _child(tmp_path, "import sys; sys.exit('no redis://:geheim@127.0.0.1:1/0')").start()
    _until(lambda: child.exit_status is not None)
    error = child.start_error()
    assert isinstance(error, EsyncError)
    assert error.message == "the thing ended with status 1: no redis://:***@127.0.0.1:1/0"
    assert error.file == str(child.log)


def test_a_process_of_a_killed_command_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next command ends a recorded process when id and start agree; another process with that id is not ended."""
    monkeypatch.setattr(turns, "ORPHAN_PATIENCE", 0.2)
    with _child(tmp_path, STUBBORN) as child:
        _until(lambda: b"ready" in child.log.read_bytes())
        record_services(tmp_path, "rollout", [child])
        record = json.loads((tmp_path / "services.json").read_text())
        with exclusive(tmp_path, "look"):
            assert child.exit_status is None
        for started in ("1", ""):
            child_record = record["children"][0] | {"started": started}
            (tmp_path / "services.json").write_text(json.dumps(record | {"children": [child_record]}))
            with exclusive(tmp_path, "rollout"):
                assert child.exit_status is None
        (tmp_path / "services.json").write_text(json.dumps(record))
        with exclusive(tmp_path, "rollout"):
            _until(lambda: child.exit_status is not None)


def test_the_command_that_runs_services_is_known_while_it_runs(tmp_path: Path) -> None:
    """A record of another process, of no process, or that cannot be read, is no running command."""
    assert command_here(tmp_path) == ""
    record_services(tmp_path, "up", [])
    assert command_here(tmp_path) == "up"
    record = json.loads((tmp_path / "services.json").read_text())
    records: tuple[object, ...] = (record | {"started": "1"}, record | {"pid": "x"}, record | {"pid": 2**22}, [], {})
    for broken in records:
        (tmp_path / "services.json").write_text(json.dumps(broken))
        assert command_here(tmp_path) == ""
