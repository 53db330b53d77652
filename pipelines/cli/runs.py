"""`esync runs`: the list of runs. It loads little: people call it often."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    notify,
    print_json,
)
from pipelines.engine import Engine
from pipelines.local.reading import engine_only, start_of_worker
from pipelines.report.runs_text import run_lines
from pipelines.usecases.listing import row_of
from pipelines.usecases.waiting import waiting_since, waiting_text
from tasks.ektron.wording import counted
from workers.errors import RecordRefused
from workers.records import RunRecord, now
from workers.settings import load_settings

__all__ = ["runs", "waits_of"]


def runs(
    *, limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20, as_json: AsJson = False
) -> None:
    """List the newest runs, newest first."""
    refused: list[RecordRefused] = []
    with engine_only(load_settings()) as engine:
        records = engine.store.runs(limit, refused.append)
        waits = waits_of(engine, records)
    if refused:
        notify(f"{counted(len(refused), 'run')} cannot be read:", "magenta")
        for error in refused:
            notify(f"  {error.run}: {error.message}", "magenta")
    if as_json:
        print_json([row_of(record, waits.get(record.id, "")).model_dump(mode="json") for record in records])
        return
    for line in run_lines(records, now()):
        typer.echo(line)
    for run_id, text in waits.items():
        notify(f"run {run_id}: {text}", "magenta")
    if not records and not refused:
        typer.echo("there are no runs yet", err=True)


def waits_of(engine: Engine, records: Sequence[RunRecord]) -> dict[str, str]:
    """The runs that wait for a worker: id -> since when, and how to start one."""
    settings = load_settings()
    return {
        run_id: waiting_text(missing, start_of_worker(settings, run_id, site=missing.site))
        for run_id, missing in waiting_since(engine, records).items()
    }
