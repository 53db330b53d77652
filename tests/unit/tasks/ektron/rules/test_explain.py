"""Why is this node not joined? The cause is found for every single breakage, and for several at once."""

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.attestations import attestations
from tasks.ektron.rules.explain import ORDER, Answer, explain
from tasks.ektron.rules.findings import Severity
from tasks.ektron.rules.invariants import INVARIANTS, judge
from tests.unit.tasks.ektron.joined import FOUR, broken, joined_cluster
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES, field

ERRORS = {invariant.id for invariant in INVARIANTS if invariant.severity is Severity.ERROR}
OF_A_JOINED_NODE = ERRORS - {"node.places-writable"}  #: that one is asked before a rollout only


def test_the_order_knows_every_error() -> None:
    """The order contains every rule of severity error."""
    assert set(ORDER) == ERRORS | {"leftovers.removed-node"}  # an error only with certain facts
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_cause_of_every_breakage_is_found(name: str) -> None:
    """The cause is the first refuted rule, with its reason on this node; a warning is only a note."""
    node, breakage, expected = BREAKAGES[name]
    explanation = explain(node, judge(broken(node, breakage)))
    causes = [invariant for invariant in ORDER if invariant in expected]
    if not causes:
        assert explanation.answer is Answer.JOINED
        assert [note.partition(":")[0] for note in explanation.notes] == list(expected)
        return
    assert explanation.answer is Answer.CAUSE
    assert explanation.cause is not None
    assert explanation.cause.invariant == causes[0]
    assert explanation.because
    assert list(explanation.consequences) == causes[1:]
    assert {note.partition(":")[0] for note in explanation.notes} == expected - ERRORS


@pytest.mark.parametrize("node", FOUR)
def test_a_joined_node_is_joined(node: str) -> None:
    """A node without errors has the answer `joined`."""
    explanation = explain(node, judge(joined_cluster()))
    assert explanation.answer is Answer.JOINED
    assert set(explanation.passed) == OF_A_JOINED_NODE


def test_a_correct_node_names_the_broken_one() -> None:
    """For a correct node the answer names the cause on another node."""
    explanation = explain("S2", judge(broken("P1", field(asset__load_balanced="0"))))
    assert explanation.answer is Answer.ELSEWHERE
    assert "P1" in explanation.because


def test_what_passed_is_listed_up_to_the_cause() -> None:
    """Only the rules before the cause; when the cause is elsewhere or unknown, nothing is listed."""
    cluster = broken("P1", field(asset__load_balanced="0", probes__listening_8732=False))
    findings = judge(cluster)
    cause = ORDER.index("config.asset-load-balanced")
    assert explain("P1", findings).passed == tuple(rule for rule in ORDER[:cause] if rule in OF_A_JOINED_NODE)
    assert explain("S2", findings).passed == ()
    assert explain("P1", judge(broken("P1", field(probes__ws_status=None)))).passed == ()


def test_consequences_come_after_their_cause() -> None:
    """Two contradicting keys keep the service from starting: they are the cause, the closed port is a consequence."""
    cluster = broken(
        "P1",
        field(service_config__keys__duplicated=["S2"], service__state="stopped", probes__listening_8732=False),
    )
    explanation = explain("P1", judge(cluster))
    assert explanation.cause is not None
    assert explanation.cause.invariant == "keys.no-duplicates"
    assert explanation.consequences == ("service.running", "service.listening-8732")


def test_an_unseen_node_is_unknown() -> None:
    """Without facts the answer is unknown, with the reason."""
    whole = joined_cluster()
    seen = {name: facts for name, facts in whole.seen.items() if name != "P2"}
    cluster = ClusterFacts(nodes=FOUR, origin="S1", seen=seen, reasons={"P2": "logon refused"}, family=whole.family)
    explanation = explain("P2", judge(cluster))
    assert explanation.answer is Answer.UNKNOWN
    assert "logon refused" in explanation.because


def test_questions_fit_the_cluster() -> None:
    """With one staging server there are no questions about clustered staging; every question has its reason."""
    small = {attestation.id for attestation in attestations(nodes=2, staging=1, production=0)}
    large = {attestation.id: attestation for attestation in attestations(nodes=4, staging=2, production=2)}
    assert set(large) - small == {"staging.one-out-before-sync", "templates.staging-only"}
    assert "here up to 4?" in large["licence.load-balancing"].question
    assert all(a.question.endswith("?") and a.why and a.remedy and a.source for a in large.values())
