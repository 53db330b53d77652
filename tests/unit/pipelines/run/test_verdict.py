"""The verdict on a cluster: what outweighs what, and where each border lies."""

import pytest

from pipelines.run.verdict import failures, verdict_of
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity
from tests.unit.pipelines.run.snapshots import numbered, outcome
from workers.records import Status, StepOutcome, Verdict

NODES = numbered(4)
PROVEN, REFUTED, UNKNOWN = InvariantState.PROVEN, InvariantState.REFUTED, InvariantState.UNKNOWN


def finding(name: str, verdict: InvariantState, *nodes: str, severity: Severity = Severity.ERROR) -> Finding:
    """What was found about one invariant."""
    return Finding(invariant=name, verdict=verdict, nodes=nodes, evidence=f"evidence of {name}", severity=severity)


def judged(ended: dict[str, Status], *findings: Finding) -> tuple[Verdict, str]:
    """The verdict on four nodes, some of which ended early."""
    outcomes = {node: outcome(node, status, message=f"{node}: why") for node, status in ended.items()}
    return verdict_of(NODES, outcomes, Findings(findings=findings))


def test_all_nodes_joined() -> None:
    """Warnings are counted, and do not change the verdict."""
    assert (Verdict.JOINED, "all 4 nodes are joined, no invariant is refuted") == judged({}, finding("a", PROVEN))
    warning = finding("w", REFUTED, "N1", severity=Severity.WARNING)
    assert (Verdict.JOINED, "all 4 nodes are joined, no invariant is refuted; 1 warning") == judged({}, warning)
    assert judged({}, warning, warning)[1].endswith("; 2 warnings")
    assert judged({}, finding("u", UNKNOWN, "N1", severity=Severity.WARNING))[0] is Verdict.JOINED


@pytest.mark.parametrize("status", [Status.FAILED, Status.SKIPPED, Status.CANCELLED])
def test_a_node_that_ended_early_is_a_failure_unless_it_was_unreachable(status: Status) -> None:
    """Also a skipped one: its changes were not made. It outweighs everything else."""
    assert Verdict.FAILED is judged({"N2": status}, finding("a", REFUTED, "N1"))[0]
    both = judged({"N2": status, "N3": Status.UNREACHABLE}, finding("u", UNKNOWN, "N3"))
    assert Verdict.FAILED is both[0]
    assert both[1].startswith("1 failed, 1 unreachable" if status is Status.FAILED else "1 unreachable, 1 not tried")


def test_a_refuted_invariant_outweighs_an_unreachable_node() -> None:
    """Unless the only counter-examples are the unreachable nodes themselves."""
    silent = {"N2": Status.UNREACHABLE}
    assert (Verdict.REFUTED, "a does not hold: evidence of a") == judged(silent, finding("a", REFUTED, "N1"))
    assert Verdict.REFUTED is judged(silent, finding("a", REFUTED, "N1", "N2"))[0]
    assert (Verdict.UNREACHABLE, "N2 did not answer; the other 3 are done") == judged(
        silent, finding("a", REFUTED, "N2"), finding("u", UNKNOWN, "N2")
    )
    three = judged(dict.fromkeys(("N1", "N2", "N3"), Status.UNREACHABLE))
    assert (Verdict.UNREACHABLE, "N1, N2, N3 did not answer; the other one is done") == three
    all_away = judged(dict.fromkeys(("N1", "N2", "N3", "N4"), Status.UNREACHABLE))
    assert (Verdict.UNREACHABLE, "N1, N2, N3, N4 did not answer") == all_away
    several = judged({}, finding("a", REFUTED, "N1"), finding("b", REFUTED, "N1"), finding("c", REFUTED, "N1"))
    assert (Verdict.REFUTED, "a does not hold (and 2 more): evidence of a") == several


def test_an_unknown_invariant_is_inconclusive() -> None:
    """If nothing is refuted and every node answered."""
    assert (Verdict.INCONCLUSIVE, "u could not be decided: evidence of u") == judged({}, finding("u", UNKNOWN, "N1"))


def ended(**statuses: Status) -> dict[str, StepOutcome]:
    """Outcomes with messages that begin with the name of the node, as those of steps do."""
    return {node: outcome(node, status, message=f"{node}: why {node}") for node, status in statuses.items()}


def test_failures_name_nodes_and_the_first_message() -> None:
    """A message of the only failed node does not repeat its name; other nodes are counted apart."""
    one = ended(N1=Status.FAILED)
    assert "N1 failed: why N1" == failures(["N1"], one)
    assert "N1 could not be checked: why N1" == failures(["N1"], one, "could not be checked")
    two = ended(N2=Status.FAILED, N1=Status.FAILED, N3=Status.SKIPPED)
    assert "2 failed, 1 not tried; N2: why N2" == failures(["N2", "N1", "N3"], two)
    mixed = ended(N1=Status.SKIPPED, N2=Status.FAILED)
    assert "1 failed, 1 not tried; N2: why N2" == failures(["N1", "N2"], mixed)
    skipped = ended(N1=Status.SKIPPED, N2=Status.SKIPPED)
    assert "2 not tried; N1: why N1" == failures(["N1", "N2"], skipped)
    assert "N1 failed: why N1" == failures(["N1"], {**one, "N9": outcome("N9", Status.SKIPPED)})
    assert "N2, N1 failed: N2: why N2" == failures(["N2", "N1"], two)


def test_the_summary_accuses_the_right_nodes() -> None:
    """Of 300 nodes one refused the logon and one was unreachable; a cancelled step counts by its effect."""
    names = numbered(300)
    kinds = {"N30": Status.FAILED, "N43": Status.UNREACHABLE, "N7": Status.CANCELLED}
    all_ended = {node: outcome(node, kinds.get(node, Status.SKIPPED), message=f"{node}: why {node}") for node in names}
    expected = "1 failed, 1 unreachable, 298 not tried; N30: why N30"
    assert (Verdict.FAILED, expected) == verdict_of(names, all_ended, Findings())
    all_ended["N7"] = outcome("N7", Status.CANCELLED, message="N7: stopped", touched=True)
    assert "2 failed, 1 unreachable, 297 not tried; N7: stopped" == failures(names, all_ended)
