"""How many certificate files a plan says are to be copied."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.run.plan import _lacking
from tasks.ektron.facts import Spread

NODES = ("S1", "S2", "P1", "P2", "P3")


@given(st.dictionaries(st.sampled_from(NODES), st.sampled_from(["a", "b", "c"])), st.sampled_from(["a", "b", "c"]))
def test_counted_is_what_looking_at_each_name_gives(there: dict[str, str], wanted: str) -> None:
    """Whatever lies in a folder, the count is that of the names without the wanted file."""
    spread = Spread.of(there, NODES)
    assert sum(1 for node in NODES if there.get(node) != wanted) == _lacking(spread, wanted, len(NODES))


def test_a_folder_nobody_saw_lacks_everything() -> None:
    """Without any knowledge of a kind all of its files are to be copied."""
    assert len(NODES) == _lacking(None, "a", len(NODES))
