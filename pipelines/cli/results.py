"""Runs as the verbs need them: find one, print its result, write its report, exit by its verdict."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from pipelines.cli.console import CommandExit, notify, print_text, stderr_console
from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.closing import closing_lines
from pipelines.report.layout import TEXT_WIDTH, printable
from pipelines.report.rows import Report
from pipelines.report.styles import IN_PROGRESS, VERDICT_STYLES
from pipelines.report.text import result_blocks
from pipelines.rollout import kind_of
from pipelines.run.identity import of_cluster
from pipelines.usecases import run_views
from pipelines.usecases.naming import LAST, is_file, newest_run, run_named
from tasks.cluster import Cluster
from workers.host.private import make_folder, write_private
from workers.records import RunRecord, RunState, Verdict

if TYPE_CHECKING:  # loaded by those that print with it: `esync report` prints without
    from rich.console import Console

__all__ = [
    "exit_status",
    "find_run",
    "finish",
    "has_plan",
    "is_active",
    "pretty",
    "print_in_full",
    "print_result",
    "report_of",
    "write_report",
]

RECENT = 200  #: runs among which the name of a cluster is searched


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
    target = _cluster_in(name) if is_file(name) else name
    if isinstance(target, str) and not any(of_cluster(record, target) for record in engine.store.runs(RECENT)):
        return run_named(engine, name)
    return newest_run(engine, target, fits or (lambda _: True), what)


def _cluster_in(file: str) -> Cluster:
    from pipelines.cluster_file.loader import load_cluster  # noqa: PLC0415 - most people name a run, or `last`

    return load_cluster(Path(file))


def report_of(engine: Engine, record: RunRecord) -> Report:
    """The report of a run in its current state."""
    return build(run_views.summary(engine, record.id))


def has_plan(report: Report) -> bool:
    """Whether a run of kind `plan` made a plan."""
    return bool(report.plan)


def print_result(
    report: Report, console: "Console", *, verbose: bool = False, commands: Sequence[str] | None = None
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
    from rich.text import Text  # noqa: PLC0415 - see above

    headline, *rest = closing_lines(report, width, commands)
    print_text(console, f"\n{headline}", style.colour)
    for line in rest:  # wrapped already
        console.print(Text(printable(line)), soft_wrap=True)


def print_in_full(report: Report) -> None:
    """The same with every finding and cause, for people, where a command has several results."""
    print_result(report, stderr_console(), verbose=True)


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
    from pipelines.report.html import to_html  # noqa: PLC0415 - most commands write no page

    page = make_folder(folder) / f"esync-report-{report.run}.html"
    write_private(page, to_html(report))
    write_private(page.with_suffix(".json"), pretty(report))
    return page
