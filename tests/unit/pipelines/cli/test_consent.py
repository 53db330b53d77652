"""Commands that change servers, without a terminal to ask on and without --yes; with real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.usecases import runs
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from tests.unit.pipelines.cli.test_cli import CLUSTER
from tests.waiting import PATIENCE
from tests.warm_command import warm_esync


@pytest.fixture(scope="module")
def esync(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program `esync`, without the time that it takes to load."""
    with warm_esync(tmp_path_factory.mktemp("esync")) as program:
        yield program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a cluster file and a saved plan."""
    made = MadeUpRun("plan")
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "plan.json").write_text(runs.saved_plan(made.engine, made.id).model_dump_json())
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["rollout", "cluster.yaml"], "/dev/null"),
        (["rollout", "cluster.yaml", "--json"], "closed"),
        (["rollout", "plan.json"], "a pipe that says yes"),
        (["retry", "--json"], "/dev/null"),
        (["rollback", "last", "--force"], "/dev/null"),
        (["cleanup", "cluster.yaml", "--all"], "/dev/null"),
    ],
    ids=str,
)
def test_without_a_terminal_and_without_yes_nothing_starts(
    folder: Path, esync: Path, arguments: list[str], stdin: str
) -> None:
    """Exit 1, the option is named, and there is no state folder: no broker, no worker, no run."""
    closed = ["sh", "-c", 'exec "$0" "$@" <&-', str(Path(sys.executable).parent / "esync")]
    done = subprocess.run(
        [*(closed if stdin == "closed" else [str(esync)]), *arguments],
        input="y\n" if "pipe" in stdin else None,
        stdin=subprocess.DEVNULL if stdin == "/dev/null" else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=folder,
        env={**os.environ, "ESYNC_STATE": str(folder / "state")},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "there is no terminal to ask for confirmation; nothing was changed" in done.stderr
    assert "-y (--yes)" in done.stderr
    assert not (folder / "state").exists()
    assert ("--json" in arguments) == (done.stdout != "")
    if done.stdout:
        assert "-y" in json.loads(done.stdout)["remedy"]
