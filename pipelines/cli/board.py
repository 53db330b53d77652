"""Shows many runs while they work: a line a cluster, failures first; elsewhere a line when something happens."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipelines.report.layout import duration, printable, table, without_verdict
from pipelines.report.styles import IN_PROGRESS, VERDICT_STYLES
from pipelines.rollout import kind_of
from pipelines.run.groups import in_line, waits_for
from pipelines.run.waves import ends_by_itself
from pipelines.usecases.updates import nodes_done, seen_run
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from tasks.steering import Steering, verb_for_held
from workers.errors import RecordRefused, RunUnknown, StoreUnavailable
from workers.records import RunRecord, RunState, Verdict, now
from workers.store.port import RunStore

__all__ = ["UNREADABLE", "UNREADABLE_RANK", "Board", "Row", "Rows", "StoredRows", "show_board"]

INTERVAL = 0.5  #: seconds between two looks
PATIENCE = 60.0  #: seconds to continue while the store does not answer
_ITS_TURN = "until one before it ends"
_LEAST = 5  #: rows that are shown on the smallest terminal
_LAST = len(Verdict.worst_first())
UNREADABLE = "cannot be read"  #: what a run does whose data is damaged
UNREADABLE_RANK = Verdict.worst_first().index(Verdict.INCONCLUSIVE)  #: the place of such a run among the others


class Row(NamedTuple):
    """One run now.

    `waits` says what it waits for until it begins, `done` how many nodes ended their turn, `refused` why the run cannot
    be read: no worker continues it.
    """

    record: RunRecord
    waits: str = ""
    done: int = 0
    steering: Steering = Steering()
    refused: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in the run."""
        return self.record.state is RunState.CONCLUDED or bool(self.refused)

    @property
    def style(self) -> str:
        """Its colour."""
        if self.refused:
            return VERDICT_STYLES[Verdict.INCONCLUSIVE].colour
        if self.steering.waits:
            return "magenta"
        verdict = self.record.verdict
        return VERDICT_STYLES[verdict].colour if verdict else "dim" if self.waits else IN_PROGRESS.colour

    @property
    def rank(self) -> int:
        """Its place in the list: what went wrong, what waits for a person, what works, what waits, what is done."""
        if self.refused:
            return UNREADABLE_RANK
        if self.record.verdict:
            bad = self.record.verdict.exit_code != 0 and self.record.verdict is not Verdict.CHANGES_PENDING
            return Verdict.worst_first().index(self.record.verdict) if bad else _LAST + 3
        return _LAST + (0 if self.steering.waits else 2 if self.waits else 1)

    @property
    def state(self) -> str:
        """What it does, in a few words."""
        record, steering = self.record, self.steering
        if self.refused:
            return UNREADABLE
        if record.verdict:
            return VERDICT_STYLES[record.verdict].title.lower()
        turn = record.turn.name if record.turn else "waiting" if self.waits else "beginning"
        return steering.word or turn

    @property
    def remark(self) -> str:
        """How far it is, or how it ended."""
        if self.refused:
            return self.refused
        if self.steering.held and not self.ended:
            unapproved = self.steering.unapproved
            by_itself = "" if unapproved else ends_by_itself(self.record, self.steering.held)
            command = f"esync {verb_for_held(unapproved=unapproved)} {self.record.id}"
            return f"{by_itself}; or now: {command}" if by_itself else command
        if self.record.turn is None or self.ended:
            return without_verdict(self.record.summary, self.record.verdict) or self.waits
        return f"{self.done} of {counted(len(self.record.turn.nodes), 'node')}"


class Rows(Protocol):
    """Where the rows of a board come from. Both raise StoreUnavailable; `row` RecordRefused, if it cannot be read."""

    def in_line(self) -> Collection[str]:
        """The runs that wait for their turn in a group."""
        ...

    def row(self, run: str) -> Row:
        """The run as it is now. Whether it waits for its turn the board knows."""
        ...


class StoredRows:
    """The rows of the runs in a store."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def in_line(self) -> Collection[str]:
        """See Rows."""
        return in_line(self._store.active())

    def row(self, run: str) -> Row:
        """See Rows."""
        record = seen_run(self._store, run)
        if record.state is RunState.CONCLUDED:
            return Row(record)
        done, steering = nodes_done(self._store, record), Steering.of(self._store, run)
        return Row(record, done=done, steering=steering)


class Board:
    """The present rows of some runs; reads only those that may have changed.

    Args:
        source: where the rows come from.
        records: the runs, in the order of the command.
        titles: what their clusters are called, by run; else by their names.
    """

    def __init__(
        self, source: Rows, records: Sequence[RunRecord], titles: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._source = source
        self.titles = {record.id: titles.get(record.id, record.cluster) for record in records}
        self.rows = {record.id: Row(record, waits="" if record.turns else _ITS_TURN) for record in records}

    def look(self) -> list[Row]:
        """Reads the runs; returns the rows that have changed.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        waiting = self._source.in_line()
        changed = []
        for run_id, before in self.rows.items():
            if before.ended or (before.waits and run_id in waiting):
                continue
            row = self._seen(before.record, in_line=run_id in waiting)
            if row != before:
                self.rows[run_id] = row
                changed.append(row)
        return changed

    def _seen(self, record: RunRecord, *, in_line: bool) -> Row:
        """The run now; one that cannot be read, or is lost, hides no other."""
        try:
            row = self._source.row(record.id)
            return row._replace(waits=_ITS_TURN if in_line else self._for_servers(row.record))
        except (RecordRefused, RunUnknown) as error:
            return Row(record, refused=error.message)

    def _for_servers(self, record: RunRecord) -> str:
        """That a run waits for the end of another one of its group that changes some of its servers."""
        if record.turns or record.verdict or kind_of(record.kind, record.id).read_only:
            return ""
        going = [run for run, row in self.rows.items() if not row.ended]
        ahead = waits_for(record.id, Cluster.of_run(record).servers, going, self._servers_of)
        return f"until {self.titles[ahead]} ends, which has servers of it" if ahead else ""

    def _servers_of(self, run: str) -> tuple[str, ...]:
        with suppress(RecordRefused):  # it is refused in its own row
            return Cluster.of_run(self.rows[run].record).servers
        return ()

    @property
    def ranked(self) -> list[Row]:
        """The rows, failures first."""
        return sorted(self.rows.values(), key=lambda row: row.rank)

    @property
    def ended(self) -> bool:
        """Whether all runs are concluded."""
        return all(row.ended for row in self.rows.values())

    @property
    def at_work(self) -> list[RunRecord]:
        """The runs that need workers: those that have begun and wait for no person, and the first of the others."""
        going = [row.record for row in self.rows.values() if not row.ended and not row.steering.waits]
        return [*(one for one in going if one.turns), *[one for one in going if not one.turns][:1]]


def show_board(board: Board, console: Console, trouble: Callable[[], str], *, interval: float = INTERVAL) -> None:
    """Shows the runs until all are concluded.

    Args:
        board: the runs.
        console: a terminal gets a picture that changes; anything else a line when a run begins, is held or ends.
        trouble: checks the workers; a sentence about them for people, or nothing.
        interval: seconds between two looks.

    Raises:
        StoreUnavailable: the store has not answered for a minute.
        ServiceLost: the worker or broker of this command failed again and again.
    """
    if not console.is_terminal:
        _as_lines(board, console, trouble, interval)
        return
    begun, known = now(), ""

    def picture() -> RenderableType:
        return draw(board, console, begun, known)

    with Live(console=console, get_renderable=picture, refresh_per_second=4, vertical_overflow="crop") as live:
        for _, problem in _looks(board, trouble, interval):
            known = problem
        live.refresh()


def _as_lines(board: Board, console: Console, trouble: Callable[[], str], interval: float) -> None:
    begun, known, said = now(), "", dict[str, str]()
    for row in board.ranked:
        if row.ended:
            _print(console, f"{_seconds(begun):7.1f} s  {board.titles[row.record.id]}  {row.state}: {row.remark}")
    for rows, problem in _looks(board, trouble, interval):
        for row in rows:
            run, word = row.record.id, row.steering.word
            if row.ended or said.get(run) != word:
                remark = f": {row.remark}" if row.ended or row.steering.held else f"  {run}"
                _print(console, f"{_seconds(begun):7.1f} s  {board.titles[run]}  {row.state}{remark}")
            said[run] = word
        if problem and not known:
            _print(console, problem)
        known = problem


def _looks(board: Board, trouble: Callable[[], str], interval: float) -> Iterator[tuple[list[Row], str]]:
    """The changed rows, again and again until all runs have ended; waits for a store that does not answer."""
    lost = 0.0
    while not board.ended:
        try:
            problem = trouble()
            yield board.look(), problem
        except StoreUnavailable as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise
            yield [], f"{error}; trying again"
        else:
            lost = 0.0
        if not board.ended:
            time.sleep(interval)


def draw(board: Board, console: Console, begun: datetime, trouble: str) -> RenderableType:
    """The picture: the clusters by state, then a line for each, as many as there is room for."""
    rows = board.ranked
    states: dict[str, int] = {}
    for row in rows:
        state = row.state if row.ended or row.waits or row.steering.waits else "running"
        states[state] = states.get(state, 0) + 1
    parts = ", ".join(f"{count} {state}" for state, count in states.items())
    shown = rows[: max(_LEAST, console.height - 4)]
    cells = [(board.titles[row.record.id], row.state, row.remark) for row in shown]
    header, *lines = table(("cluster", "state", ""), cells)
    texts = [Text(f"{counted(len(rows), 'cluster')}: {parts}  {duration(_seconds(begun))}", style="bold")]
    texts += [Text(header, style="dim")]
    for line, row in zip(lines, shown, strict=True):
        below = row.steering.held and len(line) > console.width  # a command is copied: it has to be whole
        folded = [line.removesuffix(row.remark).rstrip(), f"    {row.remark}"] if below else [line]
        texts += [Text(part, style=row.style) for part in folded]
    if len(rows) > len(shown):
        texts.append(Text(f"and {len(rows) - len(shown)} more", style="dim"))
    if trouble:
        texts.append(Text(printable(trouble), style="magenta"))
    for text in texts:
        text.truncate(console.width, overflow="ellipsis")
    return Group(*texts)


def _seconds(since: datetime) -> float:
    return (now() - since).total_seconds()


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)
