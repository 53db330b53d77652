"""What a command for many clusters is asked for, and how it prints what came out: beside the broker, and elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer

from pipelines.cli.console import CommandExit, notify, print_lines, stderr_console, stdout_console, terminal_width
from pipelines.report.many import ClusterResult, Results, plan_table, result_lines, titles, totals
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.usecases.plan_file import SavedPlan
from workers.records import RunRecord, Verdict

__all__ = ["Asked", "Follow", "end", "print_results", "print_table", "result_of", "without_verdict"]


class Asked(NamedTuple):
    """The options of a command for many clusters; see the options of that name."""

    at_most: int
    reason: str = ""
    key: str = ""
    options: tuple[str, ...] = ()
    folder: Path | None = None
    as_json: bool = False
    verbose: bool = False

    @property
    def whole(self) -> bool:
        """Whether the report of each run is wanted."""
        return self.as_json or self.verbose or self.folder is not None


class Follow(NamedTuple):
    """How several runs are followed.

    Attributes:
        shows: shows runs until all have ended; takes them, and what their clusters are called, by run.
        continues: says which of them go on when the command ends early.
    """

    shows: Callable[[Sequence[RunRecord], Mapping[str, str]], None]
    continues: Callable[[Sequence[RunRecord]], str]


def result_of(file: str, record: RunRecord, report: Report | None, plan: SavedPlan | None) -> ClusterResult:
    """The result of a cluster, by its run. As of one cluster: the status 2 of a plan says that changes are pending."""
    verdict = record.verdict or Verdict.INCONCLUSIVE
    failed = record.kind == "plan" and plan is None and verdict is Verdict.FAILED
    return ClusterResult(
        file=file,
        cluster=record.cluster,
        run=record.id,
        verdict=record.verdict,
        exit_code=(Verdict.INCONCLUSIVE if failed else verdict).exit_code,
        summary=record.summary,
        report=report,
        plan=plan,
    )


def without_verdict(file: str, cluster: str, why: str, run: str = "") -> ClusterResult:
    """The result of a cluster of which nothing is known."""
    exit_code = Verdict.INCONCLUSIVE.exit_code
    return ClusterResult(file=file, cluster=cluster, run=run, verdict=None, exit_code=exit_code, summary=why)


def print_results(
    kind: str,
    results: Sequence[ClusterResult],
    asked: Asked,
    show: Callable[[Report], None],
    write: Callable[[Report, Path], object],
) -> None:
    """Prints what came out, as the options want it, and what to do next.

    Args:
        kind: of the runs.
        results: in the order of the command.
        asked: the options.
        show: prints the end of a run in full.
        write: writes a report into a folder.
    """
    for result in results:
        if result.plan is not None and kind == "plan" and asked.verbose and not asked.as_json:
            saved = result.plan
            print_lines([result.cluster, *plan_lines(saved.spec, saved.plan, saved.only), ""])
        if result.report is not None and asked.verbose:
            show(result.report)
        if result.report is not None and asked.folder is not None:
            write(result.report, asked.folder)
    if kind == "plan" and not asked.as_json:
        called = titles((one.file, one.cluster) for one in results)
        plans = ((called[one.file], one.plan.plan if one.plan else None, one.summary) for one in results)
        typer.echo("\n".join(plan_table(plans, terminal_width(stdout_console()))))
        notify(totals(results), "bold")
    else:
        print_table(results)
    if asked.folder is not None:
        notify(f"reports: {asked.folder}")
    bad = [result.run for result in results if result.exit_code and result.run]
    if bad:
        run = bad[0] if len(bad) == 1 else "RUN"
        retriable = kind == "rollout" and any(one.run in bad and one.verdict is not Verdict.STALE for one in results)
        finish = f"; to finish {'it' if run in bad else 'one'}: esync retry {run}" if retriable else ""
        notify(f"details{'' if run in bad else ' of one'}: esync report {run}{finish}")


def print_table(results: Sequence[ClusterResult]) -> None:
    """A line for each cluster, the worst first, and their number by result."""
    notify("\n" + "\n".join(result_lines(results, terminal_width(stderr_console()))))
    notify(totals(results), "bold")


def end(results: Sequence[ClusterResult], *, as_json: bool) -> NoReturn:
    """Prints the document, if it is wanted, and ends the command with the exit status of the worst verdict."""
    document = Results.of(results)
    if as_json:
        typer.echo(document.model_dump_json(indent=2))
    raise CommandExit(document.exit_code)
