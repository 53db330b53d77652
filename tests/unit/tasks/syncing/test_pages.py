"""What a site answers in place of a handler, as part of a sentence."""

import time

import pytest

from tasks.syncing.pages import shown


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><TITLE lang='en'>\n Back  soon </title>", "; it is the page 'Back soon'"),
        (b"<html><title></title>gone", "; it begins with '<html><title></title>gone'"),
        (b"  not\nJSON ", "; it begins with 'not JSON'"),
        (b"", ""),
    ],
)
def test_a_page_is_named_by_its_title_or_its_beginning(body: bytes, said: str) -> None:
    """In one line."""
    assert said == shown(body)


@pytest.mark.parametrize("piece", [b"<title", b"<title ", b"<title>", b"<title>x</titl"])
def test_the_time_grows_with_the_size_of_the_page_only(piece: bytes) -> None:
    """A page of a megabyte takes no second, whatever is in it."""
    begun = time.process_time()
    shown(piece * (1_000_000 // len(piece)))
    assert time.process_time() - begun < 1
