"""Pieces that all texts share: safe characters, wrapped lines, durations, ranges of names. Pure."""

import re
import textwrap
from collections.abc import Iterable

from workers.texts import cleaned

__all__ = ["duration", "name_ranges", "printable", "wrapped"]

_WIDTH = 100
_MINUTE, _HOUR = 60, 3600
_SHORTEST_RANGE = 3  #: names; two are easier to read in full
_NUMBERED = re.compile(r"(.*?)(\d+)")


def printable(text: str) -> str:
    """Text without line breaks and control characters: a node's message must not control the operator's terminal."""
    return cleaned(text, max(1, len(text)))


def wrapped(text: str) -> list[str]:
    """Printable text as indented lines of at most 100 characters."""
    return textwrap.wrap(printable(text), _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


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
