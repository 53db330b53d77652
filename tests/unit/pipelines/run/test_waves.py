"""Which nodes are in work together: waves, their order, half of a pool at most, limits by label, the worst case."""

import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.run.plan import waves_of
from pipelines.run.waves import admitted, limits, worst_case
from tasks.cluster import Cluster
from tests.sampling import examples

POOLS = {"P1": "web", "S1": "stage", "P2": "web", "S2": "stage", "P3": "shop"}


def cluster_of(pools: dict[str, str], labels: dict[str, dict[str, str]] | None = None, /, **policy: object) -> Cluster:
    """A cluster of these nodes, each with its pool; the first letter of a name is its role."""
    roles = {"S": "staging", "P": "production"}
    return Cluster.model_validate(
        {
            "name": "c",
            "edition": "8.0",
            "origin": next(iter(pools)),
            "site": {"path": r"C:\site"},
            "connection": {"user": "u", "secret": "env:SECRET"},
            "policy": policy,
            "nodes": [
                {
                    "name": name,
                    "host": f"{name}.test".lower(),
                    "role": roles[name[0]],
                    "pool": pool,
                    "labels": (labels or {}).get(name, {}),
                }
                for name, pool in pools.items()
            ],
        }
    )


def lists(waves: Sequence[Sequence[str]]) -> list[list[str]]:
    """For comparing."""
    return [list(wave) for wave in waves]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", [["P1", "S1", "P2", "S2", "P3"]]),
        ("pools", [["S1", "S2"], ["P1", "P2"], ["P3"]]),
        ([1, 2], [["P1"], ["S1", "P2"], ["S2", "P3"]]),
        ([2], [["P1", "S1"], ["P2", "S2"], ["P3"]]),
        (["25%", "100%"], [["P1", "S1"], ["P2", "S2", "P3"]]),
        (["1%", 3], [["P1"], ["S1", "P2", "S2"], ["P3"]]),
        (["20%"], [["P1"], ["S1"], ["P2"], ["S2"], ["P3"]]),
        ([1, "40%", 9], [["P1"], ["S1", "P2"], ["S2", "P3"]]),
    ],
)
def test_waves_have_the_sizes_of_the_policy(policy: object, expected: list[list[str]]) -> None:
    """Staging pools first; sizes in turn, the last one repeated; a share is of all nodes, and at least one node."""
    cluster = cluster_of(POOLS, waves=policy, whole_pool=True)
    assert lists(waves_of(cluster, cluster.node_names, cluster.node_names)) == expected
    assert waves_of(cluster, (), ()) == ()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", [["P1", "S1", "P3"], ["P2", "S2"]]),
        ("pools", [["S1"], ["S2"], ["P1"], ["P2"], ["P3"]]),
        ([3, 2], [["P1", "S1"], ["P2"], ["S2", "P3"]]),
    ],
)
def test_a_wave_restarts_half_of_a_pool_unless_the_policy_says_otherwise(
    policy: object, expected: list[list[str]]
) -> None:
    """A pool of one server is restarted; nodes that need no restart do not count."""
    cluster = cluster_of(POOLS, waves=policy)
    assert lists(waves_of(cluster, cluster.node_names, cluster.node_names)) == expected
    assert lists(waves_of(cluster, cluster.node_names, ["S1", "P2"])) == lists(
        waves_of(cluster_of(POOLS, waves=policy, whole_pool=True), cluster.node_names, ())
    )


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", [["P2", "S1", "P3"], ["P1", "S2"]]),
        ("pools", [["S1"], ["S2"], ["P2"], ["P1"], ["P3"]]),
        ([1, "100%"], [["P2"], ["S1", "P1", "P3"], ["S2"]]),
    ],
)
def test_a_server_that_is_down_begins_before_the_others_of_its_pool(policy: object, expected: list[list[str]]) -> None:
    """The other one serves alone until then: its restart would take the pool down as a whole."""
    cluster = cluster_of(POOLS, waves=policy)
    assert lists(waves_of(cluster, cluster.node_names, cluster.node_names, down=["P2"])) == expected
    anyhow = cluster_of(POOLS, waves="all", whole_pool=True)
    assert [["P2", "S1", "P1", "S2", "P3"]] == lists(
        waves_of(anyhow, anyhow.node_names, anyhow.node_names, down=["P2"])
    )


def test_the_order_may_be_that_of_pools_or_of_a_label() -> None:
    """Nodes with the same value follow each other, in the order of the file; without the label they come last."""
    racks = {"P1": {"rack": "r2"}, "S1": {"rack": "r1"}, "S2": {"rack": "r2"}, "P3": {"rack": "r1"}}
    by_rack = cluster_of(POOLS, racks, waves=[2], order="rack", whole_pool=True)
    assert lists(waves_of(by_rack, by_rack.node_names, ())) == [["P1", "S2"], ["S1", "P3"], ["P2"]]
    by_pool = cluster_of(POOLS, waves=[2], order="pool", whole_pool=True)
    assert lists(waves_of(by_pool, by_pool.node_names, ())) == [["S1", "S2"], ["P1", "P2"], ["P3"]]


@pytest.mark.parametrize("policy", [{"order": "rack"}, {"at_most": {"rack": 2}}])
def test_a_label_of_the_policy_has_to_be_one_of_a_node(policy: dict[str, object]) -> None:
    """A misspelt one would limit nothing."""
    with pytest.raises(ValueError, match="no node has a label 'rack'"):
        cluster_of(POOLS, None, **policy)


def test_a_label_cannot_have_a_name_of_the_policy_itself() -> None:
    """`order: pool` would have two meanings."""
    with pytest.raises(ValueError, match="a label cannot have the name pool"):
        cluster_of(POOLS, {"P1": {"pool": "r1"}})


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Up to 12 nodes in up to 3 pools and racks, with any policy of waves."""
    count = draw(st.integers(1, 12))
    role = draw(st.lists(st.sampled_from("SP"), min_size=count, max_size=count))
    pools = {f"{one}{n}": f"{one}{draw(st.integers(1, 2))}" for n, one in enumerate(role)}
    values = st.dictionaries(st.sampled_from(["rack", "site"]), st.sampled_from(["a", "b", "c"]), max_size=2)
    labels = {name: draw(values) for name in pools}
    used = sorted({label for own in labels.values() for label in own} | {"pool"})
    return cluster_of(
        pools,
        labels,
        waves=draw(st.sampled_from(["pools", "all", (1, "50%"), (3,), (2, "100%")])),
        order=draw(st.sampled_from(["file", *used])),
        at_most=draw(st.dictionaries(st.sampled_from(used), st.integers(1, 3), max_size=2)),
        whole_pool=draw(st.booleans()),
        concurrency=draw(st.integers(1, 5)),
    )


@settings(max_examples=examples(1000, 25))
@given(cluster=clusters(), data=st.data())
def test_every_node_is_in_one_wave_and_no_pool_is_down_as_a_whole(cluster: Cluster, data: st.DataObject) -> None:
    """Whatever is there and has to be restarted: at most half of the pool's servers that work, at least one.

    Those that are down have begun before.
    """
    names = [name for name in cluster.node_names if data.draw(st.booleans())]
    restarted = {name for name in names if data.draw(st.booleans())}
    down = {name for name in names if data.draw(st.integers(0, 3)) == 0}
    waves = waves_of(cluster, names, restarted, down=down)
    assert sorted(names) == sorted(node for wave in waves for node in wave)
    assert all(waves)
    if cluster.policy.whole_pool:
        return
    sizes, begun = Counter(cluster.node(name).pool for name in names if name not in down), set[str]()
    for wave in waves:
        pools = Counter(cluster.node(name).pool for name in wave if name in restarted - down)
        for pool, count in pools.items():
            assert count <= max(1, sizes[pool] // 2)
            assert begun >= down.intersection(cluster.pool_members(pool))
        begun.update(wave)


@settings(max_examples=examples(1000, 25))
@given(cluster=clusters(), data=st.data())
def test_never_more_of_a_label_in_work_and_always_somebody(cluster: Cluster, data: st.DataObject) -> None:
    """Nodes begin when they may and finish in any order: the limits hold at every moment, and all nodes finish.

    Who may begin once, still may when others have finished: messages that are sent again break no limit.
    """
    left, begun = list(cluster.node_names), set[str]()
    while left:
        ready = admitted(cluster, cluster.node_names, left)
        assert ready
        assert begun <= set(ready)
        begun |= {name for name in ready if data.draw(st.booleans())} or {ready[0]}
        for label, most in cluster.policy.at_most.items():
            values = Counter(cluster.node(name).label(label) for name in begun)
            assert all(count <= most for value, count in values.items() if value)
        finished = data.draw(st.sampled_from(sorted(begun)))
        begun.remove(finished)
        left.remove(finished)


def test_a_label_whose_places_are_taken_keeps_no_place_of_another_label() -> None:
    """Two racks of a room, and two of another: a node that waits for its rack keeps no place of its room."""
    racks = {f"P{n}": {"rack": f"r{n // 4}", "room": f"m{n // 8}"} for n in range(16)}
    nested = cluster_of(dict.fromkeys(racks, "p"), racks, at_most={"rack": 1, "room": 2})
    assert ["P0", "P4", "P8", "P12"] == admitted(nested, nested.node_names, nested.node_names)
    slow = [name for name in nested.node_names if name not in {"P4", "P5", "P6"}]
    assert ["P0", "P7", "P8", "P12"] == admitted(nested, nested.node_names, slow)
    crossing = {"P1": {"rack": "r1"}, "P2": {"rack": "r1", "room": "m1"}, "P3": {"room": "m1"}}
    crossed = cluster_of(dict.fromkeys(crossing, "p"), crossing, at_most={"rack": 1, "room": 1})
    assert ["P1", "P3"] == admitted(crossed, crossed.node_names, crossed.node_names)


@settings(max_examples=examples(500, 25))
@given(data=st.data())
def test_no_place_is_idle_where_one_label_is_within_the_other(data: st.DataObject) -> None:
    """Every node that would break no limit is in work, whichever nodes are slow."""
    racks = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=16))
    labels = {f"P{n}": {"rack": f"r{rack}", "room": f"m{rack % 2}"} for n, rack in enumerate(racks)}
    most = {label: data.draw(st.integers(1, 4)) for label in ("rack", "room")}
    cluster = cluster_of(dict.fromkeys(labels, "p"), labels, at_most=most)
    left = list(cluster.node_names)
    while left:
        begun = admitted(cluster, cluster.node_names, left)
        used = Counter(shared for name in begun for shared in limits(cluster, name))
        assert not [n for n in left if n not in begun and all(used[one] < most[one[0]] for one in limits(cluster, n))]
        left.remove(data.draw(st.sampled_from(begun)))


@pytest.mark.parametrize(
    ("nodes", "waves", "policy", "steps"),
    [
        (1, [1], {"concurrency": 1}, 1 + 2 + 4),
        (4, [4], {}, 1 + 2 + 4),
        (5, [5], {}, 1 + 4 + 8),
        (4, [2, 2], {}, 1 + 2 + 8 + 1),
        (4, [3, 1], {"concurrency": 2}, 1 + 4 + 12 + 2),
        (4, [], {}, 1 + 2),
        (4, [4], {"at_most": {"pool": 1}}, 1 + 2 + 16),
        (4, [4], {"at_most": {"pool": 3}}, 1 + 2 + 8),
        (4, [2, 2], {"retry_in_wave": 1}, 1 + 2 + 16 + 2),
    ],
)
def test_the_worst_case_is_every_deadline_used_up(
    nodes: int, waves: list[int], policy: dict[str, object], steps: int
) -> None:
    """The first logon, two looks at all nodes, four steps a wave and a look after it; each as often as limits say."""
    names = [f"S{n}" for n in range(nodes)]
    known: dict[str, object] = {"concurrency": 4, "retry_in_wave": 0, "deadlines": {"step": 10}} | policy
    cluster = cluster_of(dict.fromkeys(names, "p"), None, **known)
    assert worst_case(cluster, [names[:size] for size in waves]) == 10 * steps


def test_the_worst_case_of_a_thousand_nodes_that_wait_for_each_other_costs_little() -> None:
    """A plan shows it: round by round it took ten seconds."""
    names = [f"S{n}" for n in range(1000)]
    cluster = cluster_of(dict.fromkeys(names, "p"), None, at_most={"pool": 1}, deadlines={"step": 0.5, "run": 86400})
    begun = time.process_time()
    assert worst_case(cluster, [names]) == 0.5 * (1 + 2 * 20 + 2 * 4 * 1000)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(("bound", "worst"), [(70, 70), (71, 70), (69, 69)])
def test_the_worst_case_is_no_longer_than_the_deadline_of_the_run(bound: int, worst: int) -> None:
    """At the deadline of the run it is over, and not before."""
    cluster = cluster_of(POOLS, retry_in_wave=0, deadlines={"step": 10, "run": bound})
    assert worst_case(cluster, [["S1"]]) == worst
