"""`esync status` and `esync watch` of several runs: named one by one, by cluster files or folders, or as a group."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import typer

from pipelines.cli.board import Board
from pipelines.cli.console import notify, print_text, stderr_console, stdout_console, terminal_width
from pipelines.cli.results import find_run, print_result, report_of
from pipelines.cli.runs import waits_of
from pipelines.engine import Engine
from pipelines.report.many import ClusterResult, Results, table, titles
from pipelines.usecases import run_views
from pipelines.usecases.listing import newest_runs, runs_of_group
from pipelines.usecases.naming import is_file
from workers.errors import EsyncError, RecordRefused
from workers.records import RunRecord, Verdict

if TYPE_CHECKING:  # see below
    from pipelines.local.provided import Running

__all__ = ["Chosen", "chosen", "show_several", "watch_several"]


class Chosen(NamedTuple):
    """One run that is meant: its cluster, the file where one was named, and the record; or why there is none."""

    cluster: str
    record: RunRecord | None
    file: str = ""
    why: str = ""


def chosen(engine: Engine, targets: Sequence[str]) -> list[Chosen]:
    """The runs that are meant, if the targets stand for a list: several, a folder, or a group. Else none.

    Raises:
        InputRefused: files have mistakes, or it is not clear which cluster is meant.
        RunUnknown: there is no such run.
    """
    if len(targets) == 1 and not _is_folder(targets[0]):
        return [Chosen(record.cluster, record) for record in runs_of_group(engine.store, targets[0])]
    files = [target for target in targets if _is_folder(target) or is_file(target)]
    found = _newest(engine, files) if files else []
    for target in targets:
        if target not in files:
            group = runs_of_group(engine.store, target) or [find_run(engine, target)]
            found += [Chosen(record.cluster, record) for record in group]
    return found


def _is_folder(target: str) -> bool:
    """A bare word is the name of a cluster, also if a folder without cluster files is called like it."""
    path = Path(target)
    if not path.is_dir():
        return False
    from pipelines.cli.files import has_cluster_files  # noqa: PLC0415 - most people name runs

    return os.sep in target or has_cluster_files(path)


def _newest(engine: Engine, files: Sequence[str]) -> list[Chosen]:
    """The newest run of each cluster. A file with mistakes hides no other, unless all have some: nothing is started."""
    from pipelines.cli.files import Source, load_usable  # noqa: PLC0415 - see above

    read_files = load_usable(map(Path, files))
    clusters = [found.cluster for found in read_files if isinstance(found, Source)]
    refused: list[RecordRefused] = []
    newest = iter(newest_runs(engine.store, clusters, refused.append))
    for error in refused:
        notify(f"run {error.run} cannot be read: {error.message}", "magenta")
    return [
        Chosen(found.cluster.name, next(newest), str(found.file), "there is no run of this cluster yet")
        if isinstance(found, Source)
        else Chosen(found.cluster, None, str(found.file), found.why)
        for found in read_files
    ]


def show_several(engine: Engine, several: Sequence[Chosen], *, as_json: bool) -> None:
    """Prints a line for each run as it is now, failures first; or one document."""
    records = [one.record for one in several if one.record is not None]
    waits = waits_of(engine, records)
    if as_json:
        results = [_with_status(engine, one, waits) for one in several]
        typer.echo(Results.of(results).model_dump_json(indent=2))
        return
    board = Board(engine.store, records, _called(several))
    board.look()
    none = [(title, "-", "no run", one.why) for title, one in _titled(several) if one.record is None]
    found = [(title, board.rows[one.record.id]) for title, one in _titled(several) if one.record]
    ranked = sorted(found, key=lambda one: one[1].rank)
    rows = [(title, row.record.id, row.state, row.remark) for title, row in ranked]
    width = terminal_width(stdout_console())
    typer.echo("\n".join(table(("CLUSTER", "RUN", "STATE", ""), [*rows, *none], width)))
    for run_id, text in waits.items():
        notify(f"run {run_id}: {text}", "magenta")


def _with_status(engine: Engine, one: Chosen, waits: Mapping[str, str]) -> ClusterResult:
    result = _result_of(engine, one, whole=False)
    if not result.run:
        return result
    status = run_views.status(engine, result.run).model_copy(update={"waiting": waits.get(result.run, "")})
    return result.model_copy(update={"status": status})


def watch_several(services: "Running", several: Sequence[Chosen], *, verbose: bool, as_json: bool) -> NoReturn:
    """Follows these runs until all have ended, and ends the command with the exit status of the worst verdict.

    Raises:
        KeyboardInterrupt: the operator pressed Ctrl-C; the effect on the runs has been printed.
        EsyncError: the broker or the worker of this command does not answer any more; it has been printed, too.
    """
    from pipelines.cli.group import end, follow_all, print_table, what_continues  # noqa: PLC0415 - a look needs none

    people, records = stderr_console(), list({one.record.id: one.record for one in several if one.record}.values())
    try:
        follow_all(services, records, _called(several), people)
    except (KeyboardInterrupt, EsyncError):
        print_text(people, what_continues(services, records), "magenta")
        raise
    results = [_result_of(services.engine, one, whole=as_json or verbose) for one in several]
    for result in results:
        if verbose and result.report is not None:
            print_result(result.report, people, verbose=True)
    print_table(results)
    end(results, as_json=as_json)


def _result_of(engine: Engine, one: Chosen, *, whole: bool) -> ClusterResult:
    """The result of a run now; with its report if it has to be `whole`."""
    record = engine.store.run(one.record.id) if one.record else None
    verdict = record.verdict if record else None
    return ClusterResult(
        file=one.file,
        cluster=one.cluster,
        run=record.id if record else "",
        verdict=verdict,
        exit_code=(verdict or Verdict.INCONCLUSIVE).exit_code,
        summary=record.summary if record else one.why,
        report=report_of(engine, record) if record and whole else None,
    )


def _titled(several: Sequence[Chosen]) -> list[tuple[str, Chosen]]:
    """Each with what to call its cluster: its name, and the file, too, where several have that name."""
    called = titles((one.file, one.cluster) for one in several if one.file)
    return [(called.get(one.file, one.cluster), one) for one in several]


def _called(several: Sequence[Chosen]) -> dict[str, str]:
    """What to call the cluster of each run, by its id."""
    return {one.record.id: title for title, one in _titled(several) if one.record}
