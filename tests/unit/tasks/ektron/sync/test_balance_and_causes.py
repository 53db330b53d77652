"""The evidence of a refresh, and the most likely cause of a missing file."""

from datetime import UTC, datetime

import pytest

from tasks.ektron.rules.invariants import ALL_RULES, judge
from tasks.ektron.sync.answers import BalanceStatus, Entry
from tasks.ektron.sync.balance import PeerState, balance_ended, evidence_of
from tasks.ektron.sync.causes import ROWS, SAID, Cause, likely_cause, row_of_text
from tasks.ektron.sync.seen import SiteSeen, StatusFile
from tests.unit.tasks.ektron.joined import broken
from tests.unit.tasks.ektron.rules.breakages import BREAKAGES
from tests.unit.tasks.ektron.rules.failures import FAILURES


def entries(*pairs: tuple[str, str]) -> list[Entry]:
    """Entries with code and message."""
    return [Entry(code=code, message=message) for code, message in pairs]


def states(*pairs: tuple[str, str]) -> dict[str, PeerState]:
    """The evidence about P2 and P3."""
    return {one.node: one.state for one in evidence_of(entries(*pairs), ("P2", "P3"))}


START, DO, END = "SyncCheckingLoadBalanceStart", "SyncPerformingLoadBalance", "SyncCheckingLoadBalanceEnd"


def test_a_server_is_refreshed_when_an_end_follows() -> None:
    """And no failure is between; a name may be in a host name, in any case."""
    assert {"P2": PeerState.REFRESHED, "P3": PeerState.REFRESHED} == states(
        (START, ""), (DO, "p2"), (DO, "P3.example.org"), (END, "")
    )
    assert {"P2": PeerState.FAILED, "P3": PeerState.REFRESHED} == states(
        (DO, "P2"), ("SyncFailed", "P2: no"), (DO, "P3"), (END, "")
    )
    assert {"P2": PeerState.UNFINISHED, "P3": PeerState.NOT_NAMED} == states((DO, "P2"))


def test_a_server_that_was_dropped_is_found() -> None:
    """From 8.5 on the product says nothing about it (ektron-facts 5)."""
    assert {"P2": PeerState.REFRESHED, "P3": PeerState.NOT_NAMED} == states((DO, "P2"), (END, ""), ("SyncEnded", ""))
    assert PeerState.FAILED is states(("SyncLoadBalanceNotAvailable", "P3"))["P3"]


def test_both_ends_of_a_refresh_are_ends() -> None:
    """A failed one is complete, too."""
    ended = [BalanceStatus(authorised=True, entries=tuple(entries((code, "")))) for code in ("SyncEnded", "SyncFailed")]
    assert [True, True] == [balance_ended(one) for one in ended]
    assert not balance_ended(BalanceStatus(authorised=True, entries=tuple(entries((DO, "P2")))))
    assert not balance_ended(BalanceStatus(authorised=True))


def cause(node: str = "P2", said: list[Entry] | None = None, broken_by: str = "", **seen: object) -> Cause:
    """The cause for a server, with what is broken on it."""
    site = SiteSeen(node=node, service="running", listening=True).model_copy(update=seen)
    findings = None
    if broken_by:
        at, breakage, _ = BREAKAGES[broken_by]
        node, findings = at, judge(broken(at, breakage))
    return likely_cause(node, findings=findings, entries=said or [], sites={node: site}, folder="pages")


def test_a_refuted_rule_outweighs_what_the_sync_said() -> None:
    """It is about this very server, and has a remedy."""
    found = cause(said=entries(("SyncFailed", "The remote position is NOT staged.")), broken_by="service stopped")
    assert (10, "service.running", True) == (found.row, found.rule, found.certain)
    assert found.remedy


def test_stale_files_outweigh_what_the_sync_said() -> None:
    """They explain a load balancing that never completes."""
    stale = StatusFile(name="a.xml", size=1, changed=datetime(2026, 11, 1, tzinfo=UTC))
    assert 25 == cause(said=entries(("SyncFailed", "licence")), status_files=(stale,)).row


def test_what_the_sync_says_about_a_server_outweighs_the_rest() -> None:
    """A message about another server is only a possible cause."""
    said = entries(("SyncInitializationFailed", "licence"), ("SyncFailed", "P2: not enough space on the disk"))
    assert (41, True) == (cause(said=said).row, cause(said=said).certain)
    assert (35, False) == (cause(said=said[:1]).row, cause(said=said[:1]).certain)


def test_without_any_evidence_nothing_is_certain() -> None:
    """Library folders have settings of their own."""
    found = likely_cause("P2", findings=None, entries=[], sites={}, folder="UploadedFiles\\x")
    assert (31, False) == (found.row, found.certain)
    assert (32, False) == (cause().row, cause().certain)
    assert 12 == cause(listening=False).row
    assert "away" == likely_cause("P2", findings=None, entries=[], sites={}, folder="x", unreached="away").because


@pytest.mark.parametrize("rule", ROWS)
def test_a_rule_stands_for_a_row_that_refutes_it(rule: str) -> None:
    """The table of failures, as the tests of the rules play it, agrees; or the rule's own subject is the row."""
    assert rule in {one.id for one in ALL_RULES}
    assert ROWS[rule] in FAILURES
    played = {finding.invariant for finding in FAILURES[ROWS[rule]].findings}
    asked_only = {"node.places-writable", "site.service-files-allowed", "config.endpoints-complete"}
    assert rule in played | asked_only


def test_every_text_stands_for_a_known_row() -> None:
    """The first that fits counts."""
    assert {row for _, row in SAID} <= FAILURES.keys()
    assert [14, 5, 0] == [row_of_text(text) for text in ("the Clocks differ", "P1 has no key for S1", "done")]
