"""The hosts in the cluster file are for esync: nodes may know each other only under their own names."""

from collections.abc import Callable

import pytest

from tasks.cluster import Cluster
from tests.integration.one_process import Esync, families_known
from tests.integration.restart_deaths import esync_of
from workers.records import Verdict

REACH = "network.reach-8732-all-pairs"


def at_hosts(esync: Esync, host_of: Callable[[int], str]) -> None:
    """The cluster file with other hosts, each with a port of its own."""
    data = esync.cluster.model_dump()
    for at, node in enumerate(data["nodes"]):
        node |= {"host": host_of(at), "connection": {"port": 15986 + at}}
    esync.cluster = Cluster.model_validate(data)


@pytest.mark.parametrize(
    "host_of",
    [
        pytest.param(lambda at: f"vm-{at}.cloud.example", id="public addresses"),
        pytest.param(lambda _: "jump.example", id="ports of one host"),
        pytest.param(lambda _: "localhost", id="tunnels"),
    ],
)
def test_servers_reach_each_other_under_their_own_names(host_of: Callable[[int], str]) -> None:
    """Where no server can use the hosts, a rollout ends joined; and a closed way between two of them is found."""
    with families_known(), esync_of("8.5", retries={"failed": 1, "backoff": 0}) as esync:
        at_hosts(esync, host_of)
        assert esync.rollout().record.verdict is Verdict.JOINED
        esync.servers["S1"].network.cut.add(("S1", "S2"))
        run = esync.rollout(kind="verify")
    assert (run.record.verdict, run.findings is not None) == (Verdict.REFUTED, True)
    assert run.findings is not None
    assert run.findings.of(REACH).reasons == {"S2": "S1 cannot reach its port 8732"}
