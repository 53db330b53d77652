"""An upgrade that is not finished is distinguished from a fault."""

from collections.abc import Mapping
from functools import partial

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.rules.invariants import judge
from tests.unit.tasks.ektron.joined import FOUR, broken, joined_cluster

SAME = "version.same-build"


def with_versions(facts: NodeFacts, site: str, service: str) -> NodeFacts:
    """A node with these builds of the site and of the service."""
    web = facts.web.model_copy(update={"builds": {"ek_buildNumber": site}})
    program = facts.binaries[0].model_copy(update={"version": service, "hash": service})
    return facts.model_copy(update={"web": web, "binaries": (program,)})


def a_cluster(versions: Mapping[str, tuple[str, str]]) -> ClusterFacts:
    """A cluster whose nodes have these versions, 8.5.0.356 where none is given."""
    cluster = joined_cluster()
    for node in FOUR:
        site, service = versions.get(node, ("8.5.0.356", "8.5.0.356"))
        cluster = broken(node, partial(with_versions, site=site, service=service), cluster)
    return cluster


@pytest.mark.parametrize(
    ("versions", "hint"),
    [
        ({"P2": ("9.1.0.184", "9.1.0.184")}, "P2 is ahead (site 9.1.0.184, service 9.1.0.184; most others site 8.5"),
        ({"P2": ("8.5.0.356", "9.1.0.184")}, "P2 is ahead (site 8.5.0.356, service 9.1.0.184"),
        (dict.fromkeys(("S1", "S2", "P1"), ("9.1.0.184", "9.1.0.184")), "P2 is behind (site 8.5.0.356"),
        ({"P1": ("9.1.0.184", "8.0.1.87")}, "P1 is partly upgraded"),
        ({"P1": ("8.5.0.1000", "8.5.0.356")}, "P1 is ahead"),
        ({"S2": ("9.1.0.184", "9.1.0.184"), "P1": ("9.1.0.184", "9.1.0.184")}, "S2, P1 is ahead"),
    ],
)
def test_a_server_ahead_or_behind_is_an_upgrade_that_is_not_finished(
    versions: Mapping[str, tuple[str, str]], hint: str
) -> None:
    """The finding stays refuted, so that nothing is written, and says which servers are where."""
    finding = judge(a_cluster(versions)).of(SAME)
    assert InvariantState.REFUTED is finding.verdict
    assert "looks like an upgrade that is not finished, not like a fault" in finding.evidence
    assert hint in finding.evidence
    assert "Finish it first." in finding.evidence


def test_another_difference_is_no_upgrade() -> None:
    """The same versions with other bytes, or an unknown version."""
    other = broken("P1", lambda facts: facts.model_copy(update={"binaries": (facts.binaries[0].model_copy(
        update={"hash": "ff" * 32}),)}))  # fmt: skip
    finding = judge(other).of(SAME)
    assert (InvariantState.REFUTED, False) == (finding.verdict, "upgrade" in finding.evidence)
    unknown = broken("P1", lambda facts: facts.model_copy(update={"binaries": ()}), a_cluster({}))
    assert "upgrade" not in judge(unknown).of(SAME).evidence
    assert InvariantState.PROVEN is judge(joined_cluster()).of(SAME).verdict
