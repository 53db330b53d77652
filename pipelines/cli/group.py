"""Several runs that one command follows: one view, what continues without the command, one table, one exit status."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.cli.board import Board, StoredRows, show_board
from pipelines.local.provided import Running
from pipelines.local.reading import start_of_worker
from pipelines.report.many import without_this_command
from pipelines.usecases.waiting import Attendance, missing_workers, waiting_text
from tasks.ektron.wording import counted
from workers.errors import EsyncError, RunUnknown
from workers.records import RunRecord
from workers.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["follow_all", "what_continues"]


def follow_all(services: Running, records: Sequence[RunRecord], called: Mapping[str, str], people: "Console") -> None:
    """Shows these runs until all have ended, as long as their workers can work.

    Args:
        services: the workers.
        records: the runs, in the order of the command.
        called: what their clusters are called, by run.
        people: where to show them.

    Raises:
        KeyboardInterrupt, SystemExit: the command was asked to end.
        EsyncError: the store has not answered for a minute, or the worker of this command failed again and again.
    """
    if not records:
        return
    engine, board = services.engine, Board(StoredRows(services.engine.store), records, called)
    own = services.logs if services.own else None

    def trouble() -> str:
        services.check()
        first = next(iter(board.at_work), None)
        missing = attendance.missing_since(first.created) if first else None
        if first is None or missing is None:
            return ""
        return waiting_text(missing, start_of_worker(load_settings(), first.id, own, stays=True, site=missing.site))

    with Attendance(lambda: missing_workers(engine, *board.at_work)) as attendance:
        show_board(board, people, trouble)


def what_continues(services: Running, records: Sequence[RunRecord], never: Sequence[str] = ()) -> str:
    """For people, when the command ends early: which of its runs go on without it, and which were never created.

    Args:
        services: the workers of the command.
        records: its runs.
        never: what the clusters are called whose runs were not created.
    """
    left = _not_ended(services, records)
    if left and services.own:
        lines = ["The worker stops with this command. Nodes finish their current step; every file stays whole."]
    else:
        lost = _lost(services, [record for record in records if record not in left])
        lines = without_this_command([record for record in records if record not in lost], left)
        if lost:
            lines.append(f"The run store has lost {counted(len(lost), 'run')} of this command.")
    if never:
        lines.append(f"never started: {', '.join(never)}")
    if left or never:
        lines.append("To continue all of them: the same command again")
    return "\n" + "\n".join(lines)


def _not_ended(services: Running, records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """All of them, if the store does not say."""
    try:
        active = frozenset(services.engine.store.active())
    except EsyncError:
        return records
    return [record for record in records if record.id in active]


def _lost(services: Running, records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """Those of them that the store does not know any more."""
    lost = []
    for record in records:
        with suppress(EsyncError):
            try:
                services.engine.store.run(record.id)
            except RunUnknown:
                lost.append(record)
    return lost
