"""Waves on real servers: limits by label, the look after a wave, a hold that a person ends, a retry that heals."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.usecases import control, runs
from tasks.cluster import Cluster
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.waiting import wait_until
from workers.errors import InputRefused
from workers.records import Status, StepOutcome, Verdict

pytestmark = pytest.mark.integration

DEFAULTS = {"whole_pool": False, "judge_waves": True, "retry_in_wave": 1, "max_unreachable": None}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        running.run_configurator("S1")
        yield running


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A broker and a worker."""
    with harness_at(tmp_path / "harness") as made:
        yield made


def in_one_room(lab: LabProcess, **policy: object) -> Cluster:
    """The cluster of the lab with the defaults of the product; all servers are in one room."""
    cluster = cluster_of(lab, **DEFAULTS)
    data = cluster.model_dump()
    data["policy"] |= policy
    for node in data["nodes"]:
        node["labels"] = {"room": "r1"}
    return Cluster.model_validate(data)


def test_a_held_run_has_changed_one_server_of_a_pool_one_at_a_time(harness: Harness, lab: LabProcess) -> None:
    """It waits for a person; then the other halves follow, and at no moment two servers of a room are in work."""
    run = harness.start(in_one_room(lab, waves="all", at_most={"room": 1}, hold="after-canary")).id
    with pytest.raises(InputRefused, match="is not held"):
        control.promote(harness.engine, run)
    wait_until(lambda: runs.status(harness.engine, run).held == "wave-2", harness.log)
    assert {"S1", "P1"} == {one.node for one in _changes(harness, run)}
    control.promote(harness.engine, run, "ann")
    done = harness.finished(run)
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert ["wave-1", "prove-1", "recheck-1", "wave-2", "verify"] == [turn.name for turn in done.record.turns][-5:]
    assert ["by ann"] == [e.message for e in harness.engine.store.events(run) if e.kind == "run.promoted"]
    steps = [one for one in done.outcomes if one.turn.startswith("wave-")]
    times = sorted((min(o.started for o in own), max(o.ended for o in own)) for own in _by_node(steps))
    assert len(times) == len(FOUR)
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(times))


def test_what_breaks_during_a_hold_is_found_before_the_next_wave(harness: Harness, lab: LabProcess) -> None:
    """The service of the canary cannot be started any more: the other half of its pool is not restarted."""
    run = harness.start(in_one_room(lab, at_most={"room": 1}, hold="after-canary")).id
    wait_until(lambda: runs.status(harness.engine, run).held == "wave-2", harness.log)
    file = on_disk(lab, "S1", rf"{SITE}\AssetManagement.config")
    file.write_bytes(file.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    lab.break_node("S1", service={"start_error": 1069})
    control.promote(harness.engine, run, "ann")
    done = harness.finished(run)
    assert Verdict.STOPPED is done.record.verdict, done.record.summary
    assert ["wave-1", "prove-1", "recheck-1", "retry-1"] == [turn.name for turn in done.record.turns][-4:]
    assert {"S1"} == {one.node for one in _changes(harness, run)}


def test_a_server_that_recovers_is_done_by_a_retry_in_its_wave(harness: Harness, lab: LabProcess) -> None:
    """Its disk is full when its wave begins; then there is room."""
    lab.break_node("S2", disk_free=0)
    run = harness.start(in_one_room(lab, retry_in_wave=5)).id
    wait_until(lambda: any(o.status is Status.FAILED for o in harness.engine.store.outcomes(run)), harness.log)
    lab.heal("S2")
    done = harness.finished(run)
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert any(turn.stage == "retry" and turn.nodes == ("S2",) for turn in done.record.turns)
    (healed,) = (node for node in done.nodes if node.node == "S2")
    assert Status.CHANGED is healed.status


def test_a_server_that_somebody_changes_back_is_found_after_its_wave(harness: Harness, lab: LabProcess) -> None:
    """The look after the wave finds it before another half of a pool is touched; a retry sets it right."""
    lab.break_node("P1", latency_ms=200)  # so that the first wave lasts
    run = harness.start(in_one_room(lab, waves="all", at_most={"room": 1})).id
    store = harness.engine.store
    wait_until(lambda: store.outcome(run, "wave-1", "S1", "service_restart"), harness.log)
    file = on_disk(lab, "S1", rf"{SITE}\AssetManagement.config")
    file.write_bytes(file.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    done = harness.finished(run)
    found = store.outcome(run, "prove-1", "S1", "install_check")
    assert found is not None
    assert "S1 was changed and is not as it has to be: 2 changes missing, the first is" in found.message
    assert ["wave-1", "prove-1", "retry-1", "prove-2", "wave-2", "verify"] == [t.name for t in done.record.turns][-6:]
    assert Verdict.JOINED is done.record.verdict, done.record.summary
    assert b'LoadBalanced="1"' in file.read_bytes()


def test_a_site_that_its_change_breaks_stops_the_run(harness: Harness, lab: LabProcess) -> None:
    """All files are right and the service listens, but the site answers with an error: no other server gets them."""
    written = {"operation": "write", "target": rf"{SITE}\web.config", "after": True}
    lab.break_node("S1", later=[{"at": written, "faults": {"site": {"down": True}}}])
    done = harness.finished(harness.start(in_one_room(lab)).id)
    assert Verdict.STOPPED is done.record.verdict, done.record.summary
    assert "S1 was changed, and now http://" in done.record.summary
    assert "returns HTTP 503" in done.record.summary
    assert ["wave-1", "prove-1", "retry-1", "prove-2"] == [turn.name for turn in done.record.turns][-4:]
    assert {"S1"} == {one.node for one in _changes(harness, done.record.id)}


def test_what_did_not_work_before_the_run_does_not_stop_it(harness: Harness, lab: LabProcess) -> None:
    """The site of S1 is down, and a change on it is undone: the run sets it right and goes to the other servers."""
    assert Verdict.JOINED is harness.rollout(in_one_room(lab)).record.verdict
    lab.break_node("S1", site={"down": True})
    for node in ("S1", "S2"):
        file = on_disk(lab, node, rf"{SITE}\AssetManagement.config")
        file.write_bytes(file.read_bytes().replace(b'LoadBalanced="1"', b'LoadBalanced="0"'))
    done = harness.rollout(in_one_room(lab))
    assert Verdict.REFUTED is done.record.verdict, done.record.summary
    assert done.record.summary.startswith("site.wspath-answers does not hold")
    assert {"S1", "S2"} == {one.node for one in _changes(harness, done.record.id)}


def test_a_site_that_was_never_asked_stops_nothing_by_its_silence(harness: Harness, lab: LabProcess) -> None:
    """Its name is unknown on the server itself, before the first rollout as after it: that is for the verdict."""
    file = on_disk(lab, "S1", rf"{SITE}\web.config")
    file.write_bytes(file.read_bytes().replace(b"http://S1/", b"http://gone.example/"))
    done = harness.rollout(in_one_room(lab))
    assert Verdict.REFUTED is done.record.verdict, done.record.summary
    assert done.record.summary.startswith("site.wspath-answers does not hold")
    assert set(FOUR) == {one.node for one in _changes(harness, done.record.id)}


def _changes(harness: Harness, run: str) -> list[StepOutcome]:
    return [one for one in harness.engine.store.outcomes(run) if one.status is Status.CHANGED]


def _by_node(outcomes: list[StepOutcome]) -> list[list[StepOutcome]]:
    return [[one for one in outcomes if one.node == node] for node in FOUR]
