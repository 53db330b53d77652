"""What is shared with others: a joined cluster beside another site and outside servers, then another family."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tasks.ektron.certificates.family import CLIENT_CER, CLIENT_KINDS, KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import InvariantState, Severity
from tasks.ektron.rules.invariants import judge, judge_prerequisites, judge_readiness
from tasks.ektron.rules.shared import consequences, cut_off, other_sites, replaces_family
from tests.unit.tasks.ektron.joined import FOUR, HASHES, SITE, THUMBPRINT, broken, changed, joined_cluster

OTHER = "d2" * 32
OWN = {"name": "shop", "physical_path": SITE.upper() + "\\", "connection_digest": "dd" * 32}
SECOND = {"name": "intranet", "physical_path": r"D:\sites\intranet", "active": "1"}
FAMILY_RULE, PARTNERS_RULE, KNOWN_RULE = (
    "shared.family-of-other-sites",
    "shared.partners-keep-connection",
    "shared.partners-known",
)


def with_sites(facts: NodeFacts, *sites: Mapping[str, str]) -> NodeFacts:
    """The node with these sites in sitedb.config."""
    return changed(facts, generated__sitedb__sites=[OWN, *sites])


def with_other_family(cluster: ClusterFacts, *, known: bool = True) -> ClusterFacts:
    """A run that hands out another family than the one in use; a doctor knows only its files on the origin."""
    hashes = dict.fromkeys(KINDS, "ab" * 32)
    if known:
        return replace(cluster, family=hashes, family_thumbprint=OTHER)
    origin = changed(cluster.seen["S1"], origin_family=hashes)
    return replace(cluster, family={}, family_thumbprint="", seen={**cluster.seen, "S1": origin})


@pytest.mark.parametrize("known", [True, False])
def test_a_family_that_another_site_uses_is_not_replaced(known: bool) -> None:  # noqa: FBT001 - a parameter
    """The run is refused before anything is written; the finding names the site, its folder and the family in use."""
    cluster = with_other_family(broken("P1", lambda facts: with_sites(facts, SECOND)), known=known)
    judged = judge_prerequisites if known else judge_readiness
    finding = judged(cluster).of(FAMILY_RULE)
    assert (InvariantState.REFUTED, ("P1",)) == (finding.verdict, finding.nodes)
    assert r"intranet (D:\sites\intranet)" in finding.evidence
    assert "P1_SyncClient.*" in finding.evidence
    assert "`origin`" in finding.remedy


def test_another_site_with_the_same_family_is_named_and_no_obstacle() -> None:
    """Proven, with the names of the sites that share the service."""
    finding = judge(broken("P1", lambda facts: with_sites(facts, SECOND))).of(FAMILY_RULE)
    assert finding.verdict is InvariantState.PROVEN
    assert r"P1: the same service, with the same keys, also serves intranet (D:\sites\intranet)" in finding.evidence


@pytest.mark.parametrize(
    "site",
    [
        {"name": "shop", "physical_path": SITE.casefold(), "active": "1"},
        {"name": "nowhere"},
        {**SECOND, "active": "0"},
        {**SECOND, "active": "False"},
        {**SECOND, "active": " no "},
    ],
)
def test_what_is_no_other_site(site: Mapping[str, str]) -> None:
    """The own folder in any spelling, an entry without a folder, an inactive site."""
    assert () == other_sites(with_sites(joined_cluster().seen["P1"], site))


def test_a_server_that_trusts_nobody_yet_loses_nothing() -> None:
    """Before the first rollout there is no family in use, nor is an empty key one."""
    for keys in (Spread.of({}, FOUR), Spread.of(dict.fromkeys(FOUR, "empty"), FOUR)):
        facts = changed(joined_cluster().seen["P1"], service_config__keys=keys)
        assert not replaces_family(with_other_family(joined_cluster()), facts)
    assert replaces_family(with_other_family(joined_cluster()), joined_cluster().seen["P1"])
    assert not replaces_family(joined_cluster(), joined_cluster().seen["P1"])


def with_outsider(facts: NodeFacts, key: str = THUMBPRINT) -> NodeFacts:
    """The node trusts X1."""
    return changed(facts, service_config__other_keys={"X1": key})


def test_a_server_outside_is_warned_of_when_the_certificates_change() -> None:
    """A warning in doctor, a note in the plan with the command that makes what it needs; silent otherwise."""
    cluster = broken("P1", with_outsider)
    assert judge(cluster).of(PARTNERS_RULE).verdict is InvariantState.PROVEN
    assert () == consequences(cluster)
    changing = with_other_family(cluster, known=False)
    finding = judge_readiness(changing).of(PARTNERS_RULE)
    assert (Severity.WARNING, ("P1",)) == (finding.severity, finding.nodes)
    (note,) = consequences(with_other_family(cluster))
    assert "X1 (not in the cluster file) is trusted by P1" in note
    assert "esync certs export FILE --for X1" in note
    (declared,) = consequences(replace(with_other_family(cluster), partners=("x1",)))
    assert declared.startswith("the partner X1")


def test_a_declared_partner_needs_a_key_and_files_on_every_node() -> None:
    """Missing key, empty key, missing files; a key of a family of its own is fine."""
    everywhere = replace(joined_cluster(), partners=("X1",))
    assert FOUR == judge(everywhere).of(KNOWN_RULE).nodes
    files = {kind: Spread.of({"x1": "99" * 32}, ["X1"]) for kind in CLIENT_KINDS}

    def known(facts: NodeFacts, key: str = OTHER) -> NodeFacts:
        return changed(facts, service_config__other_keys={"x1": key}, partner_family=files)

    seen = {node: known(facts) for node, facts in everywhere.seen.items()}
    assert judge(replace(everywhere, seen=seen)).of(KNOWN_RULE).verdict is InvariantState.PROVEN
    for wrong in (known(seen["P1"], "empty"), changed(seen["P1"], partner_family={CLIENT_CER: Spread.of({}, ["X1"])})):
        assert ("P1",) == judge(replace(everywhere, seen={**seen, "P1": wrong})).of(KNOWN_RULE).nodes


def test_who_is_cut_off_by_new_certificates() -> None:
    """A silent node and every node that trusts it now; a node without its key loses nothing; nor does anyone else."""
    missing = changed(
        joined_cluster().seen["S2"], service_config__keys=Spread.of(dict.fromkeys(FOUR[:3], THUMBPRINT), FOUR)
    )
    seen = {**joined_cluster().seen, "S2": missing}
    seen.pop("P2")
    cluster = replace(joined_cluster(), seen=seen)
    assert {} == cut_off(cluster, ["P2"])
    assert {"P2": ("S1", "P1")} == cut_off(with_other_family(cluster), ["P2"])
    assert {} == cut_off(with_other_family(cluster), [])
    (note,) = consequences(with_other_family(cluster), ["P2"])
    assert "P2 did not answer" in note
    assert "policy.unreachable" in note


def test_a_plan_says_who_keeps_the_present_certificates_because_it_is_not_selected() -> None:
    """Where a selected node gets others; where all get them, or none does, there is no note."""
    cluster = with_other_family(joined_cluster())
    (note,) = consequences(cluster, (), ("S2", "P2"))
    kept = "S2, P2 are not selected and keep the present certificates: S1, P1 and S2, P2 will refuse each other"
    assert f"{kept}. Select all nodes" == note
    assert () == consequences(cluster, (), ()) == consequences(cluster, (), FOUR)
    assert () == consequences(joined_cluster(), (), ("S2",))


def test_hashes_of_the_cluster_are_those_of_the_tests() -> None:
    """The family in use has another client certificate than the one that the tests call another."""
    assert HASHES[CLIENT_CER] != "ab" * 32


def test_a_server_outside_needs_the_key_of_a_node_that_is_new() -> None:
    """Declared or found; a node whose key another node has is known, and a new family is a note of its own."""
    without = Spread.of(dict.fromkeys(("S1", "S2", "P1"), THUMBPRINT), FOUR)
    others = {
        name: changed(facts, service_config__keys=without, service_config__other_keys={"X1": THUMBPRINT})
        for name, facts in joined_cluster().seen.items()
    }
    cluster = replace(joined_cluster(), seen=others, partners=("X2", "x1"))
    needs = "to sync with it, {0} needs its key: esync certs export FILE --for {0}"
    assert {f"P2 is new: {needs.format(name)}" for name in ("x1", "X2")} == set(consequences(cluster))
    assert () == consequences(replace(joined_cluster(), seen=others | {"S1": joined_cluster().seen["S1"]}))
    assert [True, False] == ["needs its key" not in note for note in consequences(with_other_family(cluster))]
    untouched = {n: changed(f, service_config__keys=Spread.of({}, FOUR)) for n, f in joined_cluster().seen.items()}
    (first,) = consequences(replace(joined_cluster(), seen=untouched, partners=("X2",)))
    assert "are new: to sync with them, X2 needs their keys" in first
