"""The failure table in docs/lab.md: every row of the known failures once, and what it names exists."""

import re

from lab.machine.faults import Faults
from lab.product.causes import CAUSES
from tests.places import ROOT
from tests.unit.lab.product.test_lab_sync_faults import FAULTS

PAGE = (ROOT / "docs" / "lab.md").read_text("utf-8")
_ROW = re.compile(r"^\| (\d+) \| (yes|no) \| (.+) \|$", re.MULTILINE)
ROWS = {int(row): (shown, how) for row, shown, how in _ROW.findall(PAGE)}
#: Rows with a test of their own in test_lab_sync_faults.py or test_lab_pages.py.
TESTED = {7, 8, 16, 26, 27, 28, 31, 32, 44, 47, 48, 50}


def test_the_table_has_all_fifty_rows() -> None:
    """Once each; a row that is not shown says why."""
    assert list(range(1, 51)) == list(ROWS)


def test_a_row_that_is_shown_has_a_test() -> None:
    """By number in the tests of faults and causes, or one of its own."""
    tested = {int(found[0]) for name in FAULTS if (found := re.match(r"\d+", name))}
    tested |= {cause.row for cause in CAUSES.values()} | TESTED
    assert {row for row, (shown, _) in ROWS.items() if shown == "yes"} == tested


def test_a_cause_stands_in_its_row() -> None:
    """With the name of its fault."""
    assert {f"`sync.fails={name}`" in ROWS[cause.row][1] for name, cause in CAUSES.items()} == {True}


def test_the_page_names_the_faults_of_sites_and_syncs_as_they_are() -> None:
    """Every field is in the page, and every name in the page is a field."""
    named = set(re.findall(r"(?:site|sync)\.[a-z_]+(?=[=`])", PAGE))
    fields = {f"{part}.{name}" for part in ("site", "sync") for name in type(getattr(Faults(), part)).model_fields}
    assert fields == named
