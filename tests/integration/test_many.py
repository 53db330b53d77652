"""Several clusters with one command or one message, on simulated servers."""

import itertools
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from lab.control.remote import LabProcess, spare_addresses
from pipelines.cli import group, many
from pipelines.cli.entry import run
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.provided import Running
from pipelines.run.groups import in_line
from pipelines.usecases import control
from pipelines.usecases.groups import Member, start_group
from pipelines.usecases.runs import saved_plan
from tests.integration.harness import Harness, harness_at
from tests.places import ROOT
from tests.waiting import PATIENCE, wait_until
from tests.warm import warm_lab
from workers.broker import set_aside
from workers.records import RunRecord
from workers.redis.connection import connect
from workers.settings import load_settings

pytestmark = pytest.mark.integration

NAMES = ("east", "north", "west")
#: Restarted servers need not be watched, and two servers of a pool go together.
QUICK = {"whole_pool": True, "judge_waves": False, "retry_in_wave": 0, "deadlines": {"settle": 0}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Six untouched servers."""
    with warm_lab(
        tmp_path_factory.mktemp("lab") / "servers", "--nodes", "6", "--disk", "memory", "--address", spare_addresses()
    ) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, lab: LabProcess) -> Path:
    """A folder with three cluster files of two servers each, and a text that is none."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("ca.pem", "password"):
        shutil.copy(lab.folder / name, folder / name)
    yaml, nodes = YAML(typ="safe"), list(lab.nodes)
    for place, name in enumerate(NAMES):
        data = yaml.load(lab.cluster)
        own = nodes[2 * place : 2 * place + 2]
        data |= {"name": name, "origin": own[0], "nodes": [node for node in data["nodes"] if node["name"] in own]}
        yaml.dump(data | {"policy": {**data.get("policy", {}), **QUICK}}, folder / f"{name}.yaml")
        lab.run_configurator(own[0])
    (folder / "notes.txt").write_text("not a cluster")
    return folder


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Harness]:
    """A broker and a worker that knows the folder."""
    with harness_at(tmp_path_factory.mktemp("harness"), ESYNC_CLUSTERS=str(files)) as running:
        yield running


@pytest.fixture(autouse=True)
def _uses(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands of this process use that broker."""
    for name, value in harness.environment.items():
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def document(text: str) -> dict[str, Any]:
    """The JSON that a command printed, as its schema says."""
    printed: dict[str, Any] = json.loads(text)
    schema = json.loads((ROOT / "docs" / "clusters-schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(printed)
    return printed


def begun(harness: Harness, record: RunRecord) -> float:
    """When a run began to work, in seconds since 1970."""
    started = (event for event in harness.engine.store.events(record.id) if event.kind == "run.started")
    return next(started).at.timestamp()


def on_terminal(arguments: list[str], answer: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The exit status of a command on a terminal, where a person answers its question; and what was shown."""
    master, slave = os.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other side is closed
            while part := os.read(master, 65536):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    os.write(master, answer.encode())
    with os.fdopen(slave, "w", encoding="utf-8") as output, os.fdopen(os.dup(slave), encoding="utf-8") as source:
        monkeypatch.setattr("sys.stderr", output)
        monkeypatch.setattr("sys.stdin", source)
        status = run(arguments)
    reader.join(PATIENCE)
    os.close(master)
    return status, b"".join(shown).decode()


def test_one_question_for_all_plans(harness: Harness, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of the plans, then the question. A no starts nothing; a yes applies the plans that were shown."""
    arguments = ["rollout", *(str(files / f"{name}.yaml") for name in NAMES[:2])]
    status, shown = on_terminal(arguments, "n\n", monkeypatch)
    assert (status, {record.kind for record in harness.engine.store.runs()}) == (130, {"plan"}), shown
    table = shown[shown.index("CLUSTER  NODES") :].splitlines()
    assert [line.split()[0] for line in table[1:3]] == list(NAMES[:2])
    assert all(" 2 of 2 " in line for line in table[1:3])
    status, shown = on_terminal(arguments, "y\n", monkeypatch)
    assert status == 0, shown
    plans, applied = harness.engine.store.runs(4)[2:], harness.engine.store.runs(2)
    shown_plans = {saved_plan(harness.engine, run.id).fingerprint for run in plans}
    assert shown_plans == {run.plan_fingerprint for run in applied}
    assert {(run.kind, run.verdict) for run in applied} == {("rollout", "joined")}
    with connect(harness.engine.settings.broker()) as client:
        assert set_aside.stored(client) == ()


def test_a_folder_is_rolled_out_one_after_the_other(
    harness: Harness, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the names; one document says what happened to each; the exit status is that of all."""
    assert run(["rollout", str(files), "--yes", "--at-most", "1", "--json"]) == 0
    printed = document(capsys.readouterr().out)
    assert [(one["cluster"], one["verdict"]) for one in printed["clusters"]] == [(name, "joined") for name in NAMES]
    assert (printed["exit_code"], printed["verdict"]) == (0, "joined")
    records = [harness.engine.store.run(one["run"]) for one in printed["clusters"]]
    for before, after in itertools.pairwise(records):
        assert before.ended is not None
        assert before.ended.timestamp() <= begun(harness, after)


def test_the_same_command_again_keeps_to_its_limit(
    harness: Harness, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier one was interrupted when it had created its first run: the others wait for that one."""
    engine, follow = harness.engine, group.follow_all
    (first,) = start_group(engine, [Member(load_cluster(files / "east.yaml"))], at_most=1)
    control.pause(engine, first.id, "ann")

    def continued(services: Running, records: Sequence[RunRecord], *more: Any) -> None:  # noqa: ANN401 - passed on
        assert records[0].id == first.id
        wait_until(lambda: engine.store.run(first.id).turns)
        assert in_line(engine.store.active()) == {record.id for record in records[1:]}
        control.resume(engine, first.id)
        follow(services, records, *more)

    monkeypatch.setattr(many, "follow_all", continued)
    assert run(["rollout", str(files), "--yes", "--at-most", "1", "--json"]) == 0
    said = capsys.readouterr()
    assert f"east: run {first.id} is active already and is followed" in said.err
    records = [engine.store.run(one["run"]) for one in document(said.out)["clusters"]]
    for before, after in itertools.pairwise(records):
        assert before.ended is not None
        assert before.ended.timestamp() <= begun(harness, after)


def test_the_worst_cluster_decides_and_is_shown_first(
    lab: LabProcess, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two are joined, one server is away: exit 4, and its cluster is in the first line."""
    assert run(["rollout", str(files), "--yes"]) == 0
    capsys.readouterr()
    away = list(lab.nodes)[3]
    lab.break_node(away, refuse_connections=True)
    try:
        assert run(["verify", *(str(files / f"{name}.yaml") for name in NAMES), "--json"]) == 4
    finally:
        lab.heal(away)
    said = capsys.readouterr()
    printed = document(said.out)
    assert [one["exit_code"] for one in printed["clusters"]] == [0, 4, 0]
    header, first, *_ = said.err[said.err.index("CLUSTER") :].splitlines()
    assert header.split() == ["CLUSTER", "RUN", "RESULT", "WHY"]
    assert first.startswith("north ")
    assert "3 clusters: 1 unreachable, 2 joined" in said.err


def test_a_run_that_the_store_loses_hides_no_other_cluster(
    harness: Harness, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are followed to their ends; the result of the lost one says what happened, and what to do."""
    follow = group.follow_all

    def losing(services: Running, records: Sequence[RunRecord], *more: Any) -> None:  # noqa: ANN401 - passed on
        harness.engine.store.forget(records[1].id)
        follow(services, records, *more)

    monkeypatch.setattr(many, "follow_all", losing)
    assert run(["verify", *(str(files / f"{name}.yaml") for name in NAMES), "--json"]) != 0
    results = {one["cluster"]: one for one in document(capsys.readouterr().out)["clusters"]}
    lost = results.pop("north")
    assert all(one["verdict"] for one in results.values())
    assert (lost["verdict"], lost["exit_code"]) == (None, 6)
    assert "the run store has lost run" in lost["summary"]
    assert "start it again" in lost["summary"]


def test_a_folder_is_looked_at_and_followed_as_one(
    lab: LabProcess, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a cluster, what went wrong first, one document, the worst exit status; a cluster without a run is there.

    The runs of one command are also named by their group.
    """
    assert run(["rollout", str(files), "--yes"]) == 0
    away = list(lab.nodes)[3]
    lab.break_node(away, refuse_connections=True)
    try:
        assert run(["verify", str(files)]) == 4
    finally:
        lab.heal(away)
    wrong, more = files / "wrong.yaml", files / "unused.yaml"
    wrong.write_text("name: x\n")
    more.write_text((files / "east.yaml").read_text("utf-8").replace("name: east", "name: unused"))
    try:
        capsys.readouterr()
        assert run(["status", str(files)]) == 0
        header, first, *others = capsys.readouterr().out.splitlines()
        assert (header.split(), first.split()[0]) == (["CLUSTER", "RUN", "STATE"], "north")
        assert [line.split()[0] for line in others] == ["east", "west", "unused", "wrong"]
        assert others[-1].endswith(f"the file cannot be used: esync check {wrong}")
        assert run(["status", str(wrong.parent / "wrong.yaml"), str(wrong)]) == 1
        assert "wrong.yaml:1: nodes: is missing" in capsys.readouterr().err
        assert run(["runs", str(files), "--json"]) == 0
        said = capsys.readouterr()
        assert {row["cluster"] for row in json.loads(said.out)} == set(NAMES)
        assert said.err == f"wrong.yaml: the file cannot be used: esync check {wrong}\n"
        assert run(["runs", str(wrong)]) == 1
        assert "wrong.yaml:1: nodes: is missing" in capsys.readouterr().err
        assert run(["status", str(files), "--json"]) == 0
        printed = document(capsys.readouterr().out)
        states = [(one["cluster"], one["status"] and one["status"]["verdict"]) for one in printed["clusters"]]
        assert states == [
            ("east", "joined"),
            ("north", "unreachable"),
            ("unused", None),
            ("west", "joined"),
            ("wrong", None),
        ]
        assert run(["watch", str(files), "--json"]) == 4
        assert document(capsys.readouterr().out)["exit_code"] == 4
    finally:
        more.unlink()
        wrong.unlink()
    named_by_their_group(printed["clusters"][0]["run"].rpartition("-")[2][:8], capsys)


def named_by_their_group(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that have ended, one of them unreachable: what takes several takes the group, what takes one says so."""
    assert run(["watch", group]) == 4
    assert "3 clusters: 1 unreachable, 2 joined" in capsys.readouterr().err
    assert run(["cancel", group]) == 0
    assert f"the runs of group {group} have ended already" in capsys.readouterr().err
    assert run(["rollback", group, "--yes"]) == 1
    assert f"{group} is a group of runs, and one run is needed" in capsys.readouterr().err


def test_a_message_starts_several(harness: Harness) -> None:
    """With how many at a time; the same key again is the same runs."""
    send = harness.engine.app.send_task
    asked = {"clusters": list(NAMES), "at_most": 2, "key": "night"}
    answer = send("esync.rollout", kwargs=asked, queue="esync.v1.control").get(timeout=PATIENCE)
    assert list(answer["runs"]) == list(NAMES)
    assert send("esync.rollout", kwargs=asked, queue="esync.v1.control").get(timeout=PATIENCE) == answer
    for started in answer["runs"].values():
        assert harness.finished(started).record.verdict == "joined"
    requests: list[dict[str, object]] = [
        {"clusters": ["east", "nowhere"]}, {"clusters": []}, {"clusters": ["east"], "cluster": "east"}, {},
    ]  # fmt: skip
    for wrong in requests:
        refused = send("esync.rollout", kwargs=wrong, queue="esync.v1.control").get(timeout=PATIENCE)
        assert refused["error"] == "input_refused"


def test_one_wrong_file_refuses_all(
    harness: Harness, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the mistakes of every file; nothing is created."""
    before = harness.engine.store.names()
    wrong = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    for path in wrong:
        path.write_text("name: x\n")
    assert run(["rollout", str(files), *map(str, wrong), "--yes"]) == 1
    said = capsys.readouterr().err
    assert "2 files of 5 cannot be used" in said
    assert f"{wrong[0]}:1: nodes: is missing" in said
    assert f"{wrong[1]}:1: nodes: is missing" in said
    (tmp_path / "empty").mkdir()
    assert run(["plan", str(tmp_path / "empty")]) == 1
    assert run(["plan", str(files), "--node", "N1"]) == 64
    assert harness.engine.store.names() == before


@pytest.mark.parametrize("verb", ["plan", "verify", "doctor"])
def test_a_wrong_file_hides_no_other_cluster_from_a_look(
    files: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before the servers are asked and in the table, and counts as inconclusive; the other is checked."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\n")
    assert run(["rollout", str(files / "east.yaml"), "--yes"]) == 0
    assert run([verb, str(files / "east.yaml")]) == 0
    capsys.readouterr()
    assert run([verb, str(wrong), str(files / "east.yaml"), "--json"]) == 6
    said = capsys.readouterr()
    printed = document(said.out)
    assert [(one["cluster"], one["verdict"] is None) for one in printed["clusters"]] == [
        ("wrong", True),
        ("east", False),
    ]
    assert f"without wrong.yaml: the file cannot be used: esync check {wrong}" in said.err
    assert said.err.startswith(f"{verb} of 1 cluster: east")
    assert "details" not in said.err
    assert run([verb, str(wrong), str(wrong.parent)]) == 1
    assert "wrong.yaml:1: nodes: is missing" in capsys.readouterr().err
