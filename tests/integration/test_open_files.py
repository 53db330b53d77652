"""A worker that may have only a few files open works on fewer nodes at a time, and on all of them."""

from pathlib import Path

import psutil
import pytest

from lab.control.remote import running_lab, spare_addresses
from tests.integration.harness import cluster_of, harness_at
from tests.sampling import EXHAUSTIVE
from workers.records import Verdict

pytestmark = pytest.mark.integration
NODES, LIMIT = (60, 90) if EXHAUSTIVE else (16, 80)


def test_more_nodes_than_files_may_be_open_are_joined(tmp_path: Path) -> None:
    """The limit cannot be raised: sessions that wait are closed for those that are needed, and the log says why."""
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
