"""Text from other programs, made safe to show: one line, visible characters only, of bounded length."""

import re
from collections.abc import Callable
from typing import Any

__all__ = ["LIMIT", "cleaned", "cleaned_all", "escaped", "long_texts", "page_title"]

LIMIT = 2000  #: characters at most
_SEPARATORS = frozenset("\u2028\u2029")  #: they end a line
_C1_END = 0xA0
_REPLACEMENT = "\ufffd"
_ELLIPSIS = "…"
_TITLE = re.compile(r"<title[^<>]*>([^<]{1,500})", re.IGNORECASE)  # no part matches `<`: linear, whatever is sent
Cleaner = Callable[[str, str], str]  #: name, text -> the text as it may be shown


def cleaned(text: str, limit: int = LIMIT) -> str:
    """The text as one line that a terminal, a page and a log can show unchanged.

    Control characters (C0 and C1: escape, NUL, tab, line ends), line and paragraph separators and other spaces become
    a blank. Every other invisible character becomes U+FFFD, so that two names that look alike stay different: lone
    surrogates, bidirectional and other format characters (zero-width too), private use, unassigned. Nothing else
    changes, except that a text beyond the limit is cut. Cleaning a clean text changes nothing.

    Args:
        text: any text, of any length.
        limit: length of the result at most, at least 1. A text that is cut ends with an ellipsis.
    """
    short = text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS
    if short.isprintable():
        return short
    return "".join(character if character.isprintable() else _shown(character) for character in short)


def escaped(text: str, limit: int) -> str:
    """The first characters of a foreign text in quotes, with everything invisible written as an escape.

    Args:
        text: any text, of any length.
        limit: characters of the text at most; fewer where their escapes are longer than twice that. A text that is cut
            ends with an ellipsis.
    """
    shown = ""
    for count, character in enumerate(text):
        plain = character.isprintable()
        piece = character if plain else character.encode("unicode_escape", "surrogatepass").decode()
        if count >= limit or len(shown) + len(piece) > 2 * limit:
            return f"'{shown}{_ELLIPSIS}'"
        shown += piece
    return f"'{shown}'"


def _one_line(_name: str, text: str) -> str:
    return cleaned(text)


def cleaned_all(value: Any, text: Cleaner = _one_line, name: str = "") -> Any:  # noqa: ANN401 - JSON
    """A JSON value with every text in it cleaned, names of fields too.

    Args:
        value: any JSON value.
        text: cleans one text, given the name of its field; the name is empty in a list, and for a name itself.
        name: of the field that has the value.
    """
    if isinstance(value, str):
        return text(name, value)
    if isinstance(value, list):
        return [cleaned_all(inner, text) for inner in value]
    if isinstance(value, dict):
        return {text("", key): cleaned_all(inner, text, key) for key, inner in value.items()}
    return value


def long_texts(json_text: str) -> int | None:
    """How many texts in a JSON document may be too long to show; None if any text may have to be cleaned otherwise.

    With 0, `cleaned_all` would change nothing. It takes a fraction of the time.

    Args:
        json_text: the document as written by a JSON encoder.
    """
    plain = json_text.replace("\\\\", "//").replace('\\"', "//")  # both escaped characters can be shown
    if not plain.isprintable() or "\\" in plain:
        return None
    long = start = 0
    while len(plain) - start > LIMIT:  # what lies between two quotes; of the short ones all that fit are passed at once
        end = plain.rfind('"', start, start + LIMIT + 1)
        if end < 0:
            long += 1
            end = plain.find('"', start + LIMIT)
            if end < 0:
                break
        start = end + 1
    return long


def _shown(character: str) -> str:
    """The replacement of a character that cannot be printed."""
    blank = ord(character) < _C1_END or character.isspace() or character in _SEPARATORS
    return " " if blank else _REPLACEMENT


def page_title(page: str) -> str:
    """The title of a web page as it came, not cleaned; empty if it has none."""
    title = _TITLE.search(page)
    return title[1] if title else ""
