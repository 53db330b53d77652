"""One fact of a joined cluster is broken at a time: exactly the expected rules are refuted, and name the node."""

import time
from dataclasses import replace

import pytest

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import InvariantState, Severity
from tasks.ektron.rules.invariants import INVARIANTS, Findings, judge, judge_prerequisites
from tests.unit.tasks.ektron.joined import (
    FOUR,
    HASHES,
    THUMBPRINT,
    broken,
    certificate,
    changed,
    joined_cluster,
    joined_node,
)
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES, OLD_EXE, field

DESIGNED = [
    "version.same-build",
    "version.service-newer-or-equal",
    "site.same-path",
    "site.precompiled-all-or-none",
    "database.same-connection-string",
    "config.asset-load-balanced",
    "config.service-load-balanced",
    "config.web-endpoints",
    "config.encoded-value-agrees",
    "keys.complete",
    "keys.match-cer",
    "keys.no-duplicates",
    "keys.ewsupdates-agrees",
    "family.complete",
    "family.identical-across-nodes",
    "family.web-root-copy",
    "family.staging-folder-clean",
    "family.server-certificate-is-own",
    "family.expiry",
    "family.weak-key",
    "service.running",
    "service.started-after-last-change",
    "service.listening-8732",
    "network.reach-8732-all-pairs",
    "site.wspath-answers",
    "clock.skew-below-300s",
    "leftovers.none",
]


def refuted(findings: Findings) -> dict[str, tuple[str, ...]]:
    """Ids of what was refuted, with the counter-examples."""
    return {f.invariant: f.nodes for f in findings.findings if f.verdict is InvariantState.REFUTED}


def test_every_designed_rule_is_there_once() -> None:
    """All ids of the design exist, each once."""
    ids = [invariant.id for invariant in INVARIANTS]
    assert len(set(ids)) == len(ids)
    assert set(DESIGNED) <= set(ids)


def test_a_joined_cluster_proves_everything() -> None:
    """In a joined cluster nothing is refuted and nothing is unknown."""
    findings = judge(joined_cluster())
    assert {f.invariant: f.evidence for f in findings.findings if f.verdict is not InvariantState.PROVEN} == {}


@pytest.mark.parametrize("name", BREAKAGES)
def test_one_breakage_refutes_exactly_its_rules(name: str) -> None:
    """Each broken fact refutes only its own rules, which name the node."""
    node, breakage, expected = BREAKAGES[name]
    found = refuted(judge(broken(node, breakage)))
    assert found == dict.fromkeys(expected, (node,))


@pytest.mark.parametrize("name", BREAKAGES)
def test_every_refutation_has_evidence_and_a_remedy(name: str) -> None:
    """A refuted finding has evidence with the name of the node, and a remedy."""
    node, breakage, _ = BREAKAGES[name]
    findings = judge(broken(node, breakage))
    for finding in findings.findings:
        if finding.verdict is InvariantState.REFUTED:
            assert node in finding.evidence
            assert finding.remedy


def test_an_unseen_node_makes_rules_unknown() -> None:
    """An unseen node makes the rules about all nodes unknown, with its reason, and refutes nothing."""
    whole = joined_cluster()
    seen = {name: facts for name, facts in whole.seen.items() if name != "P2"}
    cluster = replace(whole, seen=seen, reasons={"P2": "no answer in 10 s"})
    findings = judge(cluster)
    assert refuted(findings) == {}
    finding = findings.of("config.asset-load-balanced")
    assert finding.verdict is InvariantState.UNKNOWN
    assert finding.nodes == ("P2",)
    assert "no answer in 10 s" in finding.evidence


def test_a_counter_example_outweighs_an_unseen_node() -> None:
    """A rule that one node refutes stays refuted when another node is unseen."""
    whole = broken("P1", field(asset__load_balanced="0"))
    seen = {name: facts for name, facts in whole.seen.items() if name != "P2"}
    findings = judge(replace(whole, seen=seen))
    assert findings.of("config.asset-load-balanced").nodes == ("P1",)
    assert findings.of("config.asset-load-balanced").verdict is InvariantState.REFUTED


def test_a_port_that_no_node_reaches_names_its_owner() -> None:
    """When no node reaches P2, P2 is the counter-example and not the others."""
    cluster = joined_cluster()
    for source in ("S1", "S2", "P1"):
        cluster = broken(source, field(probes__reach_8732__P2=False), cluster)
    assert refuted(judge(cluster)) == {"network.reach-8732-all-pairs": ("P2",)}


def test_an_unseen_node_is_the_cause_of_what_others_miss() -> None:
    """A node that went down during the check is the counter-example, and not those that no longer reach it."""
    whole = broken("S2", field(probes__reach_8732__P2=False))
    seen = {name: facts for name, facts in whole.seen.items() if name != "P2"}
    gone = replace(whole, seen=seen)
    assert refuted(judge(gone)) == {"network.reach-8732-all-pairs": ("P2",)}
    assert refuted(judge(whole)) == {"network.reach-8732-all-pairs": ("S2",)}


def test_an_untested_network_is_unknown() -> None:
    """Without probes the network rules are unknown, never proven."""
    cluster = joined_cluster()
    for node in FOUR:
        cluster = broken(node, field(probes={}), cluster)
    findings = judge(cluster)
    unknown = {f.invariant for f in findings.findings if f.verdict is InvariantState.UNKNOWN}
    assert unknown == {
        "service.listening-8732",
        "network.reach-8732-all-pairs",
        "site.wspath-answers",
        "site.service-files-allowed",
        "site.wspath-own-address",
    }


def test_in_a_draw_the_origin_is_right() -> None:
    """Two nodes against two in one pool: those that differ from the origin are the counter-examples."""
    cluster = replace(joined_cluster(), pools={}, shared_database=True)
    for node in ("P1", "P2"):
        cluster = broken(
            node, lambda facts: changed(facts, precompiled=True, web__connection_digest="dd" * 32), cluster
        )
    found = refuted(judge(cluster))
    assert found["site.precompiled-all-or-none"] == ("P1", "P2")


def test_in_a_draw_without_the_origin_all_are_named() -> None:
    """Of two servers of another pool either may be wrong: both are named, each with its value and the other's."""
    finding = judge(broken("P1", field(precompiled=True))).of("site.precompiled-all-or-none")
    assert finding.reasons == {
        "P1": "the site is precompiled, but not precompiled on P2 in pool production",
        "P2": "the site is not precompiled, but precompiled on P1 in pool production",
    }


def test_production_is_never_pointed_at_the_database_of_staging() -> None:
    """A value that belongs to another pool is not the right one, even where most servers of the pool have it."""
    whole = joined_cluster(("S1", "S2", "P1", "P2", "P3"))
    for node in ("P1", "P2"):
        whole = broken(node, field(web__connection_digest="dd" * 32), whole)
    finding = judge(whole).of("database.same-connection-string")
    own, of_staging = "e" * 12, "d" * 12
    assert finding.reasons == dict.fromkeys(
        ("P1", "P2"),
        f"connection string (digest) {of_staging} (of pool staging), elsewhere {own} in pool production",
    )
    assert "never copy it from a server of another pool" in finding.remedy


def test_prerequisites_need_no_probe_and_no_family() -> None:
    """An untouched cluster is ready: the prerequisites do not depend on files that the run will write."""
    cluster = joined_cluster()
    for node in FOUR:
        cluster = broken(
            node,
            field(
                asset__load_balanced="0",
                service_config__load_balanced="0",
                service_config__keys={},
                web__encoded_value="",
                service_family={},
                web_root_family={},
                staging_files=None,
                client=None,
                server=None,
                probes={},
                origin_family={},
            ),
            cluster,
        )
    assert refuted(judge_prerequisites(cluster, origin_family_needed=False)) == {}
    assert refuted(judge_prerequisites(cluster)) == {"family.origin-present": ("S1",)}


def test_without_a_family_of_the_run_the_origin_is_the_measure() -> None:
    """`verify` without a run compares everything with the files of the origin."""
    cluster = replace(joined_cluster(), family={}, family_thumbprint="")
    assert refuted(judge(cluster)) == {}
    assert refuted(judge(broken("P1", field(web__encoded_value="00" * 32), cluster))) == {
        "config.encoded-value-agrees": ("P1",)
    }


def test_findings_survive_json() -> None:
    """Findings are equal after conversion to JSON and back."""
    findings = judge(broken("P1", field(asset__load_balanced="0")))
    assert Findings.model_validate_json(findings.model_dump_json()) == findings
    assert findings.findings[0].invariant == "config.asset-load-balanced"
    assert [f.invariant for f in findings.refuted_errors] == ["config.asset-load-balanced"]


def test_warnings_are_not_errors() -> None:
    """A weak certificate does not refute the cluster."""
    findings = judge(broken("P1", field(client=certificate(key_bits=1024))))
    assert findings.refuted_errors == ()
    assert [f.severity for f in findings.refuted_warnings] == [Severity.WARNING]


def test_a_file_version_of_the_generation_proves_nothing() -> None:
    """FileVersion 3.0.0.0 is not compared with the build of the site; the result is unknown."""
    cluster = broken("P1", field(service_config__install_version=None, binaries=OLD_EXE))
    assert judge(cluster).of("version.service-newer-or-equal").verdict is InvariantState.UNKNOWN


def seconds_for(nodes: int) -> float:
    """Processor time of all rules, best of three. Each node lacks the keys and files of half of the others."""
    names = tuple(f"WEB{i}" for i in range(nodes))
    half = names[: nodes // 2]
    template = joined_node("WEB0", names, origin=True)
    spread = Spread.of(dict.fromkeys(half, THUMBPRINT), names)
    template = template.model_copy(
        update={
            "service_config": template.service_config.model_copy(update={"keys": spread}),
            "service_family": {kind: Spread.of(dict.fromkeys(half, HASHES[kind]), names) for kind in KINDS},
        }
    )
    seen = {name: template.model_copy(update={"node": name, "computer": name}) for name in names}
    cluster = ClusterFacts(nodes=names, origin="WEB0", seen=seen, family=HASHES, family_thumbprint=THUMBPRINT)
    timings = []
    for _ in range(3):
        started = time.thread_time()
        judge(cluster)
        timings.append(time.thread_time() - started)
    return min(timings)


def test_rules_do_not_search_a_list_for_each_node() -> None:
    """Four times as many nodes take four to eight times as long; a search in a list for each key takes 64 times."""
    assert seconds_for(640) < 24 * seconds_for(160)
