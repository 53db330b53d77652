"""A plan as text: nodes with equal plans together, names that can be copied, what each wave does, who is left out."""

import io

import pytest
from rich.console import Console

from pipelines.cli.console import print_text
from pipelines.report.plan_text import plan_lines
from pipelines.run.plan import NodePlan, Plan
from tests.unit.pipelines.report.sample_run import cluster_of
from tests.unit.pipelines.run.test_waves import cluster_of as labelled
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


def test_equal_plans_share_one_text_that_names_a_node() -> None:
    """Three nodes that differ only in their own name are one group, with the names of the first; no placeholder."""
    lines = lines_of(needs("S2"), needs("P1"), needs("P2"), waves=(("S2",), ("P1", "P2")))
    assert lines[0] == "S2, P1, P2 (wave 1, 2), shown as on S2; the others have their own names"
    assert '    ~ clientCertificate: nothing -> "S2_SyncClient.pfx"' in lines
    assert not any(mask in line for line in lines for mask in ("<", "NODE", "\ue000"))


@pytest.mark.parametrize("width", [20, 80])
def test_a_path_in_a_plan_is_never_broken(width: int) -> None:
    """Neither at its blanks nor in a word, so that it can be copied."""
    folder = r"C:\Ektron Security Certificates"
    screen = io.StringIO()
    text = f'    ~ folder: "{folder}" -> nothing and many more words, so that it is wrapped'
    print_text(Console(file=screen, force_terminal=True, width=width, color_system=None), f"  {folder}\n{text}")
    assert f"  {folder}" == screen.getvalue().splitlines()[0]
    assert f'"{folder}"' in screen.getvalue()


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


def test_a_plan_says_what_limits_its_waves() -> None:
    """Order, limits by label, half of a pool, holds, how many may fail; nothing where nothing is to be done."""
    labels = {"S1": {"rack": "r1"}}
    policy = {"order": "rack", "at_most": {"rack": 2}, "hold": "after-canary", "hold_for": 60}
    policy |= {"max_failed_per_wave": "50%", "max_unreachable": 0, "approval": "second-person"}
    cluster = labelled(dict.fromkeys(("S1", "P1"), "p"), labels, **policy)
    plan = Plan(cluster="shop", nodes=(needs("S1", restart="r"), needs("P1")), waves=(("S1",), ("P1",)), family={})
    said = [line for line in plan_lines(cluster, plan) if line.startswith(("In waves", "It stops", "Before", "worst"))]
    assert (
        "In waves: order: by rack; at most 2 with the same rack at a time; at most half of a pool is restarted; "
        "holds after canary for esync promote, at most 60 s."
    ) == said[0]
    budget = (
        "It stops after a wave when more than 1 of 2 nodes failed (50% in one wave), or more than 0 did not answer."
    )
    assert budget == said[1]
    assert "Before it changes anything, a second person approves the plan: esync approve." == said[2]
    assert "without holds" in said[3]
    empty = plan.model_copy(update={"nodes": ()})
    assert not any(line.startswith("In waves") for line in plan_lines(cluster, empty))
