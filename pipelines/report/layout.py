"""Pieces that all texts share: safe characters, wrapped lines, durations, ranges of names. Pure."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from workers.texts import cleaned

__all__ = [
    "TEXT_WIDTH",
    "by_itself",
    "cut",
    "duration",
    "folded",
    "name_ranges",
    "printable",
    "table",
    "without_verdict",
    "wrapped",
]

TEXT_WIDTH = 100  #: columns of a text that is written to a file or a pipe
_MINUTE, _HOUR = 60, 3600
_SHORTEST_RANGE = 3  #: names; two are easier to read in full
_NUMBERED = re.compile(r"(.*?)(\d+)")
#: What stays on one line, to be copied: a Windows path with blanks in its folders (also in its last part, where it is
#: alone or in quotes), a command with its arguments.
_WHOLE = re.compile(
    r"""^\s*[A-Za-z]:\\[^/:*?"<>|]*$|"[A-Za-z]:\\[^/:*?"<>|]*\""""
    r"""|[A-Za-z]:\\(?:[^\\/:*?"<>|,;]{1,64}\\)*[^\\\s]*"""
    r"""|\besync [a-z]+(?: (?:--?[\w-]+|[A-Z]{2,}|\d{8}-[\w-]+|[\w./-]+\.\w+|last|all)(?![\w/]))*"""
)
_NOTHING = "-"  #: in a cell: there is none
_BELOW = "    "  #: before what stands below its row
_GLUE = "\0"  #: stands for a blank that is no place to break a line; no printable text has it


def printable(text: str) -> str:
    """Text without line breaks and control characters: a node's message must not control the operator's terminal."""
    return cleaned(text, max(1, len(text)))


def without_verdict(summary: str, verdict: str | None) -> str:
    """The summary of a run that stands beside its verdict, which need not be said twice."""
    return summary.removeprefix(f"{verdict}: ")


def wrapped(text: str, width: int = TEXT_WIDTH) -> list[str]:
    """Printable text as indented lines of at most that many columns."""
    return folded(text, width, first="  ", rest="    ")


def folded(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Printable text broken between words. Words, Windows paths and commands stay whole, also where they are wider.

    Args:
        text: any text.
        width: columns of a line.
        first: the indent of the first line.
        rest: the indent of the following lines.
    """
    glued = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), printable(text))
    lines = textwrap.wrap(
        glued,
        max(width, len(first) + 1, len(rest) + 1),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]


def cut(lines: list[str], most: int, width: int) -> list[str]:
    """The first lines, at most that many; where some are left out, the last one ends in dots.

    Of a path or command that is wider than a line (see `folded`) as much is kept as has room.
    """
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    last = last[: width - 4] if len(last) > width else last
    while len(last) > width - 4 and " " in last.strip():
        last = last.rstrip().rpartition(" ")[0]
    return [*lines[: most - 1], f"{last.rstrip()} ..."]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], width: int = 0) -> Iterator[str]:
    """Lines with columns of equal width; the last one is as long as it is.

    Args:
        header: of the columns.
        rows: the cells; those of the last column may be sentences.
        width: columns of the terminal, 0 for none. Where a row has no room there for its last cell, that is below it,
            in two lines at most; where there is none for the others, the widest of these has a line of its own.
    """
    lines = [[*header], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    fits = not width or sum(widths) + 2 * (len(widths) - 1) <= width
    alone = None if fits else widths.index(max(widths))
    for *cells, last in lines:
        padded = [cell.ljust(size) for cell, size in zip(cells, widths, strict=True)]
        apart = "" if alone is None or cells[alone] == _NOTHING else cells[alone]
        head = "  ".join(cell for place, cell in enumerate(padded) if place != alone)
        if alone == 0:
            yield apart
            head, apart = f"{_BELOW}{head}", ""
        if not apart and (not width or len(head) + len(last) + 2 <= width):
            yield f"{head}  {last}".rstrip()
        else:
            yield head.rstrip()
            yield from [f"{_BELOW}{apart}"] if apart else []
            yield from cut(folded(last, width, _BELOW, _BELOW), 2, width)


def by_itself(seconds: float | None) -> str:
    """That a held run begins without a person, and when; empty if it does not (None)."""
    return "" if seconds is None else f"begins by itself in {duration(seconds)} (policy.hold_for)"


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4 min 05 s`, `1 h 02 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // 60:02} min"


def name_ranges(names: Iterable[str]) -> str:
    """Names in the given order, three and more consecutive numbers shortened to a range: `P1..P40, S2`."""
    groups: list[list[str]] = []
    for name in names:
        if groups and _is_next(groups[-1][-1], name):
            groups[-1].append(name)
        else:
            groups.append([name])
    return ", ".join(f"{g[0]}..{g[-1]}" if len(g) >= _SHORTEST_RANGE else ", ".join(g) for g in groups)


def _is_next(before: str, name: str) -> bool:
    first, second = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(name)
    if first is None or second is None or first[1] != second[1]:
        return False
    padded = len(first[2]) == len(second[2]) or not (first[2].startswith("0") or second[2].startswith("0"))
    return padded and int(second[2]) == int(first[2]) + 1
