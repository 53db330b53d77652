"""Text from other programs: characters that must not reach a terminal, a page or a log are replaced."""

import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.texts import LIMIT, cleaned, cleaned_all, long_texts

ANY_TEXT = st.text(st.characters(exclude_categories=()))  #: also lone surrogates
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY_TEXT, st.integers(1, 40))
@example("\x1b]8;;https://evil.test\x1b\\link\x1b]8;;\x1b\\", 2000)
@example("JOINED\nJOINED: all\r\n\x85\u2028\u2029", 2000)
@example("\ud800\udfff\U0010ffff\ue000\u202e\u2066\u200b\ufeff\u061c\x00\x7f\x9b", 2000)
def test_a_cleaned_text_is_one_line_of_visible_characters_and_bounded(text: str, limit: int) -> None:
    """For any text: the result has no invisible character, can be encoded, and stays the same when cleaned again."""
    shown = cleaned(text, limit)
    assert not INVISIBLE & {unicodedata.category(letter) for letter in shown}
    assert len(shown) == min(len(text), limit)
    assert len(shown.splitlines()) <= 1
    assert shown == shown.encode().decode()
    assert shown == cleaned(shown, limit)


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S"))))
def test_visible_text_is_unchanged(text: str) -> None:
    """Letters of every script, digits, punctuation and symbols are kept."""
    assert text == cleaned(text)


def test_every_character_of_unicode_is_shown_as_itself_a_blank_or_the_replacement_character() -> None:
    """All of them, one by one; a printable character (`str.isprintable`) never changes."""
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        assert cleaned(letter) in ((letter,) if letter.isprintable() else (" ", "\ufffd"))


@pytest.mark.parametrize("letter", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\x9b", "\xa0", "\u2028", "\u2029"])
def test_a_control_or_space_becomes_a_blank(letter: str) -> None:
    """One blank for one character."""
    assert "a b" == cleaned(f"a{letter}b")


@pytest.mark.parametrize(
    "letter", ["\ud800", "\u061c", "\u200b", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"]
)
def test_an_invisible_character_is_replaced_and_not_removed(letter: str) -> None:
    """A name with such a character stays different from the name without it."""
    assert "a\ufffdb" == cleaned(f"a{letter}b")


def test_a_long_text_is_cut_with_an_ellipsis() -> None:
    """At the limit the text is complete; beyond it the last character is an ellipsis."""
    assert "x" * LIMIT == cleaned("x" * LIMIT)
    assert "x" * (LIMIT - 1) + "…" == cleaned("x" * (LIMIT + 1))
    assert "…" == cleaned("ab", 1)


ANY_JSON = st.recursive(
    ANY_TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(ANY_JSON)
@example(['"C:\\Program Files\\x.exe"', "x" * (LIMIT + 1)])
@example(["x" * LIMIT, "\\\\" * 999])
def test_a_document_without_long_texts_would_not_change_when_cleaned(value: object) -> None:
    """And quotes and backslashes, which every path and program in Windows has, need no second look."""
    found = long_texts(json.dumps(value, ensure_ascii=False))
    if found == 0:
        assert value == cleaned_all(value)


@given(st.lists(st.text("ab", max_size=3).map(lambda text: text * (LIMIT // 2)) | st.just("x" * LIMIT), max_size=9))
def test_each_long_text_is_counted(texts: list[str]) -> None:
    """Those of the greatest length that can be shown are none of them."""
    assert sum(len(text) > LIMIT for text in texts) == long_texts(json.dumps(texts))


def test_quoted_programs_and_paths_are_clean() -> None:
    """As in the ImagePath of a service."""
    assert 0 == long_texts(json.dumps({"path": '"C:\\Program Files\\x.exe" /a', "more": "\\"}))
    assert 1 == long_texts(json.dumps(['"', "x" * (LIMIT + 1)]))
    assert long_texts(json.dumps("a\nb")) is None
