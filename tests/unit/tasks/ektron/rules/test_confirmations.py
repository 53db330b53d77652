"""Persons confirm statements: until a day, for the question as it was asked, and never against the facts."""

from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.confirmations import Confirmation, in_force, with_confirmations
from tasks.ektron.rules.findings import Finding, Findings, InvariantState
from tests.unit.tasks.ektron.joined import NOW, joined_cluster

DAY = NOW.date()
RULE, STATEMENT = "database.same-connection-string", "All nodes use the same connection string."


def answer(**other: object) -> Confirmation:
    """An answer that counts today and no longer."""
    values = {"rule": RULE, "question": STATEMENT, "by": "mk", "until": DAY, "note": "asked the DBA", "at": NOW}
    return Confirmation.model_validate(values | other)


@pytest.mark.parametrize(
    ("changes", "on", "counts"),
    [
        ({}, DAY, True),
        ({}, DAY + timedelta(days=1), False),
        ({"question": "An earlier wording."}, DAY, False),
        ({"rule": "another"}, DAY, False),
    ],
)
def test_an_answer_counts_until_its_day_and_for_the_same_question(
    changes: Mapping[str, object],
    on: date,
    counts: bool,  # noqa: FBT001 - a parameter of the cases
) -> None:
    """The last day included; with another text or rule it is asked again."""
    assert counts is (RULE in in_force([answer(**changes)], {RULE: STATEMENT}, on))


def judged(state: InvariantState, *nodes: str, cluster: ClusterFacts | None = None, on: date = DAY) -> Finding:
    """A finding with the confirmation."""
    finding = Finding(invariant=RULE, statement=STATEMENT, verdict=state, nodes=nodes)
    found = with_confirmations(Findings(findings=(finding,)), cluster or joined_cluster(), [answer()], on)
    return found.of(RULE)


def test_what_is_unknown_on_servers_that_were_seen_can_be_confirmed() -> None:
    """It stays unknown, names the person, and is no obstacle to the verdict any more."""
    finding = judged(InvariantState.UNKNOWN, "P1")
    assert (InvariantState.UNKNOWN, "confirmed by mk until 2026-11-23: asked the DBA") == (
        finding.verdict,
        finding.confirmed,
    )
    assert () == Findings(findings=(finding,)).unknown_errors
    assert (finding,) == Findings(findings=(finding,)).confirmed
    assert not judged(InvariantState.UNKNOWN, "P1", on=DAY + timedelta(days=1)).confirmed


def test_the_facts_win_and_a_server_that_was_not_seen_stays_unknown() -> None:
    """A refuted statement stays refuted; what is unknown because P1 did not answer stays an obstacle."""
    assert not judged(InvariantState.REFUTED, "P1").confirmed
    assert not judged(InvariantState.PROVEN).confirmed
    whole = joined_cluster()
    seen = {node: facts for node, facts in whole.seen.items() if node != "P1"}
    unseen = ClusterFacts(nodes=whole.nodes, origin=whole.origin, seen=seen)
    finding = judged(InvariantState.UNKNOWN, "P1", "P2", cluster=unseen)
    assert (finding,) == Findings(findings=(finding,)).unknown_errors
