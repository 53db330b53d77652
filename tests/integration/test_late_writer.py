"""A writer that slept through the end of its lease changes nothing any more."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, on_disk, rig_at
from workers.records import Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def wait_for_start(harness: Harness, run: str, node: str, step: str) -> None:
    """Waits until a worker has begun that step of that node in its wave."""
    until = time.monotonic() + 90
    while not any(
        (event.kind, event.node, event.step) == ("step.started", node, step)
        for event in harness.engine.store.events(run)
    ):
        assert time.monotonic() < until
        time.sleep(0.01)


def end(worker: subprocess.Popen[bytes]) -> None:
    """Ends a worker that may be asleep."""
    worker.send_signal(signal.SIGCONT)
    worker.kill()
    worker.wait(5)


def test_a_late_writer_changes_nothing(tmp_path: Path, lab: LabProcess) -> None:
    """A worker sleeps between reading and writing; what it read is put back; awake again, it looks, and must not write.

    That the node itself refuses who had asked just before he slept, tests/unit/tasks/test_fence.py proves.
    """
    asset = on_disk(lab, "P2", rf"{SITE}\AssetManagement.config")
    before = asset.read_bytes()
    lab.break_node("P2", latency_ms=400)
    with rig_at(tmp_path / "rig") as harness:
        run = harness.start(cluster_of(lab)).id
        wait_for_start(harness, run, "P2", "config_edit")
        sleeper = harness.worker
        assert sleeper is not None
        time.sleep(0.6)
        sleeper.send_signal(signal.SIGSTOP)
        try:
            lab.heal("P2")
            harness.start_worker()
            assert harness.finished(run).record.verdict is Verdict.JOINED
            assert before != asset.read_bytes()
            looked = lab.report("P2")["operations"]["read"]
            asset.write_bytes(before)
            sleeper.send_signal(signal.SIGCONT)
            until = time.monotonic() + 30
            while lab.report("P2")["operations"]["read"] == looked:
                assert time.monotonic() < until, f"the sleeper never looked again\n{harness.log()[-3000:]}"
                time.sleep(0.05)
            time.sleep(1)
            assert before == asset.read_bytes()
        finally:
            end(sleeper)
