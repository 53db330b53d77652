"""The verbs that look at a run: status, watch. What follows a run is loaded by those that follow one."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.cli.console import (
    AsJson,
    CommandExit,
    RunId,
    Verbose,
    notify,
    print_json,
    print_text,
    stderr_console,
    stdout_console,
)
from pipelines.cli.results import exit_status, find_run, finish, is_active, print_result
from pipelines.cli.runs import waits_of
from pipelines.engine import Engine
from pipelines.local.reading import engine_only
from pipelines.local.state import command_here
from pipelines.report.build import build
from pipelines.report.rows import Report
from pipelines.report.runs_text import run_lines
from pipelines.run.waves import ends_by_itself
from pipelines.usecases import run_views
from pipelines.usecases.listing import steered
from pipelines.usecases.updates import progress_of
from tasks.steering import verb_for_held
from workers.errors import InputRefused
from workers.records import RunRecord, now
from workers.settings import load_settings

__all__ = ["status", "watch"]


RunIds = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs as in other commands, or `last`.")]


def _status_of_several(runs: Sequence[str], *, as_json: bool) -> None:
    with engine_only(load_settings()) as engine:
        records = [find_run(engine, run) for run in runs]
        doing = steered(engine.store, records)
        states = [run_views.status(engine, record.id) for record in records] if as_json else []
    if as_json:
        print_json([state.model_dump(mode="json") for state in states])
        return
    for line in run_lines(records, now(), doing):
        typer.echo(line)


def status(
    run: RunIds = None,
    *,
    until_end: Annotated[bool, typer.Option("--follow", "-f", help="Follow to the end; exit by the verdict.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a run; of several a line each."""
    first, *others = run or ["last"]
    if others:
        if until_end:
            raise InputRefused("several runs cannot be followed together", remedy="esync watch RUN")
        _status_of_several([first, *others], as_json=as_json)
        return
    with engine_only(load_settings()) as engine:
        record = find_run(engine, first)
        if until_end and is_active(record):
            report = _followed(engine, record, verbose=verbose)
            known = run_views.summary(engine, record.id)
        else:
            known = run_views.summary(engine, record.id)
            report = build(known)
            if not as_json:
                from pipelines.cli.picture import draw  # noqa: PLC0415 - programs need none

                shown = stdout_console()
                shown.print(draw(progress_of(engine.store, record), shown))
                print_result(report, shown, verbose=verbose)
        waits = waits_of(engine, [engine.store.run(record.id)])
        current = run_views.status_of(engine, known).model_copy(update={"waiting": waits.get(record.id, "")})
    if as_json:
        print_json(current.model_dump(mode="json"))
    elif current.paused:
        print_text(stdout_console(), f"PAUSED: {current.paused}; to continue: esync resume {current.run}", "magenta")
    elif current.held:
        verb = verb_for_held(unapproved=current.unapproved)
        by_itself = "" if current.unapproved else ends_by_itself(known.cluster, current.held)
        text = f"HELD before {current.held}; to let it begin: esync {verb} {current.run}"
        print_text(stdout_console(), f"{text}; it {by_itself}" if by_itself else text, "magenta")
    elif current.cancelling:
        print_text(stdout_console(), f"stopping: {current.cancelling}", "magenta")
    if current.waiting and not as_json:
        print_text(stdout_console(), current.waiting, "magenta")
    raise CommandExit(exit_status(report) if until_end else 0)


def watch(run: RunId = "last", *, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Follow a run to its end; exit by its verdict. If its worker stopped with its command, start a new worker."""
    settings = load_settings()
    with engine_only(settings) as engine:
        record = find_run(engine, run)
        without_worker = is_active(record) and not settings.broker_url and not command_here(settings.state)
        report = None if without_worker else _followed(engine, record, verbose=verbose)
    if report is None:
        from pipelines.cli.follow import follow, workers_for  # noqa: PLC0415 - see above

        with workers_for("watch") as services:
            notify(f"the worker of run {record.id} is gone; a new worker continues the run within a minute")
            report = follow(services, record, stderr_console(), verbose=verbose)
    finish(report, as_json=as_json)


def _followed(engine: Engine, record: RunRecord, *, verbose: bool) -> Report:
    """The report of a run at its end, until which it is shown."""
    from pipelines.cli.follow import follow  # noqa: PLC0415 - see above
    from pipelines.local.provided import Running  # noqa: PLC0415 - the same

    return follow(Running(engine), record, stderr_console(), verbose=verbose)
