"""Versions in every form in which the product and its manuals write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.versions import dotted, installed_version, is_older, most_exact, release_of, spelled

NUMBERS = st.lists(st.integers(0, 9999), min_size=2, max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("9.1.0.184", (9, 1, 0, 184)),
        ("9.1 (9.1.0.184) SP1 (.1) CU 4 (.304)", (9, 1, 0, 184)),
        ("9.1 (9.1.0.184) CU 4 (.304)", (9, 1, 0, 184)),
        ("8.0.1.087SP1.03", (8, 0, 1, 87)),
        ("CMS400 v8.5 SP2", (8, 5)),
        ("9", None),
        ("", None),
        (None, None),
        ("unknown", None),
    ],
)
def test_a_build_is_the_most_exact_number(text: str | None, build: tuple[int, ...] | None) -> None:
    """The dotted number with the most parts is the build, whatever stands around it."""
    assert installed_version(text) == build


@given(NUMBERS)
def test_a_build_is_read_as_it_is_written(build: tuple[int, ...]) -> None:
    """A build written as text is read back, also between other words."""
    assert installed_version(f"v{dotted(build)} SP1 (.1)") == build


@given(st.text(max_size=2000))
def test_any_text_is_read_without_an_error(text: str) -> None:
    """No text breaks the readers: what is no version is None, or empty."""
    installed_version(text)
    assert release_of(text) == "" or len(release_of(text)) == 3


@given(NUMBERS, NUMBERS)
def test_of_two_builds_at_most_one_is_older(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Only the parts that both have are compared; a release is not older than its own builds."""
    assert not (is_older(one, other) and is_older(other, one))
    assert not is_older(one[:1], one)
    assert not is_older(one, one[:1])


def test_the_longer_of_two_builds_says_more() -> None:
    """A text with the release only gives way to the version of the program; numbers of the generation do not count."""
    assert most_exact(("9.1", "9.1.0.184")) == (9, 1, 0, 184)
    assert most_exact(("9.1.0.184", "9.1.0.190")) == (9, 1, 0, 184)
    assert most_exact(("9.1", "4.0.0.0"), least=7) == (9, 1)
    assert most_exact((None, "4.0.0.0"), least=7) is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("8.02", "8.0"),
        ("8.61", "8.6"),
        ("8.6.1", "8.6"),
        ("9.00", "9.0"),
        ("9.10", "9.1"),
        ("v9.1.0.184", "9.1"),
        (" 8.5.0.356SP2.01", "8.5"),
        ("8.500", ""),
        ("10.1", ""),
        ("9", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_release_is_the_first_two_digits(text: str | None, release: str) -> None:
    """The second digit behind the dot is the third part of the version, as the vendor writes it."""
    assert release_of(text) == release


@pytest.mark.parametrize(
    ("one", "other"),
    [("8.0.1.087", "8.0.1.87 "), ("SP2", " sp2"), ("9.1 (9.1.0.0184)  SP1", "9.1 (9.1.0.184) sp1"), ("", " ")],
)
def test_two_spellings_of_one_version_are_equal(one: str, other: str) -> None:
    """Leading zeros in builds, blanks and case do not count."""
    assert spelled(one) == spelled(other)


@pytest.mark.parametrize(
    ("one", "other"), [("8.05", "8.5"), ("8.50", "8.5"), ("8.0.1.87", "8.0.1.870"), ("SP1", "SP2")]
)
def test_two_versions_stay_different(one: str, other: str) -> None:
    """A zero in a release, or at an end, counts."""
    assert spelled(one) != spelled(other)
