"""Paths of simulated machines."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.machine.errors import Refusal
from lab.machine.paths import WindowsPath, fold, plain_name

names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='<>:"/\\|?*'), min_size=1, max_size=40
)
good_names = names.filter(lambda name: plain_name(name) is None)


@given(st.lists(good_names, max_size=5))
def test_a_path_of_plain_names_is_kept_as_written(parts: list[str]) -> None:
    """Only the case of the drive changes."""
    text = "c:\\" + "\\".join(parts)
    path = WindowsPath.of(text)
    assert ("C:", tuple(parts), "C" + text[1:]) == (path.drive, path.parts, path.text)


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    """There is no other exception, and a valid path stays on its drive."""
    parts: tuple[str, ...] = ()
    with contextlib.suppress(Refusal):
        parts = WindowsPath.of(text).parts
    assert not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C:",
        "C:a",
        "a\\b",
        "\\a",
        "\\\\server\\share",
        "C:/a",
        "C:\\a/b",
        "C:\\a\\",
        "C:\\\\a",
        "C:\\.",
        "C:\\a\\..\\b",
        "C:\\a.",
        "C:\\a \\b",
        "C:\\a*",
        "C:\\a?",
        "C:\\a|b",
        'C:\\"a"',
        "C:\\<a>",
        "C:\\a:stream",
        "C:\\a\tb",
        "C:\\con",
        "C:\\NUL.txt",
        "C:\\a\\Com1.log\\b",
        "C:\\" + "a" * 256,
    ],
)
def test_an_unsafe_path_is_refused(text: str) -> None:
    """Relative, network, stream, device and wildcard paths are invalid."""
    with pytest.raises(Refusal):
        WindowsPath.of(text)


@pytest.mark.parametrize(
    "name", ["a[1].txt", "$x", "100%", "R&D", "it's", "`", "r\u00e9glages", "COM10", "CONSOLE", ".net"]
)
def test_an_unusual_but_plain_name_is_accepted(name: str) -> None:
    """Special characters of shells are ordinary in a path."""
    assert name == WindowsPath.of("C:\\" + name).name


@given(good_names)
def test_paths_are_equal_without_case(name: str) -> None:
    """A name and its folded form are the same path."""
    assert WindowsPath.of("C:\\" + name).key == (fold(name),)
    assert WindowsPath("C:", (name,), (fold(name),)) == WindowsPath("C:", ("other",), (fold(name),))


def test_folding_goes_character_by_character() -> None:
    """A letter whose upper case is two letters stays, like in NTFS."""
    assert "STRA\u00dfE \u00c9" == fold("stra\u00dfe \u00e9")


def test_a_path_knows_its_parent_and_children() -> None:
    """Parent of a child is the folder; the root is its own parent."""
    root = WindowsPath.of("C:\\")
    child = root.below("a\\B")
    assert ("C:\\a\\B", "B", root.child("A"), root) == (child.text, child.name, child.parent, root.parent)
