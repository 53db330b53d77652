"""A worker that was stopped until its lease expired changes nothing afterwards."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.waiting import PATIENCE, wait_until
from tests.warm import WarmProcess
from workers.records import Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def wait_for_start(harness: Harness, run: str, node: str, step: str) -> None:
    """Waits until a worker has begun that step of that node in its wave."""
    store, begun = harness.engine.store, ("step.started", node, step)
    wait_until(lambda: any((event.kind, event.node, event.step) == begun for event in store.events(run)))


def wait_for_read(lab: LabProcess, node: str) -> None:
    """Waits until the node has read a file for a worker; the answer is still on its way then, for a few seconds."""
    reads = lab.report(node)["operations"]["read"]
    lab.break_node(node, latency_ms=4000)
    wait_until(lambda: lab.report(node)["operations"]["read"] > reads)


def end(worker: subprocess.Popen[bytes] | WarmProcess) -> None:
    """Ends a worker that may be stopped."""
    worker.send_signal(signal.SIGCONT)
    worker.kill()
    worker.wait(PATIENCE)


def test_a_late_writer_changes_nothing(tmp_path: Path, lab: LabProcess) -> None:
    """A worker is stopped between reading and writing; resumed, it reads the same bytes again, and must not write.

    tests/unit/tasks/test_fence.py proves that the node refuses a request that was sent just before the stop.
    """
    asset = on_disk(lab, "P2", rf"{SITE}\AssetManagement.config")
    before = asset.read_bytes()
    lab.break_node("P2", latency_ms=400)
    with harness_at(tmp_path / "harness") as harness:
        run = harness.start(cluster_of(lab)).id
        wait_for_start(harness, run, "P2", "config_edit")
        sleeper = harness.worker
        assert sleeper is not None
        wait_for_read(lab, "P2")
        sleeper.send_signal(signal.SIGSTOP)
        try:
            lab.heal("P2")
            harness.start_worker()
            assert harness.finished(run).record.verdict is Verdict.JOINED
            assert before != asset.read_bytes()
            looked = lab.report("P2")["operations"]["read"]
            asset.write_bytes(before)
            sleeper.send_signal(signal.SIGCONT)
            wait_until(lambda: lab.report("P2")["operations"]["read"] > looked, harness.log)
            time.sleep(1)
            assert before == asset.read_bytes()
        finally:
            end(sleeper)
