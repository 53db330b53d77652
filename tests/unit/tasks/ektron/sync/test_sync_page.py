"""The table of the known failures in docs/sync.md."""

from tests.places import ROOT
from tests.sync_page import PAGE, SEEN, table, with_table
from tests.unit.tasks.ektron.rules.failures import FAILURES


def test_the_page_has_the_present_table() -> None:
    """`python -m tests.sync_page docs` writes it."""
    page = (ROOT / "docs" / PAGE).read_text()
    assert with_table(page) == page


def test_every_row_is_shown_checked_attested_or_explained() -> None:
    """All 50 rows, none without a word."""
    rows = [line.strip("|").split("|") for line in table().splitlines()[2:]]
    assert list(range(1, 51)) == [int(row[0]) for row in rows] == list(FAILURES)
    assert [] == [row[0] for row in rows if not any(cell.strip() for cell in row[2:])]
    assert SEEN.keys() <= FAILURES.keys()
