"""The cluster as a value: nodes by name, and what each key of a cluster file may contain."""

import pytest

from tasks.cluster import Cluster
from tests.unit.pipelines.audit.bundled_run import the_cluster


def test_a_node_is_found_by_name_ignoring_case() -> None:
    """Any spelling of a name finds the node; an unknown name is an error."""
    cluster = the_cluster()
    assert cluster.nodes[2] == cluster.node("P1") == cluster.node("p1")
    with pytest.raises(KeyError):
        cluster.node("X9")


def test_a_copy_with_other_nodes_finds_those() -> None:
    """Nodes that were found before the copy was made do not stay in it."""
    cluster = the_cluster()
    assert "p1.example.net" == cluster.endpoint("P1").host
    moved = tuple(node.model_copy(update={"host": f"new-{node.host}"}) for node in cluster.nodes)
    assert "new-p1.example.net" == cluster.model_copy(update={"nodes": moved}).endpoint("P1").host
    assert "p1.example.net" == cluster.endpoint("P1").host
    assert cluster == the_cluster()


def test_names_that_differ_only_in_case_are_refused() -> None:
    """The message has each name once, however often it is repeated."""
    data = the_cluster().model_dump(mode="json")
    data["nodes"] += [{**data["nodes"][0], "name": "s1"}, {**data["nodes"][0], "name": "S1"}]
    with pytest.raises(ValueError, match=r"same name \(ignoring case\): S1$|same name \(ignoring case\): S1 "):
        Cluster.model_validate(data)
