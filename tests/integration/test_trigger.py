"""Another program starts a run by a message, as the README shows it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import FOUR, Harness, four_servers, harness_at
from tests.places import ROOT
from workers.records import Verdict

pytestmark = pytest.mark.integration


#: Runs before the lines of the README: the other program has none of our packages.
ALONE = """
import json, os, sys
from tests.places import ROOT
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pipelines", "tasks", "workers", "lab"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
BROKER_URL = os.environ["BROKER_URL"]
"""
SHOW = "\nprint(json.dumps({'run': run, 'status': status}))\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Four servers, untouched until the first run."""
    with four_servers(tmp_path_factory.mktemp("servers") / "lab") as running:
        yield running


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory, lab: LabProcess) -> Iterator[Harness]:
    """A worker that knows the cluster of the lab by the name in the README."""
    folder = tmp_path_factory.mktemp("clusters")
    for name in ("ca.pem", "password"):
        shutil.copy(lab.folder / name, folder / name)
    (folder / "four-servers.yaml").write_text(lab.cluster.read_text().replace("name: lab", "name: four-servers", 1))
    with harness_at(tmp_path_factory.mktemp("harness"), ESYNC_CLUSTERS=str(folder)) as harness:
        yield harness


def other_program(harness: Harness, code: str) -> dict[str, object]:
    """Runs code in a process that has Celery and the address of the broker, but none of our packages."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE + code + SHOW],
        env={"BROKER_URL": harness.environment["ESYNC_BROKER_URL"], "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def readme_lines() -> str:
    """The example in the README."""
    block = re.search(r"```python\n(from celery import.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) <= 14
    return block[1]


def test_the_lines_of_the_readme_start_a_run(listening: Harness, lab: LabProcess) -> None:
    """A program without our packages starts a run by name, gets its id and reads its status; the run ends joined."""
    answer = other_program(listening, readme_lines())
    run = str(answer["run"])
    done = listening.finished(run)
    assert done.record.verdict is Verdict.JOINED
    assert (done.record.key, done.record.reason) == ("change-4711", "new server P2")
    status = answer["status"]
    assert isinstance(status, dict)
    assert status["run"] == run
    assert {1} == {lab.report(node)["service"]["stops"] for node in FOUR}


def test_the_same_key_twice_is_one_run(listening: Harness) -> None:
    """A second request with the same key returns the id of the first run and starts nothing."""
    before = {record.id for record in listening.engine.store.runs()}
    lines = readme_lines().replace("change-4711", "change-4712")
    first, second = (str(other_program(listening, lines)["run"]) for _ in range(2))
    assert first == second
    listening.finished(first)
    assert {first} == {record.id for record in listening.engine.store.runs()} - before


@pytest.mark.parametrize("name", ["no-such-cluster", "../lab/cluster", "/etc/passwd"])
def test_a_cluster_nobody_knows_is_refused(listening: Harness, name: str) -> None:
    """A name without a file in the folder of the worker returns an error as data, not a traceback."""
    code = (
        readme_lines()
        .replace('"four-servers"', repr(name))
        .replace('["run"]', "")
        .replace('kwargs={"run": run}', 'kwargs={"run": "none"}')
    )
    code = re.sub(r"^print.*$", "", code, flags=re.MULTILINE)
    answer = other_program(listening, code)
    refused, unknown = answer["run"], answer["status"]
    assert isinstance(refused, dict)
    assert refused["error"] == "input_refused"
    assert isinstance(unknown, dict)
    assert unknown["error"] == "run_unknown"
