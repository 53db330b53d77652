"""Runs as the verbs need them: find one, start one, follow it to its end, and print the result."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from pipelines.cli.console import (
    CommandExit,
    confirm,
    notify,
    print_text,
    require_consent,
    stderr_console,
)
from pipelines.cli.live import show_run
from pipelines.cluster_file.loader import load_cluster
from pipelines.engine import Engine
from pipelines.local.reading import start_of_worker
from pipelines.local.services import Running, engine_with_worker
from pipelines.report.build import build
from pipelines.report.closing import closing_lines
from pipelines.report.html import to_html
from pipelines.report.layout import TEXT_WIDTH, printable
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.report.styles import IN_PROGRESS, VERDICT_STYLES
from pipelines.report.text import result_blocks
from pipelines.rollout import kind_of
from pipelines.run.identity import of_cluster
from pipelines.usecases import runs
from pipelines.usecases.naming import LAST, is_file, newest_run, run_named
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.updates import RunUpdate, updates_of
from pipelines.usecases.waiting import Attendance, has_work, missing_workers, waiting_text
from tasks.cluster import Cluster
from workers.errors import ServiceLost
from workers.host.private import make_folder, write_private
from workers.records import RunRecord, RunState, Verdict
from workers.settings import load_settings

__all__ = [
    "exit_status",
    "find_run",
    "finish",
    "follow",
    "follow_progress",
    "followed",
    "has_plan",
    "is_active",
    "pretty",
    "print_result",
    "report_of",
    "run_and_exit",
    "start_and_follow",
    "workers_for",
    "write_report",
]

RECENT = 200  #: runs among which the name of a cluster is searched


def workers_for(kind: str, *, flower: bool = False) -> AbstractContextManager[Running]:
    """An engine with workers, for a command of that kind. See `engine_with_worker` for the errors."""
    return engine_with_worker(load_settings(), notify, kind=kind, flower=flower)


def is_active(record: RunRecord) -> bool:
    """Whether a run has not ended."""
    return record.state is not RunState.CONCLUDED


def find_run(
    engine: Engine, name: str, fits: Callable[[RunRecord], bool] | None = None, what: str = "run"
) -> RunRecord:
    """The run of that id, or the newest one of a cluster; never one that was refused because its servers were locked.

    Args:
        engine: where to search.
        name: an id; a cluster file, or the name of a cluster; or `last`. Where there are several clusters, `last` is
            refused if `fits` is given: what a command changes should be meant.
        fits: the runs that may be selected; a run named by its id need not fit.
        what: the noun for those runs.

    Raises:
        RunUnknown: there is no such run.
        InputRefused: it is not clear which cluster is meant, or the cluster file has mistakes.
    """
    if name == LAST:
        return newest_run(engine, name, fits or (lambda _: True), what, any_cluster=fits is None)
    target = load_cluster(Path(name)) if is_file(name) else name
    if isinstance(target, str) and not any(of_cluster(record, target) for record in engine.store.runs(RECENT)):
        return run_named(engine, name)
    return newest_run(engine, target, fits or (lambda _: True), what)


def report_of(engine: Engine, record: RunRecord) -> Report:
    """The report of a run in its current state."""
    return build(runs.summary(engine, record.id))


def run_and_exit(  # noqa: PLR0913 - options that commands share
    cluster: Cluster,
    kind: str,
    *,
    yes: bool = True,
    reason: str = "",
    key: str = "",
    folder: Path | None = None,
    as_json: bool = False,
    plan: SavedPlan | None = None,
    only: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    verbose: bool = False,
) -> NoReturn:
    """Starts a run, follows it to its end, and ends the command with its exit status.

    Without `yes` and without a plan, a plan is made and shown first, and the operator must confirm it.

    Raises:
        InputRefused: there is no terminal to ask on.
    """
    asks = plan is None and not yes
    if asks:
        require_consent(yes=False)
    people = stderr_console()
    with workers_for(kind) as services:
        if asks:
            plan = _confirmed_plan(services, cluster, people, kind_of(kind).plan, reason, only, options)
        report = start_and_follow(
            services,
            cluster,
            people,
            kind=kind,
            reason=reason,
            key=key,
            plan=plan,
            only=only,
            options=options,
            verbose=verbose,
        )
    finish(report, folder, as_json=as_json)


def _confirmed_plan(
    services: Running,
    cluster: Cluster,
    people: Console,
    kind: str,
    reason: str,
    only: tuple[str, ...],
    options: tuple[str, ...],
) -> SavedPlan:
    """The plan that was shown to the operator and confirmed."""
    notify("making the plan first; nothing is changed before you confirm it")
    planned = start_and_follow(services, cluster, people, kind=kind, reason=reason, only=only, options=options)
    if not has_plan(planned):
        raise CommandExit(exit_status(planned))
    saved = runs.saved_plan(services.engine, planned.run)
    notify("\n" + "\n".join(plan_lines(cluster, saved.plan, saved.only)))
    confirm(yes=saved.plan.empty)
    return saved


def has_plan(report: Report) -> bool:
    """Whether a run of kind `plan` made a plan."""
    return bool(report.plan)


def start_and_follow(  # noqa: PLR0913 - options that commands share
    services: Running,
    cluster: Cluster,
    people: Console,
    *,
    kind: str = "rollout",
    reason: str = "",
    key: str = "",
    plan: SavedPlan | None = None,
    only: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    verbose: bool = False,
) -> Report:
    """Starts a run and follows it to its end. See `follow` for the errors."""
    record = runs.start(
        services.engine, cluster, plan=plan, kind=kind, reason=reason, key=key, only=only, options=options
    )
    print_text(people, f"run {record.id}")
    return follow(services, record, people, verbose=verbose)


def follow(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> Report:
    """Follows a run to its end, then prints the result. See `followed` for the errors."""
    report = followed(services, record, people, verbose=verbose)
    print_result(report, people, verbose=verbose)
    return report


def followed(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> Report:
    """Follows a run to its end.

    Raises:
        KeyboardInterrupt: the operator pressed Ctrl-C; the effect on the run has been printed.
        ServiceLost: the worker or broker failed again and again; the run is unfinished.
    """
    try:
        follow_progress(services, record, people, verbose=verbose)
    except KeyboardInterrupt:
        print_text(people, _on_interrupt(services, record.id), "magenta")
        raise
    return report_of(services.engine, record)


def follow_progress(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> None:
    """Shows a run until it has ended, as long as its workers can work.

    Raises:
        ServiceLost: the worker or broker failed again and again; the run is unfinished.
    """
    engine, updates = services.engine, updates_of(services.engine.store, record.id)
    own = services.logs if services.own else None
    last, newest = record.created, record

    def checked(after: str) -> RunUpdate:
        nonlocal last, newest
        services.check()
        update = updates(after)
        newest = update.record
        last = update.events[-1].at if update.events else last
        missing = attendance.missing_since(last)
        if missing is None or not has_work(engine, newest):
            return update
        start = start_of_worker(load_settings(), record.id, own, stays=True, site=missing.site)
        return update._replace(waiting=waiting_text(missing, start))

    try:
        with Attendance(lambda: missing_workers(engine, newest)) as attendance:
            show_run(checked, people, verbose=verbose)
    except ServiceLost as error:
        error.remedy += f"; run {record.id} is unfinished, continue it afterwards: esync watch {record.id}"
        raise


def _on_interrupt(services: Running, run_id: str) -> str:
    if services.own == "demo":
        return "\nstopping the demo"
    if services.own:
        return (
            "\nThe worker stops with this command. Nodes finish their current step; every file stays whole.\n"
            f"To continue the run with a new worker: esync watch {run_id}"
        )
    return (
        "\nThis command stops; the run continues.\n"
        f"To watch it: esync watch {run_id}; to stop it: esync cancel {run_id}"
    )


def print_result(
    report: Report, console: Console, *, verbose: bool = False, commands: Sequence[str] | None = None
) -> None:
    """Prints the end of the run on one screen; before that, if `verbose`, every finding and cause in full.

    Args:
        report: of the run.
        console: where to print.
        verbose: see above.
        commands: what to do next, instead of what follows from the run.
    """
    style = VERDICT_STYLES[Verdict(report.verdict)] if report.verdict else IN_PROGRESS
    kind = kind_of(report.kind, report.run)
    width = console.width if console.is_terminal else TEXT_WIDTH
    blocks = result_blocks(report, attestations=kind.asks and kind.read_only, width=width) if verbose else []
    for lines in filter(None, blocks):
        print_text(console, "\n" + "\n".join(lines))
    headline, *rest = closing_lines(report, width, commands)
    print_text(console, f"\n{headline}", style.colour)
    for line in rest:  # wrapped already
        console.print(Text(printable(line)), soft_wrap=True)


def finish(report: Report, folder: Path | None = None, *, as_json: bool = False) -> NoReturn:
    """Writes the report into a folder or to stdout as requested, and ends the command with the run's exit status."""
    if folder is not None:
        notify(f"report: {write_report(report, folder)}")
    if as_json:
        typer.echo(pretty(report), nl=False)
    raise CommandExit(exit_status(report))


def pretty(report: Report) -> str:
    """A report as indented JSON."""
    return report.model_dump_json(indent=2) + "\n"


def exit_status(report: Report) -> int:
    """The exit status of a report; a run without a verdict is inconclusive."""
    return Verdict.INCONCLUSIVE.exit_code if report.exit_code is None else report.exit_code


def write_report(report: Report, folder: Path) -> Path:
    """Writes the report as HTML and JSON; returns the HTML file.

    Raises:
        FileTrouble: the folder cannot be written to.
    """
    page = make_folder(folder) / f"esync-report-{report.run}.html"
    write_private(page, to_html(report))
    write_private(page.with_suffix(".json"), pretty(report))
    return page
