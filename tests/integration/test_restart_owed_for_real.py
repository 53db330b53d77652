"""Restart owed over a real network, with real worker processes and a real store; see test_restart_owed.py."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import pytest

from lab.control.remote import LabProcess, spare_addresses
from pipelines.usecases import control
from tests.integration.harness import FOUR, Harness, cluster_of, four_servers, harness_at, steps_of
from tests.integration.restart_deaths import SITE, WHY
from tests.integration.test_rollout import SERVICE, assert_joined
from tests.sampling import rotated
from tests.waiting import wait_until
from tests.warm import warm_lab
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration

CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"


def many_servers(folder: Path, count: int) -> AbstractContextManager[LabProcess]:
    """Untouched servers with disks in memory."""
    return warm_lab(folder, "--nodes", str(count), "--disk", "memory", "--address", spare_addresses())


def changed_at(lab: LabProcess, node: str) -> datetime:
    """The last change of anything that the service reads at its start."""
    folder, *files = lab.agent(
        node,
        {"op": "list", "path": SERVICE},
        {"op": "stat", "path": CONFIG},
        {"op": "stat", "path": rf"{SITE}\AssetManagement.config"},
    )
    inputs = [entry for entry in folder["entries"] if "_Sync" in entry["name"]]
    return max(datetime.fromisoformat(one["mtime"]) for one in (*inputs, *files))


def starts_since(lab: LabProcess, node: str) -> int:
    """Number of starts of its service since then."""
    changed = changed_at(lab, node)
    history = lab.report(node)["service"]["history"]
    return sum(1 for what, when in history if what == "start" and datetime.fromisoformat(when) > changed)


def boundaries(harness: Harness, folder: Path) -> range:
    """Number of operations of a node's agent before its first write, and before its last observation.

    Recorded in a run without a death, on a node that is not the origin.
    """
    with many_servers(folder, 2) as lab:
        assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
        done = [seen["operation"] for seen in lab.operations("P1") if seen["operation"].islower()]
    return range(done.index("write"), len(done) - done[::-1].index("clock") - 1)


def test_powershell_dies_before_every_operation(
    harness: Harness, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """In one run each node loses its PowerShell at a different operation; a retry restarts each service once."""
    found = boundaries(harness, tmp_path / "clean")
    assert len(found) >= 12
    points = [found[number] for number in rotated(len(found), 3, "deaths on the wire")]
    record_property("boundaries", len(points))
    with many_servers(tmp_path / "lab", len(points) + 1) as lab:
        cluster = cluster_of(lab, waves="all", max_failed=len(points), retries={"unreachable": 1})
        dying = dict(zip([name for name in cluster.node_names if name != cluster.origin], points, strict=True))
        for node, operations in dying.items():
            lab.break_node(node, dies_after_operations=operations)
        first = harness.rollout(cluster)
        assert set(dying) == {node.node for node in first.nodes if node.problem.slug == "session_lost"}
        before = {node: lab.report(node)["service"]["starts"] for node in dying}
        healed = harness.finished(control.retry(harness.engine, first.record.id).id)
        assert healed.record.verdict is Verdict.JOINED, healed.record.summary
        for node, starts in before.items():
            outcome = steps_of(healed, node).get("service_restart")  # none: the node needed nothing, and had no wave
            again = lab.report(node)["service"]["starts"] - starts
            changed = outcome is not None and outcome.status is Status.CHANGED
            assert (1, again == 1) == (starts_since(lab, node), changed)
            assert again == 0 or (outcome and WHY.fullmatch(outcome.message)), outcome
        history = {node: lab.report(node)["service"]["history"] for node in dying}
        assert {Status.UNCHANGED} == {node.status for node in harness.rollout(cluster).nodes}
        assert history == {node: lab.report(node)["service"]["history"] for node in dying}
    print(f"restart owed: {len(points)} boundaries on the wire")  # noqa: T201 - asked for


def wait_for(lab: LabProcess, node: str, happened: Callable[[dict[str, int]], bool]) -> None:
    """Waits until the counters of a machine meet the condition."""

    def met() -> bool:
        report = lab.report(node)
        return happened({**report["operations"], "stops": report["service"]["stops"]})

    wait_until(met)


def test_workers_die_between_edit_and_restart(tmp_path: Path) -> None:
    """Kill -9 after the edit, after the copy and between stop and start: the run ends joined, each restarted once."""
    with harness_at(tmp_path / "harness") as harness, four_servers(tmp_path / "lab") as lab:
        for node in FOUR:
            lab.break_node(node, latency_ms=30, service={"start_seconds": 0.4})
        run = harness.start(cluster_of(lab)).id
        for node, happened in (
            ("S1", lambda done: done.get("write", 0) > 0),
            ("S2", lambda done: done.get("spread", 0) > 0),
            ("P1", lambda done: done["stops"] > 0),
        ):
            wait_for(lab, node, happened)
            harness.kill_worker()
            harness.start_worker()
        done = harness.finished(run)
        assert done.record.verdict is Verdict.JOINED, done.record.summary
        assert {1} == {starts_since(lab, node) for node in FOUR}
        assert {1} == {lab.report(node)["service"]["stops"] for node in FOUR}
        assert_joined(lab, SERVICE, "30")
        history = {node: lab.report(node)["service"]["history"] for node in FOUR}
        assert {Status.UNCHANGED} == {node.status for node in harness.rollout(cluster_of(lab)).nodes}
        assert history == {node: lab.report(node)["service"]["history"] for node in FOUR}
