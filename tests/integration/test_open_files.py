"""A worker with a low limit of open files works on fewer nodes in parallel, and on all of them."""

from pathlib import Path

import psutil
import pytest

from lab.control.remote import running_lab, spare_addresses
from tests.integration.harness import cluster_of, harness_at
from tests.sampling import EXHAUSTIVE
from workers.records import Verdict

pytestmark = pytest.mark.integration
NODES, LIMIT = (60, 90) if EXHAUSTIVE else (16, 80)


def test_more_nodes_than_open_files_are_joined(tmp_path: Path) -> None:
    """When the limit cannot be raised, idle sessions are closed for needed ones, and the log has the reason."""
    lab = running_lab(tmp_path / "lab", "--nodes", str(NODES), "--address", spare_addresses())
    with lab as servers, harness_at(tmp_path / "harness", worker=False, ESYNC_CONCURRENCY="32") as harness:
        harness.start_worker("prlimit", f"--nofile={LIMIT}:{LIMIT}")
        run = harness.start(cluster_of(servers))
        harness.wait_for_step(run.id, "config_edit")
        assert harness.worker is not None
        assert psutil.Process(harness.worker.pid).num_fds() < LIMIT
        assert harness.finished(run.id, timeout=150).record.verdict is Verdict.JOINED
        assert "limit of open files is too low" in harness.log()
        assert "Too many open files" not in harness.log()
