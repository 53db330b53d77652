"""Processes of ours: started with secrets in their environment only, ended by their id, wholly."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.local.processes import Child, end_orphan, environment, started_at
from workers.errors import EsyncError

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
PLANTED = "pl4nted-Passw0rd"


def _child(folder: Path, code: str, **more: Path | dict[str, str]) -> Child:
    return Child("thing", ["-c", code], folder=folder, log=folder / "logs" / "thing.log", **more)  # type: ignore[arg-type]


def _until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit, "waited for too long"
        time.sleep(0.01)


def test_a_child_is_gone_after_its_block(tmp_path: Path) -> None:
    """Leaving the block ends the process, also when the block raises."""
    child = _child(tmp_path, "import time; time.sleep(60)")

    def broken() -> None:
        with child:
            assert started_at(child.pid)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert child.ended is not None
    assert not started_at(child.pid)


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed once its time is over."""
    child = _child(tmp_path, STUBBORN).start()
    _until(lambda: b"deaf" in child.log.read_bytes())
    child.stop(patience=0.1)
    assert child.ended == -9


def test_a_child_lives_in_a_session_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C in the terminal goes to our group; a child is in another."""
    with _child(tmp_path, "import time; time.sleep(60)") as child:
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_secrets_travel_in_the_environment(tmp_path: Path) -> None:
    """What a child gets by variable is in no argument, and its log and output are for the owner's eyes."""
    code = "import os, time; print(os.environ['X_SECRET'], flush=True); time.sleep(60)"
    with _child(tmp_path, code, own={"X_SECRET": PLANTED}, output=tmp_path / "said") as child:
        _until(lambda: (tmp_path / "said").exists() and PLANTED in (tmp_path / "said").read_text())
        assert PLANTED.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (child.log, tmp_path / "said")}
    assert modes == {0o600}


def test_variables_that_would_misguide_celery_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's CELERY_* and FLOWER_* do not reach our children; the rest does, and ours win."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    monkeypatch.setenv("SHOP_PASSWORD", "kept")
    made = environment({"FLOWER_PORT": "1"})
    assert "CELERY_BROKER_URL" not in made
    assert "FLOWER_UNAUTHENTICATED_API" not in made
    assert (made["FLOWER_PORT"], made["SHOP_PASSWORD"]) == ("1", "kept")


def test_a_child_that_breaks_says_its_last_words(tmp_path: Path) -> None:
    """The error names the status, the last line of the log without its password, and the log."""
    child = _child(tmp_path, "import sys; sys.exit('no redis://:geheim@127.0.0.1:1/0')").start()
    _until(lambda: child.ended is not None)
    error = child.broke()
    assert isinstance(error, EsyncError)
    assert error.message == "the thing ended with status 1: no redis://:***@127.0.0.1:1/0"
    assert error.file == str(child.log)


def test_an_orphan_is_ended_once_and_nobody_else(tmp_path: Path) -> None:
    """A process left behind is ended when id and start time agree; another process under that id is not."""
    with _child(tmp_path, "import time; time.sleep(60)") as child:
        assert not end_orphan(child.pid, "1")
        assert child.ended is None
        assert not end_orphan(child.pid, "")
        assert end_orphan(child.pid, started_at(child.pid), patience=0.2)
        _until(lambda: child.ended is not None)
