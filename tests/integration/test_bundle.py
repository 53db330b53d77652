"""The bundle of a real run: checked offline by the command alone, without secrets; changes are named."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.audit.archive import pack, unpack
from pipelines.audit.bundle import bundle_of, write_bundle
from pipelines.audit.check import check
from pipelines.audit.manifest import EVENTS
from tests.integration.harness import Harness, cluster_of, four_servers, harness_at
from tests.integration.test_secrets import CONNECTION, needles
from tests.unit.pipelines.audit.bundled_run import forged
from workers.errors import BundleRefused
from workers.records import Event, Verdict

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Harness, LabProcess]]:
    """A lab with a known connection string, and its own harness."""
    folder = tmp_path_factory.mktemp("bundle")
    with (
        four_servers(folder / "lab", lab=f"connection: '{CONNECTION}'") as lab,
        harness_at(folder / "harness") as harness,
    ):
        yield harness, lab


@pytest.fixture(scope="module")
def bundle(planted: tuple[Harness, LabProcess]) -> Path:
    """The bundle of a rollout over four untouched servers."""
    harness, lab = planted
    done = harness.rollout(cluster_of(lab), reason="quarterly audit", who="ops")
    assert done.record.verdict is Verdict.JOINED, done.record.summary
    path = harness.folder / "run.zip"
    write_bundle(harness.engine, done.record.id, path)
    return path


def checked(esync: Path, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`esync report --check` in a process without broker, key or state folder."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("ESYNC_")}
    command = [str(esync), "report", "--check", str(path), *more]
    return subprocess.run(command, env=bare, cwd=path.parent, capture_output=True, text=True, timeout=60, check=False)


def test_a_bundle_is_checked_offline(bundle: Path, esync: Path) -> None:
    """Without any ESYNC_* variable all checks pass: history, outcomes, plan, every decision and the verdict."""
    found = checked(esync, bundle)
    assert (0, "") == (found.returncode, found.stderr)
    assert 7 == found.stdout.count("ok: ")
    assert "creation by ops" in found.stdout
    assert "lead to the verdict joined" in found.stdout
    assert "joined" == json.loads(checked(esync, bundle, "--format", "json").stdout)["verdict"]


def test_the_command_writes_the_same_bundle(
    planted: tuple[Harness, LabProcess], bundle: Path, tmp_path: Path, esync: Path
) -> None:
    """`esync report --bundle` writes the same bytes each time, and prints the head of the chain."""
    harness, _ = planted
    again = tmp_path / "again.zip"
    command = [str(esync), "report", "--bundle", str(again)]
    done = subprocess.run(
        command, env={**os.environ, **harness.environment}, capture_output=True, text=True, timeout=60, check=True
    )
    assert bundle.read_bytes() == again.read_bytes()
    assert check(unpack(again.read_bytes())).chain_head in done.stderr


def test_the_log_has_the_head(planted: tuple[Harness, LabProcess], bundle: Path) -> None:
    """The worker logged the head when the run was concluded: a writer of the store cannot change the log."""
    harness, _ = planted
    lines = unpack(bundle.read_bytes())[EVENTS].splitlines()
    (concluded,) = [event for event in map(Event.model_validate_json, lines) if event.kind == "run.concluded"]
    assert concluded.chain in harness.log()


def test_every_outcome_is_in_the_history(bundle: Path) -> None:
    """Each step of each node has its event; the event of the plan is before anything was written."""
    events = [Event.model_validate_json(line) for line in unpack(bundle.read_bytes())[EVENTS].splitlines()]
    kinds = [event.kind for event in events]
    assert "run.created" == kinds[0]
    assert kinds.count("step.ended") == 24  # one observation each before and after, four steps in the wave
    assert kinds.index("run.planned") < min(i for i, e in enumerate(events) if e.turn.startswith("wave"))


def test_no_secret_is_in_a_bundle(planted: tuple[Harness, LabProcess], bundle: Path) -> None:
    """Password, connection string and private keys are in none of its members."""
    _, lab = planted
    members = unpack(bundle.read_bytes())
    found = [(what, name) for what, needle in needles(lab).items() for name, data in members.items() if needle in data]
    assert [] == found


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("outcomes.json", b"S2", b"P2"),
        ("facts/verified/P1.json", b"running", b"stopped"),
        ("events.jsonl", b"ops", b"spo"),
    ],
)
def test_what_was_changed_is_named(
    bundle: Path, tmp_path: Path, esync: Path, name: str, old: bytes, new: bytes
) -> None:
    """The command exits 5 and names the member; the change is found also with an adapted manifest."""
    members = unpack(bundle.read_bytes())
    assert old in members[name]
    changed = {name: members[name].replace(old, new, 1)}
    tampered = tmp_path / "tampered.zip"
    tampered.write_bytes(pack({**members, **changed}))
    found = checked(esync, tampered)
    assert (5, "") == (found.returncode, found.stdout)
    assert f"{name} was changed" in found.stderr
    with pytest.raises(BundleRefused):
        check(forged(members, **changed))


def test_a_refuted_run_has_a_valid_bundle(planted: tuple[Harness, LabProcess], bundle: Path) -> None:
    """A verify run after a manual change: its verdict follows from its facts as well."""
    harness, lab = planted
    assert bundle.exists()
    config = next(lab.disk("P2").rglob("AssetManagement.config"))
    config.write_bytes(config.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    done = harness.rollout(cluster_of(lab), kind="verify")
    checked_bundle = check(bundle_of(harness.engine.store, done))
    assert ("refuted", done.record.id) == (checked_bundle.verdict, checked_bundle.run)
