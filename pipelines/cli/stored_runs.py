"""Runs in the run store, as `esync status` and `esync watch` of several look at them; `server_runs` has a server's."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.cli.board import StoredRows
from pipelines.cli.console import notify
from pipelines.cli.results import find_run, report_of
from pipelines.cli.runs import waits_of
from pipelines.engine import Engine
from pipelines.report.rows import Report
from pipelines.usecases import run_views
from pipelines.usecases.listing import newest_runs, runs_of_group
from pipelines.usecases.status import RunStatus
from workers.errors import RecordRefused
from workers.records import RunRecord

if TYPE_CHECKING:  # most people name runs
    from tasks.cluster import Cluster

__all__ = ["StoredRuns"]


class StoredRuns(StoredRows):
    """A `RunSource`: the store of this installation."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.store)
        self._engine = engine

    def record(self, run: str) -> RunRecord:
        """See RunSource."""
        return self._engine.store.run(run)

    def named(self, name: str) -> RunRecord:
        """See RunSource."""
        return find_run(self._engine, name)

    def of_group(self, group: str) -> Sequence[str]:
        """See RunSource."""
        return runs_of_group(self._engine.store, group)

    def newest(self, clusters: "Sequence[Cluster]") -> Sequence[RunRecord | None]:
        """See RunSource; a record that cannot be read is reported."""
        refused: list[RecordRefused] = []
        found = newest_runs(self._engine.store, clusters, refused.append)
        for error in refused:
            notify(f"run {error.run} cannot be read: {error.message}", "magenta")
        return found

    def waits(self, records: Sequence[RunRecord]) -> Mapping[str, str]:
        """See RunSource."""
        return waits_of(self._engine, records)

    def status(self, run: str) -> RunStatus:
        """See RunSource; `waiting` is not asked for."""
        return run_views.status(self._engine, run)

    def report(self, record: RunRecord) -> Report:
        """See RunSource."""
        return report_of(self._engine, record)
