"""The verbs that look at a run: status, watch. What follows a run is loaded by those that follow one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pipelines.cli.console import (
    AsJson,
    CommandExit,
    RunIds,
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
from pipelines.report.layout import by_itself
from pipelines.report.rows import Report
from pipelines.run.groups import is_group
from pipelines.usecases import run_views
from pipelines.usecases.updates import progress_of
from tasks.steering import verb_for_held
from workers.records import RunRecord
from workers.settings import load_settings

if TYPE_CHECKING:  # see below
    from pipelines.cli.several import Chosen
    from pipelines.local.provided import Running

__all__ = ["status", "watch"]


def status(
    run: RunIds = None,
    *,
    until_end: Annotated[bool, typer.Option("--follow", "-f", help="Follow to the end; exit by the verdict.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a run; of several a line each, failures first."""
    targets = run or ["last"]
    with engine_only(load_settings()) as engine:
        if several := _several(engine, targets):
            from pipelines.cli.several import show_several  # noqa: PLC0415 - seldom
            from pipelines.cli.stored_runs import StoredRuns  # noqa: PLC0415 - seldom

            if until_end:
                _watch_several(_beside_workers(engine), several, verbose=verbose, as_json=as_json)
            show_several(StoredRuns(engine), several, as_json=as_json)
            return
        record = find_run(engine, targets[0])
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
        alone = by_itself(current.begins_in)
        text = f"HELD before {current.held}; to let it begin: esync {verb} {current.run}"
        print_text(stdout_console(), f"{text}; it {alone}" if alone else text, "magenta")
    elif current.cancelling:
        print_text(stdout_console(), f"stopping: {current.cancelling}", "magenta")
    if current.waiting and not as_json:
        print_text(stdout_console(), current.waiting, "magenta")
    raise CommandExit(exit_status(report) if until_end else 0)


def watch(run: RunIds = None, *, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Follow runs to their end; exit by the worst verdict. If their worker stopped with its command, start one."""
    settings, targets = load_settings(), run or ["last"]
    with engine_only(settings) as engine:
        several = _several(engine, targets)
        records = [one.record for one in several if one.record] if several else [find_run(engine, targets[0])]
        without_worker = any(map(is_active, records)) and not settings.broker_url and not command_here(settings.state)
        if several and not without_worker:
            _watch_several(_beside_workers(engine), several, verbose=verbose, as_json=as_json)
        report = None if without_worker else _followed(engine, records[0], verbose=verbose)
    if report is None:
        from pipelines.cli.follow import follow, workers_for  # noqa: PLC0415 - see above

        with workers_for("watch") as services:
            if several:
                notify("the worker of these runs is gone; a new worker continues them within a minute")
                _watch_several(services, several, verbose=verbose, as_json=as_json)
            notify(f"the worker of run {records[0].id} is gone; a new worker continues the run within a minute")
            report = follow(services, records[0], stderr_console(), verbose=verbose)
    finish(report, as_json=as_json)


def _several(engine: Engine, targets: Sequence[str]) -> "list[Chosen]":
    """The runs, if the targets stand for a list; else none."""
    if len(targets) == 1 and not (Path(targets[0]).is_dir() or is_group(targets[0])):
        return []
    from pipelines.cli.several import chosen  # noqa: PLC0415 - seldom
    from pipelines.cli.stored_runs import StoredRuns  # noqa: PLC0415 - seldom

    return chosen(StoredRuns(engine), targets)


def _watch_several(services: "Running", several: "Sequence[Chosen]", *, verbose: bool, as_json: bool) -> NoReturn:
    from pipelines.cli.group import follow_all, what_continues  # noqa: PLC0415 - seldom
    from pipelines.cli.several import Follow, watch_several  # noqa: PLC0415 - seldom
    from pipelines.cli.stored_runs import StoredRuns  # noqa: PLC0415 - seldom

    follow = Follow(
        lambda records, called: follow_all(services, records, called, stderr_console()),
        lambda records: what_continues(services, records),
    )
    watch_several(StoredRuns(services.engine), several, follow, verbose=verbose, as_json=as_json)


def _beside_workers(engine: Engine) -> "Running":
    from pipelines.local.provided import Running  # noqa: PLC0415 - see above

    return Running(engine)


def _followed(engine: Engine, record: RunRecord, *, verbose: bool) -> Report:
    """The report of a run at its end, until which it is shown."""
    from pipelines.cli.follow import follow  # noqa: PLC0415 - see above

    return follow(_beside_workers(engine), record, stderr_console(), verbose=verbose)
