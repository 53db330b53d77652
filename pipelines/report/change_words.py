"""The changes of a node in words, by file: a value before and after, a count of files, lines that differ. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.ektron.wording import counted
from tasks.undo.words import CHANGED_SINCE
from workers.records import Change

__all__ = ["ChangeWords", "FileWords", "by_file", "files_written"]

_COPIED = re.compile(r"(\d+) written of (\d+)")  #: `cert_copy`, with `6 right` as what was there before
_RIGHT = re.compile(r"(\d+) right")
_GROUP = re.compile(r"(\d+) certificate files?")  #: `rollback`: what happened to all files of a folder
_FILES = re.compile(r"\b\d{4,}(?= (?:certificate )?files?\b)")
_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


class ChangeWords(NamedTuple):
    """One change. `before` and `after` are values or, of a difference, lines; both empty where the text says all."""

    text: str
    before: str = ""
    after: str = ""
    lines: bool = False  #: `before` is what is there now, `after` what a rollback would restore


class FileWords(NamedTuple):
    """The changes in one file or folder; `file` is empty for those of the machine, such as a restart."""

    file: str
    changes: Sequence[ChangeWords]


def by_file(changes: Iterable[Change]) -> Sequence[FileWords]:
    """The changes of one node, each file once, in their order."""
    groups: dict[str, list[ChangeWords]] = {}
    for change in changes:
        groups.setdefault(change.file, []).append(_words(change))
    return [FileWords(file, words) for file, words in groups.items()]


def files_written(change: Change) -> int | None:
    """How many certificate files the change wrote, restored or removed; None for any other change."""
    found = _COPIED.fullmatch(change.after) or _GROUP.fullmatch(change.after)
    return int(found[1]) if found else None


def _words(change: Change) -> ChangeWords:
    if change.what.startswith(CHANGED_SINCE):
        return ChangeWords(change.what, change.before, change.after, lines=bool(change.before or change.after))
    if copied := _COPIED.fullmatch(change.after):
        return ChangeWords(f"{change.what}: {_copied(int(copied[1]), int(copied[2]), change.before)}")
    before, after = _readable(change.before), _readable(change.after)
    if _GROUP.fullmatch(change.after) and not before:
        return ChangeWords(f"{after} {change.what}")
    if before and after:
        return ChangeWords(change.what, before, after)
    return ChangeWords(f"{change.what}: {before or after}" if before or after else change.what)


def _copied(written: int, count: int, before: str) -> str:
    right = _RIGHT.fullmatch(before)
    if written == count or right is None:
        return f"{counted(written, 'file')} written"
    return f"{written:,} of {counted(count, 'file')} written, {int(right[1]):,} were correct"


def _readable(value: str) -> str:
    """A value with separated thousands and times to the second."""
    return _TIME.sub(r"\1 \2 UTC", _FILES.sub(lambda found: f"{int(found[0]):,}", value))
