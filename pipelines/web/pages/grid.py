"""Waves x nodes x steps as a grid: one letter a cell, so that two thousand nodes fit into one message. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from pipelines.report.styles import REFUTED, STATUS_STYLES
from pipelines.run.progress import Progress
from workers.records import Status

__all__ = [
    "MANY",
    "MARKS",
    "PER_PAGE",
    "TROUBLE",
    "Block",
    "Grid",
    "Mark",
    "Row",
    "Show",
    "codes_of",
    "counts_of",
    "grid_of",
]

MANY = 60  #: nodes; a page of more shows squares, and as rows only the nodes that were asked for
PER_PAGE = 60  #: rows of such a page
_LETTERS: Mapping[Status, str] = {
    Status.FAILED: "f",
    Status.UNREACHABLE: "u",
    Status.CANCELLED: "c",
    Status.SKIPPED: "s",
    Status.WOULD_CHANGE: "w",
    Status.CHANGED: "d",
    Status.UNCHANGED: "e",
}
_RUNNING, _WAITING, _REFUTED, _UNSELECTED = "r", ".", "x", "-"
TROUBLE = frozenset("fux")  #: letters of nodes that a person has to look at


class Mark(NamedTuple):
    """How a letter looks: a class on the page, a symbol, a word."""

    css: str
    symbol: str
    word: str


#: In the order in which they are counted: the worst first.
MARKS: Mapping[str, Mark] = {
    "f": Mark("failed", STATUS_STYLES[Status.FAILED].symbol, "failed"),
    _REFUTED: Mark("failed", REFUTED.symbol, REFUTED.word),
    "u": Mark("unreachable", STATUS_STYLES[Status.UNREACHABLE].symbol, "unreachable"),
    "c": Mark("cancelled", STATUS_STYLES[Status.CANCELLED].symbol, "cancelled"),
    "s": Mark("skipped", STATUS_STYLES[Status.SKIPPED].symbol, "skipped"),
    _RUNNING: Mark("running", "\u25b6", "running"),
    _WAITING: Mark("waiting", "\u00b7", "waiting"),
    _UNSELECTED: Mark("waiting", "\u00b7", "not selected"),
    "w": Mark("would_change", STATUS_STYLES[Status.WOULD_CHANGE].symbol, "to change"),
    "d": Mark("changed", STATUS_STYLES[Status.CHANGED].symbol, "changed"),
    "e": Mark("unchanged", STATUS_STYLES[Status.UNCHANGED].symbol, "correct"),
}


class Row(NamedTuple):
    """One node: `codes` has a letter for each column, and last one for the node as a whole."""

    node: str
    pool: str
    codes: str
    reason: str = ""

    @property
    def whole(self) -> str:
        """The letter of the node as a whole."""
        return self.codes[-1]


class Block(NamedTuple):
    """The nodes of one wave, or of one pool as long as there are no waves."""

    title: str
    about: str
    rows: Sequence[Row]

    @property
    def counts(self) -> Sequence[tuple[Mark, int]]:
        """How many of its nodes are what."""
        return _counted(row.whole for row in self.rows)


class Grid(NamedTuple):
    """A run as a grid."""

    columns: Sequence[str]
    blocks: Sequence[Block]

    @property
    def rows(self) -> Sequence[Row]:
        """All nodes, in the order of the blocks."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def many(self) -> bool:
        """Whether it has more nodes than a table shows well."""
        return sum(len(block.rows) for block in self.blocks) > MANY


class Show(NamedTuple):
    """Which nodes of a large run are shown as rows: of one mark, by name or pattern, one page of them.

    Attributes:
        what: `trouble`, `all`, or the word of a mark.
        name: a part of the name, or a pattern with `*` and `?`; case does not count.
        page: from 1.
    """

    what: str = "trouble"
    name: str = ""
    page: int = 1

    def of(self, grid: Grid) -> tuple[Sequence[Row], int]:
        """The rows of that page, and how many rows fit in all."""
        fits = [row for row in grid.rows if self._fits(row)]
        first = (self.page - 1) * PER_PAGE
        return fits[first : first + PER_PAGE], len(fits)

    def _fits(self, row: Row) -> bool:
        wanted = self.name.strip().upper()
        pattern = wanted if any(sign in wanted for sign in "*?[") else f"*{wanted}*"
        if wanted and not fnmatchcase(row.node.upper(), pattern):
            return False
        if self.what == "trouble" and not wanted:
            return row.whole in TROUBLE
        return self.what in {"all", "trouble"} or MARKS[row.whole].word == self.what


def codes_of(progress: Progress, running: frozenset[str] | None = None) -> dict[str, str]:
    """Node -> its letters: one for each column of the run, and last one for the node as a whole."""
    busy = frozenset(progress.running()) if running is None else running
    columns = progress.kind.columns
    return {
        node: "".join(_cell(progress, node, column) for column in columns) + _whole(progress, node, node in busy)
        for node in progress.nodes
    }


def _cell(progress: Progress, node: str, column: str) -> str:
    if (node, column) not in progress.cells:
        return _WAITING
    status = progress.cells[node, column]
    if status is None:
        return _RUNNING
    judged = column == progress.kind.columns[-1] and not status.ends_node
    return _REFUTED if judged and node in progress.refuted else _LETTERS[status]


def _whole(progress: Progress, node: str, busy: bool) -> str:  # noqa: FBT001 - private
    status = progress.outcome(node)
    if status is not None and status.ends_node:
        return _LETTERS[status]
    if busy:
        return _RUNNING
    if node in progress.refuted:
        return _REFUTED
    if status is not None:
        return _LETTERS[status]
    return _UNSELECTED if progress.is_unselected(node) else _WAITING


def counts_of(codes: Mapping[str, str]) -> Sequence[tuple[Mark, int]]:
    """How many nodes are what, the worst first."""
    return _counted(letters[-1] for letters in codes.values())


def _counted(letters: Iterable[str]) -> Sequence[tuple[Mark, int]]:
    counts = Counter(letters)
    return [(mark, counts[letter]) for letter, mark in MARKS.items() if counts[letter]]


def grid_of(progress: Progress, codes: Mapping[str, str]) -> Grid:
    """The grid: nodes by wave in the order of the waves, those without a wave last, by pool."""
    groups: dict[tuple[str, str], list[Row]] = {}
    waves = {turn.name: "" for turn in progress.record.turns}
    for node, pool in progress.nodes.items():
        wave = progress.wave(node)
        key = (wave, "") if wave else ("", pool)
        groups.setdefault(key, []).append(Row(node, pool, codes[node], progress.reasons.get(node, "")))
    order = [*waves, ""]
    blocks = [_block(wave, rows) for (wave, _), rows in sorted(groups.items(), key=lambda one: order.index(one[0][0]))]
    return Grid(progress.kind.columns, blocks)


def _block(wave: str, rows: Sequence[Row]) -> Block:
    pools = ", ".join(dict.fromkeys(row.pool for row in rows))
    return Block(wave, pools, rows) if wave else Block(pools, "", rows)
