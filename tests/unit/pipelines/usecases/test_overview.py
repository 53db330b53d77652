"""What is known of a cluster from its runs."""

from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.usecases.overview import overview_with
from tests.browser.invented import engine_in_memory, keep
from tests.unit.pipelines.report.sample_run import cluster_of, sample
from workers.records import Verdict


@pytest.mark.parametrize(("kind", "counts"), [("rollout", True), ("verify", False)])
def test_a_run_on_selected_servers_proves_the_cluster_if_it_verifies_all(
    kind: str,
    counts: bool,  # noqa: FBT001 - a parameter
    tmp_path: Path,
) -> None:
    """A rollout of them does, such as a retry; a verify of them does not."""
    engine, cluster = engine_in_memory(tmp_path), cluster_of()
    keep(engine, sample(), "20261120-101500-shop", timedelta(days=2))
    keep(engine, sample(verdict=Verdict.JOINED), "20261120-111500-shop", kind=kind, only=("P1",))
    records = engine.store.runs()
    known = overview_with(engine, "shop", cluster, records)
    newest = max(record.ended for record in records if record.ended)
    assert counts == (known.proven == newest)
    assert Verdict.JOINED is known.verdict
