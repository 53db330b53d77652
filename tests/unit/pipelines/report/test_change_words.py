"""Changes of a node in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.change_words import by_file, files_written
from workers.records import Change

FOLDER = "C:\\site"


@pytest.mark.parametrize(
    ("what", "before", "after", "shown"),
    [
        ("removed", "", "18 certificate files", ("18 certificate files removed", "", "")),
        ("restored", "", "2400 certificate files", ("2,400 certificate files restored", "", "")),
        ("restored", "", "", ("restored", "", "")),
        ("copies", "6 right", "18 written of 24", ("copies: 18 of 24 files written, 6 were correct", "", "")),
        ("all nodes", "0 right", "345498 written of 345498", ("all nodes: 345,498 files written", "", "")),
        ("backups removed", "4000 files of 2026-11-26", "", ("backups removed: 4,000 files of 2026-11-26", "", "")),
        ("LoadBalanced", "0", "1", ("LoadBalanced", "0", "1")),
        ("encodedValue", "", "the certificate", ("encodedValue: the certificate", "", "")),
        (
            "restarted",
            "process 1, started 2026-11-26 11:49:21.623853+00:00",
            "process 2, started 2026-11-26T11:49:23.5901354Z",
            ("restarted", "process 1, started 2026-11-26 11:49:21 UTC", "process 2, started 2026-11-26 11:49:23 UTC"),
        ),
    ],
)  # fmt: skip
def test_a_change_is_one_sentence(what: str, before: str, after: str, shown: tuple[str, str, str]) -> None:
    """Counts are sentences, values stand before and after, thousands are separated, times have no fractions."""
    ((file, (words,)),) = by_file([Change(what=what, file=FOLDER, before=before, after=after)])
    assert (FOLDER, shown, False) == (file, words[:3], words.lines)


def test_a_difference_keeps_its_lines() -> None:
    """Lines that were changed since are shown as they are, also where one side is empty."""
    what = "changed since the run; restoring would change line 3"
    ((_, (words,)),) = by_file([Change(what=what, file=FOLDER, before="", after="a 1000 files\n b")])
    assert (what, "", "a 1000 files\n b", True) == words


@pytest.mark.parametrize(
    ("after", "count"),
    [
        ("18 written of 24", 18),
        ("1 certificate file", 1),
        ("7 certificate files", 7),
        ("1", None),
        ("x 7 written of 8", None),
    ],
)
def test_files_are_counted(after: str, count: int | None) -> None:
    """Only a change that counts certificate files has a number."""
    assert count == files_written(Change(what="restored", file=FOLDER, before="", after=after))


@given(st.lists(st.builds(Change, what=st.text("ab", min_size=1), file=st.sampled_from(["", "x", "y"]))))
def test_no_change_is_lost(changes: list[Change]) -> None:
    """Each change is listed once, under its file; the files are in the order in which they first occur."""
    shown = by_file(changes)
    assert list(dict.fromkeys(change.file for change in changes)) == [file for file, _ in shown]
    assert {file: [c.what for c in changes if c.file == file] for file, _ in shown} == {
        file: [words.text for words in of_file] for file, of_file in shown
    }
