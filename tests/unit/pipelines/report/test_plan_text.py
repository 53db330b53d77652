"""A plan as text: nodes with equal plans together, names that can be copied, what each wave does, who is left out."""

from pipelines.report.plan_text import plan_lines
from pipelines.run.plan import NodePlan, Plan
from tests.unit.pipelines.report.sample_run import cluster_of
from workers.records import Change

PATH = r"C:\Program Files\Ektron\web.config"


def needs(node: str, *, config: bool = True, files: int = 0, restart: str = "") -> NodePlan:
    """A node that needs its own certificate in a configuration file, and perhaps more."""
    change = Change(what="clientCertificate", file=PATH, before="", after=f"{node}_SyncClient.pfx")
    changes = (change,) if config else ()
    return NodePlan(node=node, changes=changes, files=files, restart=restart, fingerprint="0" * 64)


def lines_of(*parts: NodePlan, waves: tuple[tuple[str, ...], ...], only: tuple[str, ...] = ()) -> list[str]:
    """The plan of a cluster with S1, S2, P1 and P2."""
    return plan_lines(cluster_of(), Plan(cluster="shop", nodes=parts, waves=waves, family={}), only)


def test_a_single_node_has_its_own_names() -> None:
    """What is printed is what will be in the file; no placeholder."""
    text = "\n".join(lines_of(needs("S1"), waves=(("S1",),)))
    assert '~ clientCertificate: nothing -> "S1_SyncClient.pfx"' in text
    assert "NODE" not in text


def test_equal_plans_share_one_text_with_a_placeholder_that_is_explained() -> None:
    """Three nodes that differ only in their own name are one group; nothing reads `<node>`."""
    text = "\n".join(lines_of(needs("S2"), needs("P1"), needs("P2"), waves=(("S2",), ("P1", "P2"))))
    assert "S2, P1, P2 (wave 1, 2) (NODE is each node's own name)" in text
    assert '-> "NODE_SyncClient.pfx"' in text
    assert "<" not in text


def test_each_wave_names_its_steps() -> None:
    """On how many nodes each step has something to do; a step without work is not named."""
    first = needs("S1", files=6, restart="because")
    lines = lines_of(first, needs("S2"), needs("P1", config=False), waves=(("S1", "S2"), ("P1",)))
    assert "wave-1  S1, S2: config_edit on 2, cert_copy on 1, service_restart on 1" in lines
    assert "wave-2  P1: nothing to do" in lines
    assert any(line.startswith("Each step checks its node before and after") for line in lines)


def test_nodes_without_a_plan_are_named_with_the_reason() -> None:
    """Those that were not selected, apart from those that could not be checked."""
    lines = lines_of(needs("S1"), waves=(("S1",),), only=("S1", "S2"))
    assert "P1, P2: not selected" in lines
    assert "S2: no plan, because these nodes could not be checked" in lines
    assert not any("not selected" in line for line in lines_of(needs("S1"), waves=(("S1",),)))


def test_the_totals_are_not_repeated() -> None:
    """The end of the run shows them; the plan itself does not."""
    assert not any("messages" in line for line in lines_of(needs("S1"), waves=(("S1",),)))
