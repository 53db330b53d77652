"""`esync status` and `esync watch` of several runs: named one by one, by cluster files or folders, or as a group."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

import typer

from pipelines.cli.board import UNREADABLE, UNREADABLE_RANK, Board, Rows
from pipelines.cli.console import CommandExit, notify, print_last, stderr_console, stdout_console, terminal_width
from pipelines.cli.exits import INTERRUPTED
from pipelines.cli.many_results import Follow, end, print_table
from pipelines.cli.results import print_result
from pipelines.report.layout import table
from pipelines.report.many import ClusterResult, Results, titles
from pipelines.report.rows import Report
from pipelines.run.groups import is_group
from pipelines.usecases.naming import is_file
from pipelines.usecases.status import RunStatus
from workers.errors import EsyncError, RecordRefused
from workers.records import RunRecord, Verdict

if TYPE_CHECKING:  # most people name runs
    from tasks.cluster import Cluster

__all__ = ["Chosen", "Follow", "RunSource", "chosen", "show_several", "watch_several"]


class RunSource(Rows, Protocol):
    """Runs, by what operators name. All methods raise StoreUnavailable when the store or the server does not answer.

    Those that read one run raise RecordRefused if its data is damaged.
    """

    def record(self, run: str) -> RunRecord:
        """The record of the run of that id, as it is now."""
        ...

    def named(self, name: str) -> RunRecord:
        """The run of that id, or the newest one of a cluster, or of all (`last`).

        Raises:
            RunUnknown: there is none.
        """
        ...

    def of_group(self, group: str) -> Sequence[str]:
        """The ids of the runs that were requested together, in their order; none if there is no such group."""
        ...

    def newest(self, clusters: "Sequence[Cluster]") -> Sequence[RunRecord | None]:
        """The newest run of each of these clusters, None where there is none."""
        ...

    def waits(self, records: Sequence[RunRecord]) -> Mapping[str, str]:
        """The runs that wait for a worker: id -> since when, and how to start one."""
        ...

    def status(self, run: str) -> RunStatus:
        """The status of a run."""
        ...

    def report(self, record: RunRecord) -> Report:
        """The report of a run, as it is now."""
        ...


class Chosen(NamedTuple):
    """One run that is meant: its cluster, the file where one was named, and the record; or why there is none.

    `unreadable` is the id of a run whose record cannot be read: then its cluster is not known.
    """

    cluster: str
    record: RunRecord | None
    file: str = ""
    why: str = ""
    unreadable: str = ""


def chosen(source: RunSource, targets: Sequence[str]) -> list[Chosen]:
    """The runs that are meant, if the targets stand for a list: several, a folder, or a group. Else none.

    Raises:
        InputRefused: no file can be used, or it is not clear which cluster is meant.
        RunUnknown: there is no such run.
    """
    if len(targets) == 1 and not _is_folder(targets[0]):
        group = source.of_group(targets[0]) if is_group(targets[0]) else ()
        return [_read(source.record, run) for run in group]
    files = [target for target in targets if _is_folder(target) or is_file(target)]
    found = _newest(source, files) if files else []
    for target in targets:
        if target not in files:
            group = source.of_group(target) if is_group(target) else ()
            found += [_read(source.record, run) for run in group] or [_read(source.named, target)]
    return found


def _read(read: Callable[[str], RunRecord], run: str) -> Chosen:
    """The run of that name; one that cannot be read hides no other."""
    try:
        record = read(run)
    except RecordRefused as error:
        return Chosen("", None, why=error.message, unreadable=error.run or run)
    return Chosen(record.cluster, record)


def _is_folder(target: str) -> bool:
    """A bare word is the name of a cluster, also if a folder without cluster files is called like it."""
    path = Path(target)
    if not path.is_dir():
        return False
    from pipelines.cli.files import has_cluster_files  # noqa: PLC0415 - most people name runs

    return os.sep in target or has_cluster_files(path)


def _newest(source: RunSource, files: Sequence[str]) -> list[Chosen]:
    """The newest run of each cluster. A file with mistakes hides no other, unless all have some: nothing is started."""
    from pipelines.cli.files import Source, load_usable  # noqa: PLC0415 - see above

    read_files = load_usable(map(Path, files))
    newest = iter(source.newest([found.cluster for found in read_files if isinstance(found, Source)]))
    return [
        Chosen(found.cluster.name, next(newest), str(found.file), "there is no run of this cluster yet")
        if isinstance(found, Source)
        else Chosen(found.cluster, None, str(found.file), found.why)
        for found in read_files
    ]


def show_several(source: RunSource, several: Sequence[Chosen], *, as_json: bool) -> None:
    """Prints a line for each run as it is now, failures first; or one document.

    Raises:
        CommandExit: a run could not be read.
    """
    records = [one.record for one in several if one.record is not None]
    waits = source.waits(records)
    if as_json:
        results = [_with_status(source, one, waits) for one in several]
        typer.echo(Results.of(results).model_dump_json(indent=2))
        _end(unreadable=any(result.run and result.status is None for result in results))
        return
    board = Board(source, records, _called(several))
    board.look()
    ranked = sorted((_ranked(board, title, one) for title, one in _titled(several)), key=lambda one: one[0])
    width = terminal_width(stdout_console())
    typer.echo("\n".join(table(("CLUSTER", "RUN", "STATE", ""), [cells for _, cells in ranked], width)))
    for run_id, text in waits.items():
        notify(f"run {run_id}: {text}", "magenta")
    _end(unreadable=any(rank == UNREADABLE_RANK and cells[2] == UNREADABLE for rank, cells in ranked))


def _ranked(board: Board, title: str, one: Chosen) -> tuple[int, tuple[str, str, str, str]]:
    """The place of a run in the table, and its line there; what has no run is last."""
    if one.record is not None:
        row = board.rows[one.record.id]
        return row.rank, (title, one.record.id, row.state, row.remark)
    if one.unreadable:
        return UNREADABLE_RANK, (title or "-", one.unreadable, UNREADABLE, one.why)
    return sys.maxsize, (title, "-", "no run", one.why)


def _end(*, unreadable: bool) -> None:
    if unreadable:
        raise CommandExit(Verdict.INCONCLUSIVE.exit_code)


def _with_status(source: RunSource, one: Chosen, waits: Mapping[str, str]) -> ClusterResult:
    result = _result_of(source, one, whole=False)
    if one.record is None:
        return result
    try:
        status = source.status(result.run).model_copy(update={"waiting": waits.get(result.run, "")})
    except RecordRefused as error:
        return result.model_copy(update={"summary": error.message})
    return result.model_copy(update={"status": status})


def watch_several(
    source: RunSource, several: Sequence[Chosen], follow: Follow, *, verbose: bool, as_json: bool
) -> NoReturn:
    """Follows these runs until all have ended, and ends the command with the exit status of the worst verdict.

    Raises:
        KeyboardInterrupt, SystemExit: the command was asked to end; the effect on the runs has been printed.
        EsyncError: the store or the worker of this command does not answer any more; it has been printed, too.
    """
    people, records = stderr_console(), list({one.record.id: one.record for one in several if one.record}.values())
    try:
        follow.shows(records, _called(several))
    except (*INTERRUPTED, EsyncError):
        print_last(people, follow.continues(records))
        raise
    results = [_result_of(source, one, whole=as_json or verbose) for one in several]
    for result in results:
        if verbose and result.report is not None:
            print_result(result.report, people, verbose=True)
    print_table(results)
    end(results, as_json=as_json)


def _result_of(source: RunSource, one: Chosen, *, whole: bool) -> ClusterResult:
    """The result of a run now; with its report if it has to be `whole`. What cannot be read is left out, and said."""
    record, report, why = one.record, None, one.why
    if record is not None:
        try:
            record = source.row(record.id).record
            why = record.summary
            report = source.report(record) if whole else None
        except RecordRefused as error:
            why = error.message
    verdict = record.verdict if record else None
    return ClusterResult(
        file=one.file,
        cluster=one.cluster,
        run=record.id if record else one.unreadable,
        verdict=verdict,
        exit_code=(verdict or Verdict.INCONCLUSIVE).exit_code,
        summary=why,
        report=report,
    )


def _titled(several: Sequence[Chosen]) -> list[tuple[str, Chosen]]:
    """Each with what to call its cluster: its name, and the file, too, where several have that name."""
    called = titles((one.file, one.cluster) for one in several if one.file)
    return [(called.get(one.file, one.cluster), one) for one in several]


def _called(several: Sequence[Chosen]) -> dict[str, str]:
    """What to call the cluster of each run, by its id."""
    return {one.record.id: title for title, one in _titled(several) if one.record}
