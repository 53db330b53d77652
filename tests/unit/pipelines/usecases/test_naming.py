"""Nodes as operators name them: names and patterns, in any case; what fits nothing is refused with advice."""

import pytest

from pipelines.usecases.naming import one_node, selected_nodes
from tests.unit.pipelines.run.snapshots import a_cluster
from workers.errors import InputRefused

CLUSTER = a_cluster(["S1", "S2", "P1", "P2", "WEB-10"])


@pytest.mark.parametrize(
    ("given", "selected"),
    [
        ([], ()),
        (["p1"], ("P1",)),
        (["P*"], ("P1", "P2")),
        (["p?", "S1"], ("S1", "P1", "P2")),
        (["[sp]1"], ("S1", "P1")),
        (["*"], ("S1", "S2", "P1", "P2", "WEB-10")),
        (["web-*", "Web-10"], ("WEB-10",)),
    ],
)
def test_names_and_patterns_select_nodes(given: list[str], selected: tuple[str, ...]) -> None:
    """Each node once, in the order of the cluster file; case does not count."""
    assert selected == selected_nodes(CLUSTER, given)


@pytest.mark.parametrize(
    ("given", "unknown", "meant"),
    [
        (["P1", "X9"], "'X9'", ""),
        (["WEB-1"], "'WEB-1'", "did you mean WEB-10? "),
        (["Q*", "P1", "Z9"], "'Q*', 'Z9'", ""),
        (["P1,P2"], "'P1,P2'", "repeat the option for each node; "),
        ([""], "''", ""),
    ],
)
def test_what_fits_no_node_is_refused(given: list[str], unknown: str, meant: str) -> None:
    """All wrong names together; the remedy suggests a near one, and lists the nodes."""
    with pytest.raises(InputRefused) as caught:
        selected_nodes(CLUSTER, given)
    assert f"cluster shop has no node {unknown}; no server was contacted" == caught.value.message
    assert caught.value.remedy.startswith(f"{meant}Its nodes are " if "?" in meant or not meant else meant)
    assert "S1, S2, P1, P2, WEB-10" in caught.value.remedy


def test_many_nodes_are_not_all_listed() -> None:
    """The remedy stays one line for a cluster of hundreds of nodes."""
    with pytest.raises(InputRefused) as caught:
        selected_nodes(a_cluster([f"N{n}" for n in range(300)]), ["X"])
    assert "N0, N1, N2, N3, N4 and 295 more" in caught.value.remedy


def test_one_node_has_its_name_as_in_the_file() -> None:
    """A single name is no pattern; it is found in any case, and refused when there is none."""
    assert one_node(CLUSTER, "web-10") == "WEB-10"
    with pytest.raises(InputRefused, match=r"has no node 'P\*'"):
        one_node(CLUSTER, "P*")
