"""The rollout on nearly-Windows machines, judged by disks and service logs."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tests.integration.harness import Harness, cluster_of, harness_at, steps_of
from tests.sampling import in_turn
from tests.waiting import PATIENCE
from tests.windows.judge import FAMILY, half_written, not_joined
from tests.windows.machines import EXE, MEMBERS, SERVICE, Farm, WindowsMachine
from workers.records import Status, Verdict

pytestmark = [pytest.mark.windows, pytest.mark.integration, pytest.mark.timeout(900)]

_PATIENCE = 2 * PATIENCE  #: seconds: what takes a moment on Windows takes long on Wine


def rolled_out(harness: Harness, cluster: Cluster) -> RunSummary:
    """The summary of a complete run."""
    return harness.finished(harness.start(cluster).id, _PATIENCE)


@pytest.fixture
def joined(farm: Farm, harness: Harness) -> Farm:
    """The machines after a rollout."""
    if not_joined(farm):
        rolled_out(harness, cluster_of(farm.lab))
    assert [] == not_joined(farm)
    return farm


@pytest.fixture
def untouched(farm: Farm) -> Farm:
    """The machines after the installation."""
    for machine in farm:
        machine.restore()
    return farm


@pytest.fixture
def hung(farm: Farm) -> Iterator[WindowsMachine]:
    """P1, with a service that ignores a stop."""
    machine = farm.machines["P1"]
    machine.behave(stop="ignore")
    yield machine
    machine.behave()


def test_new_machines_are_joined(untouched: Farm, harness: Harness) -> None:
    """With one PowerShell start and one restart per machine; replaced files are kept."""
    starts = untouched.starts()
    before = {machine.name: untouched.lab.report(machine.name) for machine in untouched}
    done = rolled_out(harness, cluster_of(untouched.lab))
    assert (Verdict.JOINED, []) == (done.record.verdict, not_joined(untouched)), done.record.summary
    assert [] == half_written(untouched)
    assert {name: count + 1 for name, count in starts.items()} == untouched.starts()
    for machine in untouched:
        cost = since(before[machine.name], untouched.lab.report(machine.name))
        assert cost["powershell_starts"] <= 1  # 0 if an earlier test left a session open
        assert cost["round_trips"] <= 30
        kept = machine.at(rf"C:\ProgramData\esync-rollout\{done.record.id}\manifest.jsonl")
        assert "web.config" in kept.read_text()


def since(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """The differences of the WinRM counters of a machine."""
    return {name: after[name] - before[name] for name in ("powershell_starts", "round_trips")}


def test_a_second_run_changes_and_restarts_nothing(joined: Farm, harness: Harness) -> None:
    """Every step is unchanged, no file of the product is written, and no service starts again."""
    starts, stamps = joined.starts(), written(joined)
    before = {machine.name: joined.lab.report(machine.name) for machine in joined}
    done = rolled_out(harness, cluster_of(joined.lab))
    assert (Verdict.JOINED, {Status.UNCHANGED}) == (done.record.verdict, {o.status for o in done.outcomes})
    assert (starts, stamps) == (joined.starts(), written(joined))
    costs = [since(before[machine.name], joined.lab.report(machine.name)) for machine in joined]
    assert max(cost["round_trips"] for cost in costs) <= 16


def written(farm: Farm) -> dict[str, float]:
    """The last write time of each file of the product."""
    files = (path for machine in farm for path in machine.files())
    return {str(path): path.stat().st_mtime for path in files}


def test_one_changed_key_is_repaired_on_that_machine_only(joined: Farm, harness: Harness) -> None:
    """Only that machine is changed, and restarted once."""
    config = joined.machines["P1"].at(rf"{SERVICE}\{EXE}.exe.config")
    config.write_bytes(re.sub(rb'(S1_SyncClient.cer" encodedValue=")....', rb"\1AAAA", config.read_bytes()))
    assert not_joined(joined)
    starts = joined.starts()
    done = rolled_out(harness, cluster_of(joined.lab))
    assert (Verdict.JOINED, []) == (done.record.verdict, not_joined(joined))
    assert {"P1"} == {o.node for o in done.outcomes if o.status is Status.CHANGED}
    assert starts | {"P1": starts["P1"] + 1} == joined.starts()


@in_turn(0, 3, "trouble on nearly-Windows machines")
def test_a_service_that_never_stops(untouched: Farm, hung: WindowsMachine, harness: Harness) -> None:
    """The step fails at its deadline, the other machines succeed; after a repair, a later run changes only that one."""
    starts = untouched.starts()
    cluster = cluster_of(untouched.lab)
    short = cluster.policy.deadlines.model_copy(update={"service": 3.0}).model_dump()
    done = rolled_out(harness, cluster_of(untouched.lab, deadlines=short))
    failed = steps_of(done, hung.name)["service_restart"]
    assert (Verdict.FAILED, Status.FAILED, "timeout") == (done.record.verdict, failed.status, failed.slug)
    assert "stop_pending after 3" in failed.message
    assert hung.name in failed.remedy
    assert all(problem.startswith(f"{hung.name}: ") for problem in not_joined(untouched))
    assert {"S1": starts["S1"] + 1, "P1": starts["P1"]} == untouched.starts()

    hung.repair_service()
    starts = untouched.starts()
    healed = rolled_out(harness, cluster)
    assert (Verdict.JOINED, []) == (healed.record.verdict, not_joined(untouched)), healed.record.summary
    assert {hung.name} == {o.node for o in healed.outcomes if o.status is Status.CHANGED}
    assert starts | {hung.name: starts[hung.name] + 1} == untouched.starts()


@in_turn(1, 3, "trouble on nearly-Windows machines")
def test_powershell_killed_during_cert_copy(untouched: Farm, harness: Harness) -> None:
    """Written files are complete; the same run continues, and the service is restarted once."""
    machine, starts = untouched.machines["P1"], untouched.starts()
    run = harness.start(cluster_of(untouched.lab)).id
    there = killed_while_it_copies(machine, run)
    assert 0 < len(there) < len(MEMBERS) * len(FAMILY)
    assert [] == [path for path in half_written(untouched) if ".esync-" not in path]
    done = harness.finished(run, _PATIENCE)
    assert (Verdict.JOINED, []) == (done.record.verdict, not_joined(untouched)), done.record.summary
    assert [] == half_written(untouched)
    assert {name: count + 1 for name, count in starts.items()} == untouched.starts()


def killed_while_it_copies(machine: WindowsMachine, run: str) -> list[Path]:
    """Kills PowerShell as soon as the service's folder has a file of the family; returns those it has."""
    folder, backup = machine.at(SERVICE), machine.at(rf"C:\ProgramData\esync-rollout\{run}")
    wait_until(backup.exists)  # config_edit has begun
    victims = [process.pid for process in machine.processes("pwsh.exe")]

    def there() -> list[Path]:
        return [path for path in folder.glob("*_Sync*") if ".esync-" not in path.name]

    wait_until(lambda: bool(there()), pause=0.001)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return there()


def wait_until(look: Callable[[], bool], pause: float = 0.01) -> None:
    """Waits until the condition is true."""
    until = time.monotonic() + _PATIENCE
    while not look():
        assert time.monotonic() < until
        time.sleep(pause)


@in_turn(2, 3, "trouble on nearly-Windows machines")
def test_a_worker_killed_during_a_run(untouched: Farm, tmp_path: Path) -> None:
    """A new worker completes the run; no service is restarted twice."""
    starts = untouched.starts()
    with harness_at(tmp_path / "harness") as harness:
        run = harness.start(cluster_of(untouched.lab)).id
        wait_until(lambda: any(o.step == "cert_copy" for o in harness.engine.store.outcomes(run)))
        harness.kill_worker()
        harness.start_worker()
        done = harness.finished(run, _PATIENCE)
    assert (Verdict.JOINED, []) == (done.record.verdict, not_joined(untouched)), done.record.summary
    assert [] == half_written(untouched)
    assert {name: count + 1 for name, count in starts.items()} == untouched.starts()
