"""`esync runs`: the list of runs. It loads little: people call it often."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    notify,
    print_json,
    stdout_width,
)
from pipelines.engine import Engine
from pipelines.local.reading import engine_only, start_of_worker
from pipelines.report.runs_text import run_lines
from pipelines.usecases.doing import steered
from pipelines.usecases.listing import row_of, runs_of
from pipelines.usecases.waiting import waiting_since, waiting_text
from tasks.ektron.wording import counted
from workers.errors import RecordRefused
from workers.records import RunRecord, now
from workers.settings import load_settings

if TYPE_CHECKING:  # most lists are of all clusters
    from tasks.cluster import Cluster

__all__ = ["ClusterFiles", "Limit", "clusters_of", "no_runs", "runs", "waits_of"]


ClusterFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE]...", help="Only those of these clusters: files, or folders.", show_default=False, readable=False
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)]


def runs(files: ClusterFiles = None, *, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the newest runs, newest first."""
    refused: list[RecordRefused] = []
    clusters = clusters_of(files) if files else ()
    with engine_only(load_settings()) as engine:
        store = engine.store
        records = runs_of(store, clusters, limit, refused.append) if files else store.runs(limit, refused.append)
        waits, doing = waits_of(engine, records), steered(store, records)
    if refused:
        notify(f"{counted(len(refused), 'run')} cannot be read:", "magenta")
        for error in refused:
            notify(f"  {error.run}: {error.message}", "magenta")
    if as_json:
        rows = [row_of(record, waits.get(record.id, ""), doing.get(record.id, "")) for record in records]
        print_json([row.model_dump(mode="json") for row in rows])
        return
    for line in run_lines(records, now(), doing, stdout_width()):
        typer.echo(line)
    for run_id, text in waits.items():
        notify(f"run {run_id}: {text}", "magenta")
    if not records and not refused:
        notify(no_runs(of_clusters=bool(files)))


def no_runs(*, of_clusters: bool) -> str:
    """That a list is empty."""
    return f"there are no runs {'of these clusters' if of_clusters else 'yet'}"


def clusters_of(files: Sequence[Path]) -> "Sequence[Cluster]":
    """The clusters of these files; one that cannot be used is named, and left out."""
    from pipelines.cli.files import Source, load_usable  # noqa: PLC0415 - see above

    found = load_usable(files)
    for one in found:
        if not isinstance(one, Source):
            notify(f"{one.file.name}: {one.why}", "magenta")
    return [one.cluster for one in found if isinstance(one, Source)]


def waits_of(engine: Engine, records: Sequence[RunRecord]) -> dict[str, str]:
    """The runs that wait for a worker: id -> since when, and how to start one."""
    settings = load_settings()
    return {
        run_id: waiting_text(missing, start_of_worker(settings, run_id, site=missing.site))
        for run_id, missing in waiting_since(engine, records).items()
    }
