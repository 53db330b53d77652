"""Each rule at both sides of its border: one change of a joined cluster, the state of one rule, and its reason."""

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import Finding, InvariantState, Severity
from tasks.ektron.rules.invariants import INVARIANTS, judge, judge_prerequisites, judge_readiness
from tasks.ektron.rules.readiness import WINRM_LIMITS
from tasks.ektron.rules.rivals import SIGNS, mentioned
from tests.unit.tasks.ektron.joined import FOUR, broken, changed, joined_cluster, joined_node
from tests.unit.tasks.ektron.rules.borders import BORDERS, EXE, PROVEN, REFUTED, UNKNOWN


def finding_of(cluster: ClusterFacts, rule: str) -> Finding:
    """What all rules together say about one."""
    findings = {
        finding.invariant: finding for finding in (*judge_readiness(cluster).findings, *judge(cluster).findings)
    }
    return findings[rule]


@pytest.mark.parametrize("name", BORDERS)
def test_a_rule_at_its_border(name: str) -> None:
    """The state is the expected one, and only this node is named, with the values that an operator needs."""
    node, fields, rule, state, reason = BORDERS[name]
    finding = finding_of(broken(node, lambda facts: changed(facts, **fields)), rule)
    assert finding.verdict is state
    assert finding.nodes == (() if state is PROVEN else (node,))
    if state is not PROVEN:
        assert reason in finding.reasons[node]
        assert node in finding.evidence
    assert bool(finding.remedy) is (state is not PROVEN)


@pytest.mark.parametrize("limit", WINRM_LIMITS)
def test_each_winrm_limit_at_its_border(limit: str) -> None:
    """The required value is enough, one less is not."""
    least = WINRM_LIMITS[limit]
    enough = broken("P1", lambda facts: changed(facts, readiness__limits={limit: str(least)}))
    assert finding_of(enough, "winrm.limits").verdict is PROVEN
    too_low = broken("P1", lambda facts: changed(facts, readiness__limits={limit: str(least - 1)}))
    assert finding_of(too_low, "winrm.limits").reasons == {
        "P1": f"{limit} is {least - 1}, at least {least} is required"
    }


def test_the_winrm_limits_are_those_that_were_measured() -> None:
    """A changed limit is a decision, not an accident."""
    assert WINRM_LIMITS == {
        "MaxShellsPerUser": 3,
        "MaxProcessesPerShell": 3,
        "MaxMemoryPerShellMB": 512,
        "MaxConcurrentOperationsPerUser": 20,
        "MaxEnvelopeSizekb": 500,
        "IdleTimeout": 60_000,
    }


def unknown_family(seen: dict[str, NodeFacts]) -> ClusterFacts:
    """A cluster in which the correct files are unknown."""
    return ClusterFacts(nodes=FOUR, origin="S1", seen=seen)


def test_without_a_known_family_the_comparisons_are_unknown() -> None:
    """Files and keys that exist prove nothing; where there are no keys there is nothing to compare."""
    seen = {name: facts for name, facts in joined_cluster().seen.items() if name != "S1"}
    findings = judge(unknown_family(seen))
    for rule, words in {
        "family.identical-across-nodes": "files of the correct family are unknown",
        "family.web-root-copy": "files of the correct family are unknown",
        "family.staging-folder-clean": "files of the correct family are unknown",
        "keys.match-cer": "certificate of the family is unknown",
    }.items():
        finding = findings.of(rule)
        assert finding.verdict is UNKNOWN
        assert words in finding.reasons["P1"]
    bare = {"P1": changed(seen["P1"], service_config__keys={}, client=None)}
    findings = judge(unknown_family(bare))
    assert "P1" not in findings.of("keys.match-cer").nodes
    assert "expected certificate is unknown" in findings.of("config.encoded-value-agrees").reasons["P1"]


def test_the_own_certificate_is_the_measure_when_no_other_is_known() -> None:
    """The value in web.config is compared with the SyncClient.cer of the same node."""
    seen = {name: facts for name, facts in joined_cluster().seen.items() if name != "S1"}
    assert "P1" not in judge(unknown_family(seen)).of("config.encoded-value-agrees").nodes
    other = {**seen, "P1": changed(seen["P1"], web__encoded_value="00")}
    assert judge(unknown_family(other)).of("config.encoded-value-agrees").nodes == ("P1",)


def test_the_evidence_is_shortened_in_large_clusters() -> None:
    """Four reasons and five names are shown, the others are counted; the reasons are never shortened."""
    names = tuple(f"W{i}" for i in range(9))
    cluster = joined_cluster(names)
    for i, name in enumerate(names[:5]):
        cluster = broken(name, lambda facts, i=i: changed(facts, asset__load_balanced=f"x{i}"), cluster)  # type: ignore[misc]  # the default binds the loop's value
    finding = judge(cluster).of("config.asset-load-balanced")
    assert finding.evidence.endswith("W3: LoadBalanced is 'x3'; and 1 other findings")
    assert len(finding.reasons) == 5
    cluster = joined_cluster(names)
    for name in names[:6]:
        cluster = broken(name, lambda facts: changed(facts, asset__load_balanced="0"), cluster)
    finding = judge(cluster).of("config.asset-load-balanced")
    assert finding.evidence == "W0, W1, W2, W3, W4 and 1 more: LoadBalanced is '0'"


@pytest.mark.parametrize(("nodes", "tried", "state"), [(33, 32, PROVEN), (33, 31, UNKNOWN), (40, 32, PROVEN)])
def test_large_clusters_try_32_neighbours(nodes: int, tried: int, state: InvariantState) -> None:
    """Up to 33 nodes each tries all others; in larger clusters 32 are enough."""
    names = tuple(f"W{i}" for i in range(nodes))
    seen = {
        name: changed(
            joined_node(name, names, origin=name == "W0"),
            probes__reach_8732=dict.fromkeys([other for other in names if other != name][:tried], True),
        )
        for name in names
    }
    finding = judge(ClusterFacts(nodes=names, origin="W0", seen=seen)).of("network.reach-8732-all-pairs")
    assert finding.verdict is state


def test_the_clocks_far_from_the_majority_are_named() -> None:
    """Two clocks against three: the two are the counter-examples, although they are first and agree with esync's."""
    names = ("A", "B", "C", "D", "E")
    cluster = joined_cluster(names)
    for name in ("C", "D", "E"):
        cluster = broken(name, lambda facts: changed(facts, skew=400.0), cluster)
    finding = judge(cluster).of("clock.skew-below-300s")
    assert finding.nodes == ("A", "B")
    assert finding.reasons["A"] == "-400 s against the other nodes, +0 s against esync's clock"


def test_of_two_clocks_the_one_nearer_to_that_of_esync_is_right() -> None:
    """Two servers, one 600 s ahead: in a draw the clock of esync decides, whichever server is first."""
    for wrong, other in (("A", "B"), ("B", "A")):
        cluster = broken(wrong, lambda facts: changed(facts, skew=600.0), joined_cluster(("A", "B")))
        finding = judge(cluster).of("clock.skew-below-300s")
        assert finding.nodes == (wrong,), other
        assert finding.reasons[wrong] == "+600 s against the other nodes, +600 s against esync's clock"


def test_findings_are_in_order_of_urgency() -> None:
    """Refuted errors, refuted warnings, unknown errors, unknown warnings, then the proven ones."""
    cluster = broken("P1", lambda facts: changed(facts, asset__load_balanced="0", generated__batch_size="9"))
    cluster = broken("P2", lambda facts: changed(facts, probes={}, client=None), cluster)
    order = [(finding.verdict, finding.severity) for finding in judge(cluster).findings]
    assert list(dict.fromkeys(order)) == [
        (REFUTED, Severity.ERROR),
        (REFUTED, Severity.WARNING),
        (UNKNOWN, Severity.ERROR),
        (UNKNOWN, Severity.WARNING),
        (PROVEN, Severity.ERROR),
        (PROVEN, Severity.WARNING),
    ]


def test_findings_are_filtered_by_state_and_severity() -> None:
    """Each filter leaves out its neighbours."""
    cluster = broken("P1", lambda facts: changed(facts, asset__load_balanced="0", generated__batch_size="9"))
    findings = judge(broken("P2", lambda facts: changed(facts, probes__ws_status=None, client=None), cluster))
    assert [f.invariant for f in findings.refuted_errors] == ["config.asset-load-balanced"]
    assert [f.invariant for f in findings.refuted_warnings] == ["config.batchsize-alike"]
    assert [f.invariant for f in findings.unknown_errors] == ["site.wspath-answers", "site.service-files-allowed"]
    with pytest.raises(KeyError):
        findings.of("no.such-rule")


def test_prerequisites_and_early_warnings() -> None:
    """Exactly these rules are decided before anything is written, and for `esync doctor` some warnings more."""
    before = {finding.invariant for finding in judge_prerequisites(joined_cluster()).findings}
    assert before == {rule.id for rule in INVARIANTS if rule.prerequisite}
    made = {f.invariant for f in judge_prerequisites(joined_cluster(), origin_family_needed=False).findings}
    assert before - made == {"family.origin-present"}
    whole = {finding.invariant for finding in judge(joined_cluster()).findings}
    assert before - whole == {"node.places-writable"}  # a cluster stays joined when esync may not write any more
    doctor = {finding.invariant for finding in judge_readiness(joined_cluster()).findings}
    assert doctor - before == {
        "clock.skew-below-60s",
        "config.asset-user-domain",
        "database.one-per-pool",
        "storage.own-per-pool",
        "version.same-install-build",
        "shared.partners-keep-connection",
        "config.generated-agrees",
        "config.batchsize-alike",
        "sync.no-stale-status",
        "config.asset-pass-through",
        "node.powershell-fit",
        "node.administrator",
        "node.disk-free",
        "config.files-writable",
        "config.files-editable",
        "service.not-disabled",
        "winrm.limits",
        "winrm.protected",
        "node.competing-managers",
    }
    assert {rule.id for rule in INVARIANTS if rule.severity is Severity.WARNING} >= {
        "config.library-server-count",
        "config.esync-enabled-alike",
        "family.expiry",
        "family.weak-key",
        "service.starts-by-itself",
    }


def test_tasks_of_the_scheduler_that_name_a_folder_are_found() -> None:
    """In UTF-16 of either order and in UTF-8, in any case; empty folders match nothing."""
    text = r"<Exec>C:\INETPUB\site\x.cmd</Exec>"
    for data in (text.encode("utf-16"), "\ufeff".encode("utf-16-be") + text.encode("utf-16-be"), text.encode()):
        assert mentioned(data, ["", r"c:\inetpub\SITE"])
        assert not mentioned(data, ["", r"D:\other"])
        assert not mentioned(data, [""])
    assert not mentioned(b"\xff\xfe\x00", ["x"])


def test_signs_of_other_programs() -> None:
    """Each program is known by a service or a path, with the placeholders that the observer replaces."""
    assert {sign.program for sign in SIGNS if sign.is_service} == {
        "Puppet",
        "Chef",
        "Salt",
        "CFEngine",
        "Octopus Tentacle",
        "Web Deploy agent",
    }
    assert all("\\" in sign.place and sign.place.startswith("{") for sign in SIGNS if not sign.is_service)
    assert not any("{" in sign.place or "\\" in sign.place for sign in SIGNS if sign.is_service)


def test_the_value_of_the_origin_wins_a_draw_between_programs() -> None:
    """With two against two the nodes that differ from the origin are reported."""
    other = [{"name": EXE, "version": "8.0.1.87", "size": 9, "hash": "99" * 32}]
    cluster = broken("S1", lambda facts: changed(facts, binaries=other))
    cluster = broken("P2", lambda facts: changed(facts, binaries=other), cluster)
    assert judge(cluster).of("version.same-build").nodes == ("S2", "P1")


def test_a_node_with_several_different_programs_is_named_with_the_first() -> None:
    """The first program in the order of the list is the reason; a node without programs is unknown where all agree."""
    two = [
        {"name": "a.dll", "version": "1", "size": 1, "hash": "aa"},
        {"name": "b.dll", "version": "1", "size": 1, "hash": "bb"},
    ]
    other = [{**program, "hash": "cc"} for program in two]
    cluster = joined_cluster()
    for node in FOUR:
        cluster = broken(node, lambda facts: changed(facts, binaries=two), cluster)
    finding = judge(broken("P1", lambda facts: changed(facts, binaries=other), cluster)).of("version.same-build")
    assert finding.reasons == {"P1": "a.dll: differs from most (1, 1 bytes, cc)"}
    for node in FOUR:
        cluster = broken(node, lambda facts: changed(facts, binaries=[]), cluster)
    assert judge(cluster).of("version.same-build").reasons == dict.fromkeys(FOUR, "no program file was seen")


def test_a_spread_without_a_kind_counts_for_all_nodes() -> None:
    """A kind of file that was not seen is missing for every node, beside the single gaps of other kinds."""
    facts = joined_node("P1")
    family = {kind: spread for kind, spread in facts.service_family.items() if kind != "SyncClient.pfx"}
    family["SyncClient.pvk"] = Spread(common="h", missing=("S2",))
    cluster = broken("P1", lambda facts: facts.model_copy(update={"service_family": family}))
    assert judge(cluster).of("family.complete").reasons == {
        "P1": "the service folder lacks 5 of 24 files, of S1, S2, P1, P2"
    }
