"""Text that others wrote, made fit to be shown: one line, of visible characters, of bounded length."""

from collections.abc import Callable
from typing import Any

__all__ = ["LIMIT", "cleaned", "cleaned_all"]

LIMIT = 2000  #: characters that are kept of one text
_SEPARATORS = frozenset("\u2028\u2029")  #: they end a line
_C1_END = 0xA0
_UNSHOWN = "\ufffd"
_CUT = "…"
Cleaner = Callable[[str, str], str]  #: name, text -> the text as it may be shown


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


def _one_line(_name: str, text: str) -> str:
    return cleaned(text)


def cleaned_all(value: Any, text: Cleaner = _one_line, name: str = "") -> Any:  # noqa: ANN401 - JSON
    """A value of JSON with every text in it cleaned, names too.

    Args:
        value: what JSON can say.
        text: cleans one text, by the name that it stands under; the empty one in a list, and for names themselves.
        name: that the value stands under.
    """
    if isinstance(value, str):
        return text(name, value)
    if isinstance(value, list):
        return [cleaned_all(inner, text) for inner in value]
    if isinstance(value, dict):
        return {text("", key): cleaned_all(inner, text, key) for key, inner in value.items()}
    return value


def _shown(letter: str) -> str:
    """What stands for a character that cannot be printed."""
    blank = ord(letter) < _C1_END or letter.isspace() or letter in _SEPARATORS
    return " " if blank else _UNSHOWN
