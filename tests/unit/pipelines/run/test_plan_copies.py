"""How many certificate files a plan says are to be copied."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.desired.places import Place
from tasks.ektron.facts import Spread

NODES = ("S1", "S2", "P1", "P2", "P3")


def place_of(seen: dict[str, Spread]) -> Place:
    """A folder for the files of all nodes."""
    return Place(what="files", folder="C:\\x", nodes=NODES, kinds=("a.cer",), seen=seen)


@given(st.dictionaries(st.sampled_from(NODES), st.sampled_from(["a", "b", "c"])), st.sampled_from(["a", "b", "c"]))
def test_the_count_is_that_of_the_single_names(there: dict[str, str], desired: str) -> None:
    """The counts of missing and differing files are those of the names, for any content of a folder."""
    place = place_of({"a.cer": Spread.of(there, NODES)})
    assert sum(1 for node in NODES if node not in there) == place.missing("a.cer")
    assert sum(1 for node in NODES if there.get(node, desired) != desired) == place.differing("a.cer", desired)


def test_a_folder_without_facts_lacks_all_files() -> None:
    """Without any fact about a kind, all of its files are to be copied."""
    assert (len(NODES), 0) == (place_of({}).missing("a.cer"), place_of({}).differing("a.cer", "a"))
