"""A worker that was stopped until its lease expired changes nothing afterwards."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import SITE, cluster_of, four_servers, harness_at, on_disk
from tests.waiting import PATIENCE, wait_until
from tests.warm import WarmProcess
from workers.records import Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def hold_up(lab: LabProcess, node: str, path: str) -> None:
    """The first write of that file finds it locked, so that the step reads it again; each message is slow from then on.

    Without it the step writes what the check before it has read.
    """
    write = {"operation": "write", "target": path}
    locked = {"at": write, "faults": {"locked": [path]}, "seconds": 0.5}
    lab.break_node(node, later=[locked, {"at": write, "faults": {"latency_ms": 2000}}])


def wait_for_read(lab: LabProcess, node: str) -> None:
    """Waits until the node has read a file for the held up step; the answer is still on its way then."""
    wait_until(lambda: lab.report(node)["begun"] == 2)
    reads = lab.report(node)["operations"]["read"]
    wait_until(lambda: lab.report(node)["operations"]["read"] > reads)


def end(worker: subprocess.Popen[bytes] | WarmProcess) -> None:
    """Ends a worker that may be stopped."""
    worker.send_signal(signal.SIGCONT)
    worker.kill()
    worker.wait(PATIENCE)


def test_a_late_writer_changes_nothing(tmp_path: Path, lab: LabProcess) -> None:
    """A worker is stopped between reading and writing; resumed, it finds the same bytes there, and must not write.

    tests/unit/tasks/test_fence.py proves that the node refuses a request that was sent just before the stop.
    """
    path = rf"{SITE}\AssetManagement.config"
    asset = on_disk(lab, "P2", path)
    before = asset.read_bytes()
    hold_up(lab, "P2", path)
    with harness_at(tmp_path / "harness") as harness:
        run = harness.start(cluster_of(lab)).id
        sleeper = harness.worker
        assert sleeper is not None
        wait_for_read(lab, "P2")
        assert before == asset.read_bytes()
        sleeper.send_signal(signal.SIGSTOP)
        try:
            lab.heal("P2")
            harness.start_worker()
            assert harness.finished(run).record.verdict is Verdict.JOINED
            assert before != asset.read_bytes()
            before_it_goes_on = lab.report("P2")["round_trips"]
            asset.write_bytes(before)
            sleeper.send_signal(signal.SIGCONT)
            wait_until(lambda: lab.report("P2")["round_trips"] > before_it_goes_on, harness.log)
            time.sleep(1)
            assert before == asset.read_bytes()
        finally:
            end(sleeper)
