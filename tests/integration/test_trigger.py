"""Another program starts a run by a message, as the README shows it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.control.remote import LabProcess
from tests.integration.fresh_environment import fresh_environment
from tests.integration.harness import FOUR, HELD, SITE, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.places import ROOT
from tests.waiting import PATIENCE, wait_until
from workers.celery_app import CONTROL_QUEUE, STARTS_QUEUE
from workers.records import Verdict

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text()

#: Runs before the lines of the README, which have the address in a variable.
BEFORE = "import json, os\nBROKER_URL = os.environ['BROKER_URL']\n"
SHOW = "\nprint(json.dumps({'run': started['run'], 'status': status}))\n"


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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment after `pip install "celery[redis]"`."""
    return fresh_environment(tmp_path_factory.mktemp("alone"), wanted_package())


def wanted_package() -> str:
    """What the README tells to install."""
    named = re.search(r'`pip install "(celery.*?)"`', README)
    assert named is not None
    return named[1]


def program(python: Path, harness: Harness, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code with that Python, which has the address of the broker."""
    return subprocess.run(
        [python, "-c", BEFORE + code],
        cwd=python.parent,
        env={"BROKER_URL": harness.environment["ESYNC_BROKER_URL"], "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer_of(python: Path, harness: Harness, code: str) -> dict[str, object]:
    """Runs code that prints an answer last."""
    done = program(python, harness, code)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def readme_lines() -> str:
    """The example in the README."""
    block = re.search(r"```python\n(from celery import.*?)```", README, re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) <= 14
    return block[1]


def test_the_environment_has_celery_and_its_client_only(alone: Path, listening: Harness) -> None:
    """In the fresh environment none of our packages can be imported, and nothing that only we need."""
    ours = ("pipelines", "tasks", "workers", "lab", "pydantic", "typer", "flower", "winrm")
    code = f"import importlib.util\nprint(json.dumps([n for n in {ours!r} if importlib.util.find_spec(n)]))"
    assert program(alone, listening, code).stdout == "[]\n"


def test_celery_alone_is_not_enough(tmp_path: Path, listening: Harness) -> None:
    """Without the extra that the README names, the same lines fail for want of a module."""
    done = program(fresh_environment(tmp_path, wanted_package().partition("[")[0]), listening, readme_lines())
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_lines_of_the_readme_start_a_run(alone: Path, listening: Harness, lab: LabProcess) -> None:
    """A program without our packages starts a run by name, gets its id and reads its status; the run ends joined."""
    answer = answer_of(alone, listening, readme_lines() + SHOW)
    run = str(answer["run"])
    done = listening.finished(run)
    assert done.record.verdict is Verdict.JOINED
    assert (done.record.key, done.record.reason) == ("change-4711", "new server P2")
    status = answer["status"]
    assert isinstance(status, dict)
    assert status["run"] == run
    assert {1} == {lab.report(node)["service"]["stops"] for node in FOUR}


def test_the_caller_says_who_it_is(alone: Path, listening: Harness, esync: Path) -> None:
    """`esync runs` shows the caller's own name and reason; of a caller without a name, that it was a message."""
    lines = readme_lines()
    named, unnamed = lines.replace("4711", "4721"), lines.replace("4711", "4722").replace(', "who": "deploy-bot"', "")
    for code in (named, unnamed):
        listening.finished(str(answer_of(alone, listening, code + SHOW)["run"]))
    command = [str(esync), "runs"]
    environment = {**os.environ, **listening.environment}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert ["message: new server P2", "deploy-bot: new server P2"] == [
        line.rpartition("  ")[2].strip() for line in listed.splitlines()[1:3]
    ]


def test_the_same_key_twice_is_one_run(alone: Path, listening: Harness) -> None:
    """A second request with the same key returns the id of the first run and starts nothing."""
    before = {record.id for record in listening.engine.store.runs()}
    lines = readme_lines().replace("change-4711", "change-4712") + SHOW
    first, second = (str(answer_of(alone, listening, lines)["run"]) for _ in range(2))
    assert first == second
    listening.finished(first)
    assert {first} == {record.id for record in listening.engine.store.runs()} - before


@pytest.mark.parametrize("name", ["no-such-cluster", "../lab/cluster", "/etc/passwd"])
def test_a_refused_start_ends_the_example_with_the_reason(alone: Path, listening: Harness, name: str) -> None:
    """For a name without a file in the folder of the worker, the example ends with the documented error."""
    done = program(alone, listening, readme_lines().replace('"four-servers"', repr(name)))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("refused: input_refused: ")


def test_a_refusal_is_a_value(listening: Harness) -> None:
    """Callers that read the answer themselves get slug and message, no exception: of starts and of questions."""
    send = listening.engine.app.send_task
    refused = send("esync.rollout", queue=STARTS_QUEUE, kwargs={"cluster": "nowhere"}).get(timeout=PATIENCE)
    unknown = send("esync.status", queue=CONTROL_QUEUE, kwargs={"run": "none"}).get(timeout=PATIENCE)
    assert [{"error", "message"}] * 2 == [set(refused), set(unknown)]
    assert ("input_refused", "run_unknown") == (refused["error"], unknown["error"])


def test_a_run_is_steered_by_message(listening: Harness, lab: LabProcess) -> None:
    """Paused, continued and promoted: each answer is the status of the run; what the run does not allow is refused."""

    def ask(what: str, **more: str) -> dict[str, Any]:
        sent = listening.engine.app.send_task(f"esync.{what}", queue=CONTROL_QUEUE, kwargs={"run": run} | more)
        answer: dict[str, Any] = sent.get(timeout=PATIENCE)
        return answer

    for node in FOUR:  # which an earlier run may have joined
        file = on_disk(lab, node, rf"{SITE}\AssetManagement.config")
        file.write_bytes(file.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    run = listening.start(cluster_of(lab, **HELD)).id
    wait_until(lambda: ask("status")["held"])
    assert "lunch" == ask("pause", reason="lunch")["paused"]
    assert "" == ask("resume")["paused"]
    assert "is not held before wave-1: it is held before wave-2" in ask("promote", turn="wave-1")["message"]
    assert "" == ask("promote", reason="deploy-bot", turn="wave-2")["held"]
    assert Verdict.JOINED is listening.finished(run).record.verdict
    promoted = [one.message for one in listening.engine.store.events(run) if one.kind == "run.promoted"]
    assert ["by deploy-bot"] == promoted
    assert ["input_refused"] * 2 == [ask(what)["error"] for what in ("pause", "promote")]
    assert "joined" == ask("cancel")["verdict"]
