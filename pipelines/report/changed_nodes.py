"""Which nodes were changed how: each node by itself, or those with the same changes together. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pipelines.report.alike import in_words, masked
from pipelines.report.change_words import ChangeWords, FileWords, by_file
from pipelines.report.layout import name_ranges
from workers.records import Change

__all__ = ["Changed", "ChangedNodes", "changed_nodes"]

Mask = Callable[[str, str], str]  #: a text and a node -> the text without the node's own name
_PROCESS = re.compile(r"process \d+, started .*")  #: every node has its own


class Changed(Protocol):
    """A node with its changes: in a report those that were made, in a plan those that would be."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was changed, or would be."""


class ChangedNodes(NamedTuple):
    """Nodes with the same changes. `changes` is their number on one node."""

    ranges: str
    nodes: int
    changes: int
    files: Sequence[FileWords]


def changed_nodes(rows: Sequence[Changed], *, together: bool, mask: Mask = masked) -> list[ChangedNodes]:
    """The nodes that have changes, in the order of the first of each group.

    Args:
        rows: all nodes of the run.
        together: whether nodes with the same changes are one group: texts that differ only in each node's own name and
            in the numbers and times of its processes are the same.
        mask: replaces a node's own name in a text.
    """
    groups: dict[object, list[Changed]] = {}
    for row in rows:
        if row.changes:
            groups.setdefault(tuple(_masked(row, mask)) if together else row.node, []).append(row)
    return [_group(members, mask) for members in groups.values()]


def _group(members: Sequence[Changed], mask: Mask) -> ChangedNodes:
    first = members[0]
    files = (
        by_file(first.changes) if len(members) == 1 else [_of_several(one, first.node) for one in _masked(first, mask)]
    )
    return ChangedNodes(name_ranges([row.node for row in members]), len(members), len(first.changes), files)


def _masked(row: Changed, mask: Mask) -> list[FileWords]:
    return [
        FileWords(mask(file, row.node), tuple(_without_own(one, row.node, mask) for one in changes))
        for file, changes in by_file(row.changes)
    ]


def _without_own(change: ChangeWords, node: str, mask: Mask) -> ChangeWords:
    if _PROCESS.fullmatch(change.before) and _PROCESS.fullmatch(change.after):
        return ChangeWords(mask(change.text, node))
    return _each(change, lambda text: mask(text, node))


def _of_several(file: FileWords, node: str) -> FileWords:
    changes = [_each(change, lambda text: in_words(text, node)) for change in file.changes]
    return FileWords(in_words(file.file, node), changes)


def _each(change: ChangeWords, say: Callable[[str], str]) -> ChangeWords:
    return ChangeWords(say(change.text), say(change.before), say(change.after), change.lines)
