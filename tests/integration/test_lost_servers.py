"""Servers that are lost or replaced: another node becomes the origin; a plan names each node that it cannot see."""

from collections.abc import Iterator

import pytest

from pipelines.usecases import runs
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tests.integration.one_process import Esync, families_known
from tests.integration.test_renewal import a_cluster
from workers.records import Verdict


@pytest.fixture
def esync() -> Iterator[Esync]:
    """A joined cluster with the origin S1."""
    with families_known():
        made = Esync(a_cluster())
        assert made.rollout().record.verdict is Verdict.JOINED
        yield made
        made.close()


def with_origin(cluster: Cluster, origin: str, *without: str) -> Cluster:
    """The cluster file after the change of a person: another origin, without the lost server."""
    nodes = tuple(node for node in cluster.nodes if node.name not in without)
    return cluster.model_copy(update={"origin": origin, "nodes": nodes})


def done(esync: Esync, cluster: Cluster, kind: str = "rollout") -> RunSummary:
    """A complete run of that cluster."""
    return esync.ended(runs.start(esync.engine, cluster, kind=kind))


@pytest.mark.parametrize("heir", ["S2", "P1"])
def test_any_node_takes_over_when_the_origin_is_lost(esync: Esync, heir: str) -> None:
    """No certificates are asked for or made: the living family moves, no other server changes, the rest is joined."""
    moved = with_origin(esync.cluster, heir, "S1")
    plan = done(esync, moved, "plan")
    assert Verdict.CHANGES_PENDING is plan.record.verdict, plan.record.summary
    assert plan.plan is not None
    changed = {part.node for part in plan.plan.nodes if part.changes}
    assert {heir} == changed
    before = dict(plan.plan.family)
    joined = done(esync, moved)
    assert Verdict.JOINED is joined.record.verdict, joined.record.summary
    assert joined.plan is not None
    assert before == joined.plan.family
    machine = esync.servers[heir]
    folder = machine.product.edition.configurator_folder
    assert {f"{name}_SyncClient.pfx" for name in moved.node_names} <= set(machine.disk.names(folder))
    assert Verdict.NOTHING_TO_DO is done(esync, moved, "plan").record.verdict


def test_a_new_origin_without_the_living_family_still_stops_at_the_gate(esync: Esync) -> None:
    """One of its files is missing, or its service trusts another certificate: nothing is written."""
    machine = esync.servers["P1"]
    folder = machine.product.edition.service_folder
    machine.disk.remove(folder.child("P1_SyncServer.pvk"))
    stopped = done(esync, with_origin(esync.cluster, "P1", "S1"))
    assert Verdict.STOPPED is stopped.record.verdict
    assert "P1 has no certificate family" in stopped.record.summary


def test_a_server_replaced_by_an_empty_one_is_not_as_it_should_be(esync: Esync) -> None:
    """The plan says so and exits 6; with the product installed again it plans everything for that server."""
    fresh = esync.replace("P1")
    plan = esync.rollout(kind="plan")
    assert (Verdict.INCONCLUSIVE, 6) == (plan.record.verdict, plan.record.verdict and plan.record.verdict.exit_code)
    assert "P1 could not be checked" in plan.record.summary
    assert plan.plan is not None
    assert (("P1",), True) == (plan.plan.unseen, "not checked: P1" in plan.plan.totals)
    fresh.install("8.5", esync.cluster.site.path, "production")
    again = esync.rollout(kind="plan")
    assert Verdict.CHANGES_PENDING is again.record.verdict, again.record.summary
    assert again.plan is not None
    assert {"P1"} == {part.node for part in again.plan.nodes if part.changes}
