"""The table of the bars: it says what is met, what is missed and by how much, and what was not measured."""

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BEGIN, END, document, fill_page, rows
from tests.benchmarks.bars import BARS, Bar, State, judged

AT_MOST = Bar("a", "a bound", 50, "ms")
AT_LEAST = Bar("b", "a bound", 50, "%", least=True)


@pytest.mark.parametrize(
    ("bar", "value", "state"),
    [
        (AT_MOST, 50, State.MET),
        (AT_MOST, 50.1, State.MISSED),
        (AT_LEAST, 50, State.MET),
        (AT_LEAST, 49.9, State.MISSED),
        (AT_MOST, None, State.NOT_MEASURED),
        (AT_MOST, "no Ansible", State.NOT_MEASURED),
    ],
)
def test_a_bar_is_met_up_to_its_limit(bar: Bar, value: float | str | None, state: State) -> None:
    """The limit itself keeps the bar; a value that could not be measured neither meets nor misses it."""
    assert bar.state(value) is state


def test_the_table_says_by_how_much() -> None:
    """A bar that is missed has its distance from the limit; a value without a number has its reason."""
    assert (AT_MOST.off(75), AT_LEAST.off(25)) == (50, 50)
    shown = {cells[0]: cells for cells in rows({"join.100.cpu": 130.0, "idle.cpu": 0.5, "ansible.cpu": "no Ansible"})}
    assert len(shown) == len(rows({})) == len(BARS)
    what = {bar.name: bar.what for bar in BARS}
    assert shown[what["join.100.cpu"]][1:] == ("<= 65 ms", "130 ms", "MISSED", "+100 %")
    assert shown[what["idle.cpu"]][2:] == ("0.5 %", "met", "")
    assert shown[what["ansible.cpu"]][2:] == ("no Ansible", "not measured", "")


def test_the_document_has_every_bar_and_every_value() -> None:
    """Also the bars that were not measured, and the values that have no bar."""
    told = document({"join.100.cpu": 60.0, "join.100.lab": 20.0})
    assert isinstance(told["bars"], dict)
    assert told["bars"].keys() == {bar.name for bar, _, _ in judged({})}
    assert (told["bars"]["join.100.cpu"]["state"], told["values"]) == ("met", {"join.100.lab": 20.0})


def test_the_table_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    """The rest of the page stays; a page without marks is refused."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    fill_page(page, {"join.100.cpu": 60.0})
    text = page.read_text()
    assert (text.startswith("before\n"), text.endswith(f"{END}\nafter\n"), "old" in text) == (True, True, False)
    assert "| <= 65 ms | 60 ms | met |" in text
    with pytest.raises(ValueError, match="has no <!-- measured"):
        fill_page(Path(__file__), {})
