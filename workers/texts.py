"""Text that others wrote, made fit to be shown: one line, of visible characters, of bounded length."""

from collections.abc import Collection
from typing import Any

__all__ = ["LIMIT", "cleaned", "cleaned_all"]

LIMIT = 2000  #: characters that are kept of one text
_SEPARATORS = frozenset("\u2028\u2029")  #: they end a line
_C1_END = 0xA0
_UNSHOWN = "\ufffd"
_CUT = "…"


def cleaned(text: str, limit: int = LIMIT) -> str:
    """The text as one line that a terminal, a page and a log show as it is.

    Every character that moves the cursor, ends a line or is blank by itself becomes a blank: C0 and C1 controls
    (escape, NUL, tab, line ends), line and paragraph separators, other spaces. Every other character that cannot be
    seen becomes U+FFFD, so that two names which look alike do not become one: lone surrogates, bidirectional and
    other format characters (zero-width ones too), private use, unassigned. Letters stay letters; nothing is removed
    but what is beyond the limit. To clean what is clean changes nothing.

    Args:
        text: anything, of any length.
        limit: characters of the result at most; at least 1. What is cut off is replaced by an ellipsis.
    """
    short = text if len(text) <= limit else text[: limit - 1] + _CUT
    if short.isprintable():
        return short
    return "".join(letter if letter.isprintable() else _shown(letter) for letter in short)


def cleaned_all(value: Any, *, lines: Collection[str] = (), limit: int = LIMIT) -> Any:  # noqa: ANN401 - any JSON
    """A JSON value with every text in it cleaned, names included.

    Args:
        value: what JSON can say.
        lines: names whose texts keep their line ends; each line is cleaned.
        limit: as of `cleaned`.
    """
    if isinstance(value, str):
        return cleaned(value, limit)
    if isinstance(value, list):
        return [cleaned_all(inner, lines=lines, limit=limit) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        cleaned(name, limit): "\n".join(cleaned(line, limit) for line in inner.split("\n"))
        if name in lines and isinstance(inner, str)
        else cleaned_all(inner, lines=lines, limit=limit)
        for name, inner in value.items()
    }


def _shown(letter: str) -> str:
    """What stands for a character that cannot be printed."""
    blank = ord(letter) < _C1_END or letter.isspace() or letter in _SEPARATORS
    return " " if blank else _UNSHOWN
