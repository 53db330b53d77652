"""A small cluster does not wait for a large one: both with one worker, at the same time."""

from pathlib import Path

import pytest

from lab.control.remote import spare_addresses
from tests.integration.harness import cluster_of, harness_at
from tests.warm import warm_lab
from workers.records import RunState, Verdict

pytestmark = pytest.mark.integration


def test_a_run_of_four_nodes_ends_while_a_run_of_many_is_in_progress(tmp_path: Path) -> None:
    """It starts later, and needs one thread of two for a moment only."""
    sizes = {"large": "16", "small": "4"}
    labs = {name: (tmp_path / name, ("--nodes", count, "--disk", "memory")) for name, count in sizes.items()}
    with (
        warm_lab(labs["large"][0], *labs["large"][1], "--address", spare_addresses()) as large,
        warm_lab(labs["small"][0], *labs["small"][1], "--address", spare_addresses()) as small,
        harness_at(tmp_path / "harness", ESYNC_CONCURRENCY="2") as harness,
    ):
        first = harness.start(cluster_of(large))
        harness.wait_for_step(first.id, "config_edit")
        second = harness.finished(harness.start(cluster_of(small)).id)
        assert Verdict.JOINED is second.record.verdict
        assert RunState.CONCLUDED is not harness.engine.store.run(first.id).state
        assert Verdict.JOINED is harness.finished(first.id).record.verdict
