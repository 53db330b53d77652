"""Text that others wrote: what becomes of every character that must not reach a terminal, a page or a log."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.texts import LIMIT, cleaned

ANY_TEXT = st.text(st.characters(exclude_categories=()))  #: lone surrogates, too
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY_TEXT, st.integers(1, 40))
@example("\x1b]8;;https://evil.test\x1b\\link\x1b]8;;\x1b\\", 2000)
@example("JOINED\nJOINED: all\r\n\x85\u2028\u2029", 2000)
@example("\ud800\udfff\U0010ffff\ue000\u202e\u2066\u200b\ufeff\u061c\x00\x7f\x9b", 2000)
def test_a_cleaned_text_is_one_line_of_visible_characters_and_bounded(text: str, limit: int) -> None:
    """Whatever comes in: nothing unseen goes out, it can be encoded, and cleaning it again changes nothing."""
    shown = cleaned(text, limit)
    assert not UNSEEN & {unicodedata.category(letter) for letter in shown}
    assert len(shown) == min(len(text), limit)
    assert len(shown.splitlines()) <= 1
    assert shown == shown.encode().decode()
    assert shown == cleaned(shown, limit)


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S"))))
def test_visible_text_stays_as_it_is(text: str) -> None:
    """Letters of every script, digits, punctuation and symbols are kept."""
    assert text == cleaned(text)


def test_every_character_of_unicode_is_shown_as_itself_a_blank_or_the_replacement_character() -> None:
    """All of them, one by one; what `str.isprintable` calls printable is never touched."""
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        assert cleaned(letter) in ((letter,) if letter.isprintable() else (" ", "\ufffd"))


@pytest.mark.parametrize("letter", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\x9b", "\xa0", "\u2028", "\u2029"])
def test_what_moves_the_cursor_becomes_a_blank(letter: str) -> None:
    """One blank for one character."""
    assert "a b" == cleaned(f"a{letter}b")


@pytest.mark.parametrize(
    "letter", ["\ud800", "\u061c", "\u200b", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"]
)
def test_what_cannot_be_seen_leaves_a_trace(letter: str) -> None:
    """A name with such a character does not turn into the name without it."""
    assert "a\ufffdb" == cleaned(f"a{letter}b")


def test_a_long_text_is_cut_with_an_ellipsis() -> None:
    """At the limit it is whole, beyond it the last character says that more was there."""
    assert "x" * LIMIT == cleaned("x" * LIMIT)
    assert "x" * (LIMIT - 1) + "…" == cleaned("x" * (LIMIT + 1))
    assert "…" == cleaned("ab", 1)
