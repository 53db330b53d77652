"""Has the service loaded what is there? By the record of its start, else by times, which may be wrong."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.desired.node import restart_reason
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.service import StartRecord
from tasks.ektron.rules.findings import InvariantState, Severity
from tasks.ektron.rules.invariants import judge
from tasks.ektron.rules.loaded import loaded, unrecorded
from tests.unit.tasks.ektron.joined import NOW, STARTED, changed, joined_cluster, joined_node

PROVEN, REFUTED, UNKNOWN = InvariantState.PROVEN, InvariantState.REFUTED, InvariantState.UNKNOWN
SERVICE = "EktronWindowsServices30"
RULE = "service.started-after-last-change"
HOUR = timedelta(hours=1)
AFTER, BEFORE, FUTURE = STARTED + timedelta(minutes=1), STARTED - timedelta(minutes=1), NOW + HOUR


def record(loaded: dict[str, str] | None, **other: object) -> dict[str, object]:
    """A record of the process that runs in `joined_node`."""
    return {"service": SERVICE, "pid": 4, "started": STARTED, "loaded": loaded, **other}


def node(**fields: object) -> NodeFacts:
    """A node without a record, whose files were last changed before the start, and are `a` with the hash 1."""
    return changed(joined_node("P1"), **{"inputs": {"a": "1"}, **fields})


#: situation -> facts, the verdict, and words of the reason or witness.
SITUATIONS: dict[str, tuple[dict[str, object], InvariantState, str]] = {
    "never touched, on NTFS": ({}, PROVEN, "by change times"),
    "never touched, without change times": ({"newest_change": None}, UNKNOWN, "only modification times are known"),
    "asked by an older version": ({"newest_change": None, "asked": "modification times"}, PROVEN, "by modification"),
    "a right file was copied over, with its old modification time": (
        {"newest_change": AFTER, "newest_input": BEFORE}, UNKNOWN, "was replaced, or only its attributes, at"),
    "edited by hand": ({"newest_change": AFTER, "newest_input": AFTER}, REFUTED, "changed at 2026-11-23 11:01:00"),
    "edited by hand, without change times": (
        {"newest_change": None, "newest_input": AFTER}, REFUTED, "changed at 2026-11-23 11:01:00"),
    "modification time in the future, on NTFS": ({"newest_input": FUTURE}, PROVEN, "by change times"),
    "modification time in the future, without change times": (
        {"newest_input": FUTURE, "newest_change": None}, UNKNOWN, "later than the node's own time"),
    "written while the clock was ahead": (
        {"newest_input": FUTURE, "newest_change": FUTURE}, UNKNOWN, "later than the node's own time"),
    "copied over after the start, modification time in the future": (
        {"newest_input": FUTURE, "newest_change": AFTER}, UNKNOWN, "its modification time is older"),
    "started while the clock was ahead": ({"service__started": FUTURE}, UNKNOWN, "the clock was ahead then"),
    "recorded": ({"start_record": record({"a": "1"})}, PROVEN, "by the record of the start"),
    "recorded, then attributes changed": (
        {"start_record": record({"a": "1"}), "newest_change": AFTER}, PROVEN, "by the record"),
    "recorded, then written again with the same bytes": (
        {"start_record": record({"a": "1"}), "newest_change": AFTER, "newest_input": AFTER}, PROVEN, "by the record"),
    "recorded, modification time in the future": (
        {"start_record": record({"a": "1"}), "newest_change": None, "newest_input": FUTURE}, PROVEN, "by the record"),
    "recorded while the clock was ahead": (
        {"start_record": record({"a": "1"}, started=FUTURE), "service__started": FUTURE}, PROVEN, "by the record"),
    "recorded while the clock was ahead, then edited": (
        {"start_record": record({"a": "0"}, started=FUTURE), "service__started": FUTURE}, REFUTED, "a is not what"),
    "recorded, then edited with an old time": ({"start_record": record({"a": "0"})}, REFUTED, "a is not what process"),
    "recorded, then a file was removed": ({"start_record": record({"a": "1", "b": "2"})}, REFUTED, "b is not what"),
    "recorded, then a certificate was added": ({"start_record": record({"a": "1", r"c:\s\*_sync*": "2"})}, REFUTED,
        r"the certificate files in c:\s are not what process"),
    "edited by this program": ({"start_record": record(None)}, REFUTED, "was running when esync changed"),
    "edited by this program, the clock was ahead": (
        {"start_record": record(None, started=FUTURE), "service__started": FUTURE}, REFUTED, "was running when esync"),
    "edited by this program, then started again by someone": (
        {"start_record": record(None, pid=8)}, PROVEN, "by change times"),
    "the id is in use again after a reboot": (
        {"start_record": record({"a": "0"}, started=STARTED - HOUR)}, PROVEN, "by change times"),
    "recorded, and now a file cannot be read": (
        {"start_record": record({"a": "1"}), "inputs": {}, "newest_change": None}, UNKNOWN, "only modification times"),
    "recorded nothing": ({"start_record": record({}), "inputs": {}, "newest_change": None}, UNKNOWN, "only modif"),
    "record of another service": ({"start_record": record({"a": "0"}, service="Other")}, PROVEN, "by change times"),
    "edited by this program, start time unknown": (
        {"start_record": record(None, started=None), "service__started": None}, REFUTED, "was running when esync"),
    "recorded, start time unknown": (
        {"start_record": record({"a": "1"}, started=None), "service__started": None}, UNKNOWN, "start time"),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_situation_is_judged_by_its_best_witness(situation: str) -> None:
    """The verdict and its reason; a restart is owed unless it is proven; the rule says the same."""
    fields, verdict, words = SITUATIONS[situation]
    facts = node(**fields)
    answer = loaded(facts)
    assert (verdict, True) == (answer.verdict, words in answer.why), answer
    assert bool(restart_reason(facts)) is (verdict is not PROVEN)
    finding = judge(ClusterFacts(nodes=("P1",), origin="P1", seen={"P1": facts})).of(RULE)
    assert (verdict, True, Severity.ERROR) == (finding.verdict, words in finding.evidence, finding.severity)


def test_the_evidence_names_the_nodes_of_each_witness() -> None:
    """When not all are proven in the same way."""
    cluster = joined_cluster()
    proven = changed(cluster.seen["S2"], inputs={"a": "1"}, start_record=record({"a": "1"}))
    seen = {**cluster.seen, "S2": proven}
    evidence = judge(ClusterFacts(nodes=cluster.nodes, origin=cluster.origin, seen=seen)).of(RULE).evidence
    assert "on all 4 nodes: S1, P1, P2: by change times; S2: by the record of the start" == evidence
    assert "on all 4 nodes: by change times" == judge(cluster).of(RULE).evidence


def test_stopped_services_are_named_in_the_order_of_the_cluster() -> None:
    """Another process has to come to the same findings: so a bundle is checked."""
    cluster = joined_cluster(tuple(f"P{number}" for number in range(1, 13)))
    seen = {name: changed(facts, service__state="stopped") for name, facts in cluster.seen.items()}
    judged = judge(ClusterFacts(nodes=cluster.nodes, origin=cluster.origin, seen=seen)).of(RULE)
    assert (UNKNOWN, tuple(cluster.nodes)) == (judged.verdict, judged.nodes)


times = st.integers(-180, 180).map(lambda minutes: NOW + timedelta(minutes=minutes))


@given(st.none() | times, st.none() | times, times, times)
def test_after_a_recorded_start_no_time_can_owe_a_restart(
    modified: datetime | None, changed_at: datetime | None, started: datetime, clock: datetime
) -> None:
    """So no run restarts a service for a time that an earlier run restarted it for."""
    facts = node(newest_input=modified, newest_change=changed_at, service__started=started, clock=clock)
    started_now = StartRecord(service=SERVICE, pid=4, started=started, loaded=facts.inputs)
    assert "" == restart_reason(facts.model_copy(update={"start_record": started_now}))


@given(st.none() | times, st.none() | times, st.none() | times, times)
def test_after_a_change_by_this_program_a_restart_is_owed_whatever_the_clocks_say(
    modified: datetime | None, changed_at: datetime | None, started: datetime | None, clock: datetime
) -> None:
    """As long as the process runs that was running then."""
    facts = node(newest_input=modified, newest_change=changed_at, service__started=started, clock=clock)
    outdated = StartRecord(service=SERVICE, pid=4, started=started, loaded=None)
    assert restart_reason(facts.model_copy(update={"start_record": outdated})).startswith("restart owed: ")


@given(times, times, times)
def test_only_change_times_prove_without_a_record(modified: datetime, started: datetime, clock: datetime) -> None:
    """A modification time alone never does, in whatever order the three times are."""
    facts = node(newest_input=modified, newest_change=None, service__started=started, clock=clock)
    assert loaded(facts).verdict is not PROVEN


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_what_change_times_prove_is_worth_a_record(situation: str) -> None:
    """Never what is unknown, refuted, recorded already, or said by modification times."""
    fields, verdict, words = SITUATIONS[situation]
    assert unrecorded(node(**fields)) is (verdict is PROVEN and "by change times" in words)


@given(st.none() | times, st.none() | times, st.none() | times, times, st.sampled_from(["running", "start_pending"]))
def test_a_record_of_a_start_that_was_seen_changes_no_verdict(
    modified: datetime | None, changed_at: datetime | None, started: datetime | None, clock: datetime, state: str
) -> None:
    """It only makes proof of times that prove; and then there is nothing more to record."""
    fields = {"newest_input": modified, "newest_change": changed_at, "clock": clock}
    facts = node(**fields, service__started=started, service__state=state)
    if not unrecorded(facts):
        return
    assert loaded(facts).verdict is PROVEN
    seen = StartRecord(service=SERVICE, pid=4, started=started, loaded=facts.inputs)
    recorded = facts.model_copy(update={"start_record": seen})
    assert ("by the record of the start", False) == (loaded(recorded).why, unrecorded(recorded))


@pytest.mark.parametrize("fields", [{"inputs": {}}, {"service__pid": 0}, {"service__state": "start_pending"}], ids=str)
def test_a_process_that_is_not_wholly_known_is_not_recorded(fields: dict[str, object]) -> None:
    """Files that cannot be read, no process, or one that may not have read its files yet."""
    assert not unrecorded(node(**fields))
