"""The parser in C and the one in Python agree on every text that the first one is given."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster_file.positions import Document, Unreadable, parse

_PIECES = (
    *(
        "a",
        "b: ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "\n",
        "  ",
        "\n  ",
        "#x",
        "'",
        '"',
        "? ",
        "é",
        "---\n",
        "...\n",
    ),
    *(
        "0o17",
        "012",
        "yes",
        "1:30",
        "~",
        "null",
        "<<: ",
        "\\n",
        "http://h:80/x",
        "C:\\x",
        "@",
        "`",
        "%",
        "a:b",
        "{a:b}",
    ),
    *("- -", ":x", '"\\/"', "\r\n", "\r", "1e3", ".inf", "1_000", "2020-01-01", "\u00a0", "\U0001f600", "env:X", "\a"),
)
#: A directive that changes nothing here; a text with one is read by the parser in Python.
_IN_PYTHON = "%YAML 1.2\n---\n"


_Place = tuple[tuple[str | int, ...], int, int]


def _read(text: str) -> Document | None:
    try:
        return parse(text)
    except Unreadable:
        return None


def _places(found: Document, data: Any, path: tuple[str | int, ...]) -> list[_Place]:  # noqa: ANN401 - JSON
    if isinstance(data, dict):
        return [place for key, value in data.items() for place in _places(found, value, (*path, key))]
    if isinstance(data, list):
        return [place for number, value in enumerate(data) for place in _places(found, value, (*path, number))]
    mark = found.find(path)[0].start_mark
    return [] if data is None else [(path, mark.line, mark.column)]


@given(st.lists(st.sampled_from(_PIECES), max_size=9).map("".join))
def test_both_parsers_agree(text: str) -> None:
    """Where the parser in C accepts a text, the one in Python reads the same values at the same positions."""
    if text.startswith("---") or (found := _read(text)) is None:
        return
    other = _read(_IN_PYTHON + text)
    assert other is not None
    assert repr(found.data) == repr(other.data)
    lines = _IN_PYTHON.count("\n")
    moved = [(path, line - lines, column) for path, line, column in _places(other, other.data, ())]
    assert _places(found, found.data, ()) == moved
