"""Which nodes may leave a cluster, and what is refused before any server is contacted."""

import pytest

from pipelines.usecases.retire import leaving, options_of
from tasks.cluster import Cluster
from tests.unit.pipelines.run.snapshots import a_cluster, numbered
from workers.errors import InputRefused

CLUSTER = a_cluster(numbered(3))
WITH_PARTNER = Cluster.model_validate(CLUSTER.model_dump() | {"partners": ("X1",)})


def test_a_node_of_the_file_leaves() -> None:
    """Its name is that of the file; the cluster is as it was."""
    assert leaving(CLUSTER, "n3") == (CLUSTER, "N3")


def test_a_node_that_is_not_in_the_file_any_more_is_reached_at_its_host() -> None:
    """With the account of the cluster."""
    whole, name = leaving(CLUSTER, "P9", "10.0.0.9")
    assert name == "P9"
    assert whole.node_names == (*CLUSTER.node_names, "P9")
    assert (whole.endpoint("P9").host, whole.endpoint("P9").user) == ("10.0.0.9", "svc")


@pytest.mark.parametrize(
    ("cluster", "name", "host", "words"),
    [
        (CLUSTER, "P9", "", "P9"),
        (CLUSTER, "N1", "", "is the origin"),
        (CLUSTER, "N2", "10.0.0.2", "has its host already"),
        (WITH_PARTNER, "x1", "10.0.0.2", "is a partner"),
        (CLUSTER, "P9", "https://10.0.0.2", "cannot be a node"),
        (CLUSTER, "a name that is too long", "10.0.0.2", "cannot be a node"),
    ],
)
def test_what_is_refused(cluster: Cluster, name: str, host: str, words: str) -> None:
    """With a reason and what to do."""
    with pytest.raises(InputRefused, match=words) as caught:
        leaving(cluster, name, host)
    assert caught.value.remedy


def test_force_is_an_option_of_the_run() -> None:
    """A worker elsewhere decides by it."""
    assert (options_of(force=False), options_of(force=True)) == (("retire",), ("retire", "force"))
