"""The plan as a value: lookups, waves, totals, the worst case, and what is refused because of a read-only file."""

import itertools
from collections.abc import Sequence

import pytest

from pipelines.run.plan import NodePlan, Plan
from pipelines.run.planning import make_plan, obstacle
from tasks.cluster import Cluster
from tasks.documents import FamilyDigests
from tasks.ektron.certificates.family import KINDS
from tasks.ektron.facts.access import PlaceFacts
from tests.unit.pipelines.run.snapshots import recorded
from tests.unit.tasks.ektron.joined import HASHES, SERVICE, SITE, THUMBPRINT, changed, joined_node
from workers.records import Change

DIGESTS = FamilyDigests(
    hashes=HASHES, sizes={kind: 10**index for index, kind in enumerate(KINDS)}, thumbprint=THUMBPRINT
)
POOLS = {"P1": "web", "S1": "stage", "P2": "web", "S2": "stage", "P3": "shop"}


def cluster_of(nodes: Sequence[str] = ("S1", "S2", "P1", "P2"), **policy: object) -> Cluster:
    """A cluster of these nodes; the first letter of a name is its role."""
    roles = {"S": "staging", "P": "production"}
    return Cluster.model_validate(
        {
            "name": "c",
            "edition": "8.0",
            "origin": nodes[0],
            "site": {"path": SITE},
            "connection": {"user": "u", "secret": "env:SECRET"},
            "policy": policy,
            "nodes": [
                {"name": name, "host": f"{name}.test".lower(), "role": roles[name[0]], "pool": POOLS.get(name, "p")}
                for name in nodes
            ],
        }
    )


def node(name: str, *, changes: int = 0, restart: str = "", config: bool = False) -> NodePlan:
    """The plan of one node, with so many changes."""
    file = "C:\\x.CONFIG" if config else "C:\\x"
    return NodePlan(
        node=name,
        changes=(Change(what="w", file=file),) * changes,
        restart=restart,
        files=2 * changes,
        bytes=1_500_000 * changes,
        fingerprint="f",
    )


def plan_of(*parts: NodePlan, waves: tuple[tuple[str, ...], ...] = ()) -> Plan:
    """A plan of these nodes."""
    return Plan(cluster="c", nodes=parts, waves=waves, family={})


def test_a_node_is_found_by_its_name() -> None:
    """Its part and the number of its wave, from 1; a node that is in no wave has none."""
    plan = plan_of(node("A"), node("B", changes=1), node("C"), waves=(("A",), ("B",)))
    assert {name: part.node for name, part in plan.parts().items()} == {"A": "A", "B": "B", "C": "C"}
    assert plan.wave_numbers() == {"A": 1, "B": 2}


@pytest.mark.parametrize(("changes", "restart"), list(itertools.product([0, 1], ["", "why"])))
def test_an_empty_plan_has_neither_changes_nor_a_restart(changes: int, restart: str) -> None:
    """One node that needs something is enough."""
    part = node("B", changes=changes, restart=restart)
    assert part.empty is (not changes and not restart)
    assert plan_of(node("A"), part).empty is part.empty


def test_totals() -> None:
    """What is to be done in one line, with numbers that fit their nouns."""
    busy = plan_of(node("A"), node("B", changes=2, restart="why", config=True), node("C", changes=1))
    messages = (3 + 2 * 4) + (3 + 2 * 3)
    assert busy.totals == (
        f"3 changes on 2 of 3 nodes, 6 files (4.5 MB) to copy, 1 service restart, about {messages} messages"
    )
    assert plan_of(node("A"), node("B")).totals.startswith("nothing to do: all 2 nodes are as they should be")
    assert plan_of(node("A")).totals == "nothing to do: the node is as it should be"


def test_a_plan_counts_the_files_and_bytes_to_copy() -> None:
    """Missing and differing files, in every folder; the origin has the configurator's folder, too."""
    cluster, nodes = cluster_of(), ("S1", "S2", "P1", "P2")
    facts = {name: joined_node(name, origin=name == "S1") for name in nodes}
    assert make_plan(cluster, facts, DIGESTS).empty
    last = KINDS[-1]
    other = facts["P1"].service_family[last].model_copy(update={"differing": {"S2": "00" * 32}})
    facts["P1"] = changed(facts["P1"], service_family={**facts["P1"].service_family, last: other}, staging_family={})
    facts["S1"] = changed(facts["S1"], configurator_family={}, web_root_family={})
    plan = make_plan(cluster, facts, DIGESTS)
    counts = {part.node: (part.files, part.bytes) for part in plan.nodes}
    assert counts == {
        "S1": (27, 4 * 111_111 + 111),
        "S2": (0, 0),
        "P1": (7, 111_111 + 100_000),
        "P2": (0, 0),
    }


def test_nodes_without_facts_are_not_in_the_plan() -> None:
    """The others are, in the cluster's order, with the waves made of them."""
    facts = {name: joined_node(name) for name in ("P2", "S2")}
    plan = make_plan(cluster_of(), facts, DIGESTS)
    assert ([part.node for part in plan.nodes], plan.waves) == (["S2", "P2"], (("S2",), ("P2",)))


def test_a_node_on_which_nothing_is_left_to_do_is_in_no_wave() -> None:
    """It is in the plan; the waves are of the others: changed, stopped, starting, or to be recorded."""
    cluster = cluster_of(("S1", "S2", "P1", "P2", "P3"), waves=[1, 2])
    names = cluster.node_names
    facts = {name: recorded(joined_node(name, names, origin=name == "S1")) for name in names}
    assert make_plan(cluster, facts, DIGESTS).waves == ()
    facts["S2"] = changed(facts["S2"], service__state="stopped")
    facts["P1"] = changed(facts["P1"], start_record=None)
    facts["P2"] = changed(facts["P2"], service__state="start_pending")
    plan = make_plan(cluster, facts, DIGESTS)
    assert names == tuple(part.node for part in plan.nodes)
    assert ["S2"] == [part.node for part in plan.nodes if not part.empty]
    assert plan.waves == (("S2",), ("P2", "P1"))


def test_a_read_only_file_is_named_only_where_it_has_to_be_changed() -> None:
    """Read-only and right is no obstacle; read-only and wrong is, with the remedy."""
    config = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
    readonly = changed(joined_node("P1"), service_config__file__readonly=True)
    wrong = changed(readonly, service_config__load_balanced="0")
    cluster = cluster_of(("S1", "P1"))
    texts = []
    for seen in (readonly, wrong):
        facts = {"P1": seen}
        texts.append(obstacle(cluster, make_plan(cluster, facts, DIGESTS), facts, DIGESTS))
    assert texts[0] == ""
    assert texts[1].startswith("P1: the file is read-only")
    assert config in texts[1]
    assert "attrib -r" in texts[1]


def test_a_certificate_file_that_cannot_be_replaced_is_named_with_the_number_of_the_others() -> None:
    """Only where it has to be replaced."""
    cluster, place = cluster_of(("S1", "P1")), PlaceFacts(path=SITE, refused=tuple(f"P1_{kind}" for kind in KINDS))
    right = changed(joined_node("P1", ("S1", "P1")), places=(place,))
    wrong = changed(right, web_root_family=dict.fromkeys(right.web_root_family, "00" * 32))
    texts = []
    for seen in (right, wrong):
        facts = {"P1": seen}
        texts.append(obstacle(cluster, make_plan(cluster, facts, DIGESTS), facts, DIGESTS))
    assert texts[0] == ""
    assert texts[1].startswith(rf"P1: the account may not replace {SITE}\P1_SyncClient.")
    assert " and 2 more like it; remove the read-only attribute (attrib -r), or give" in texts[1]


def test_a_disabled_service_is_named_only_where_it_has_to_be_restarted() -> None:
    """It could be stopped, but not started again."""
    cluster = cluster_of(("S1", "P1"))
    right = changed(recorded(joined_node("P1", ("S1", "P1"))), service__start_type="disabled")
    wrong = changed(right, service_config__load_balanced="0")
    texts = []
    for seen in (right, wrong):
        facts = {"P1": seen}
        texts.append(obstacle(cluster, make_plan(cluster, facts, DIGESTS), facts, DIGESTS))
    assert texts[0] == ""
    assert texts[1].startswith("P1: the service EktronWindowsServices30 is disabled")
    assert "sc config" in texts[1]
