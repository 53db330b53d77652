"""`esync sync` against a lab whose servers do syncs, with real processes; its evidence has to give its verdict."""

import os
from collections.abc import Iterator

import pytest

from lab.control.remote import LabProcess
from pipelines.coordinator import snapshot_of
from pipelines.report.sync_rows import SyncReport, build_sync
from pipelines.usecases import control
from pipelines.usecases import sync as syncs
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.syncing.options import SyncOptions
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, on_disk
from tests.integration.sync_causes import PLAYED, SHORT, put_back, saved
from tests.waiting import wait_until
from workers.records import Verdict

pytestmark = pytest.mark.integration

FOLDER = "news"  #: below the site: templates carry what is in it
PROFILE = "upload production"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, harness: Harness) -> Iterator[LabProcess]:
    """Four joined servers."""
    with four_servers(tmp_path_factory.mktemp("lab") / "lab") as running:
        joined = harness.rollout(cluster_of(running))
        assert joined.record.verdict is Verdict.JOINED, joined.record.summary
        for name in FOUR:
            on_disk(running, name, rf"{SITE}\{FOLDER}").mkdir()
        yield running


@pytest.fixture(autouse=True)
def healed(lab: LabProcess) -> Iterator[None]:
    """No fault stays for the next test, and no canary."""
    yield
    for name in FOUR:
        lab.heal(name)
    assert {} == canaries(lab)


@pytest.fixture(autouse=True)
def nothing_runs(lab: LabProcess) -> None:
    """What an earlier test has started may go on after the end of its run: a sync, or a refresh with its mark.

    The next test would find it, or save the mark with the files and put it back later.
    """
    wait_until(lambda: not any(lab.syncs(node)["running"] for node in FOUR))
    wait_until(lambda: not any(any(lab.disk(node).rglob("LoadBalance_*.xml")) for node in FOUR))


def syncing(lab: LabProcess, **sync: object) -> Cluster:
    """The cluster with a site user and short times."""
    data = cluster_of(lab).model_dump()
    data["site_login"] = {"user": "admin", "secret": f"file:{lab.folder / 'site-password'}", "over_http": True}
    settings = {"start": "http", "profile": PROFILE, "every": 0.2, "arrives": 1.5, "begins": 20, "lasts": 40}
    data["sync"] = {**settings, "canary": {"folder": FOLDER}, **sync}
    for node in data["nodes"]:
        node["site_port"] = lab.nodes[node["name"]]["site_port"]
    return Cluster.model_validate(data)


def canaries(lab: LabProcess) -> dict[str, list[str]]:
    """Node -> canaries on its disk."""
    found = {name: [one.name for one in on_disk(lab, name, SITE).rglob("esync-canary*")] for name in FOUR}
    return {name: files for name, files in found.items() if files}


def begun(harness: Harness, cluster: Cluster, kind: str, node: str = "S1") -> str:
    """A run that has been requested."""
    asked = SyncOptions() if kind == syncs.STATUS else SyncOptions(node=node, profile=PROFILE, start="http")
    return syncs.begin(harness.engine, cluster, kind, asked).id


def run(harness: Harness, cluster: Cluster, kind: str, node: str = "S1") -> tuple[RunSummary, SyncReport]:
    """A whole run, with its report."""
    known = harness.finished(begun(harness, cluster, kind, node))
    return known, build_sync(snapshot_of(harness.engine, known.record))


def test_status_of_a_joined_cluster(harness: Harness, lab: LabProcess) -> None:
    """Every server by itself: its service listens, its pool's profiles are known."""
    known, found = run(harness, syncing(lab), syncs.STATUS)
    assert known.record.verdict is Verdict.ANSWERED, known.record.summary
    assert {(True, "running", "accepted", "")} == {
        (one.listening, one.service, one.login, one.running) for one in found.servers
    }
    assert PROFILE in {profile.name for profile in found.servers[0].profiles}


def test_a_proof_reaches_every_server(harness: Harness, lab: LabProcess) -> None:
    """And agrees with the procedure's answer for each of them."""
    known, found = run(harness, syncing(lab), syncs.PROVE)
    assert known.record.verdict is Verdict.PROVEN, known.record.summary
    assert [("yes", True, "")] * 4 == [(one.procedure, one.arrived, one.difference) for one in found.servers]
    assert "ended" == found.state


def test_a_start_and_a_refresh(harness: Harness, lab: LabProcess) -> None:
    """The sync ends; the refresh of production names its other server."""
    known, _ = run(harness, syncing(lab), syncs.START)
    assert known.record.verdict is Verdict.SYNCED, known.record.summary
    known, found = run(harness, syncing(lab), syncs.BALANCE, "P1")
    assert known.record.verdict is Verdict.SYNCED, known.record.summary
    assert [("P2", "refreshed")] == [(peer.node, peer.state.value) for peer in found.peers]


#: All causes take minutes; with this variable they are played, too.
NAMES = tuple(PLAYED) if os.environ.get("ESYNC_ALL_CAUSES") else SHORT


@pytest.mark.parametrize("name", NAMES)
def test_a_cause_is_named_for_exactly_its_servers(harness: Harness, lab: LabProcess, name: str) -> None:
    """A proof fails for the servers that a cause keeps the file from, and names it first; nothing is left anywhere."""
    played, before = PLAYED[name], saved(lab)
    try:
        played.breaks(lab)
        known, found = run(harness, syncing(lab, lasts=8), syncs.PROVE)
    finally:
        put_back(lab, before)
    lacking = {one.node for one in found.servers if not one.arrived}
    rows = {one.node: (one.cause.row, one.cause.because) for one in found.servers if one.cause}
    assert (set(played.lacking), {played.row}) == (lacking, {row for row, _ in rows.values()}), (
        f"{known.record.summary}\n{rows}\n{[entry.code + ' ' + entry.message for entry in found.entries]}"
    )
    assert known.record.verdict in {Verdict.REFUTED, Verdict.UNREACHABLE, Verdict.FAILED}, known.record.summary


def test_a_worker_that_dies_in_a_proof_starts_no_second_sync(harness: Harness, lab: LabProcess) -> None:
    """The next worker follows the same sync, and nothing is left."""
    lab.break_node("S1", sync={"seconds": 0.5})
    id_ = begun(harness, syncing(lab), syncs.PROVE)
    harness.wait_for_step(id_, "sync_start")
    harness.kill_worker()
    harness.start_worker()
    known = harness.finished(id_)
    assert known.record.verdict is Verdict.PROVEN, known.record.summary
    sent = [one for one in harness.engine.store.events(id_) if one.kind == "sync.sent"]
    assert 1 == len(sent)


def test_a_cancelled_proof_leaves_nothing(harness: Harness, lab: LabProcess) -> None:
    """The removal waits for the sync that still runs, and removes what it brings."""
    lab.break_node("S1", sync={"seconds": 0.5})
    id_ = begun(harness, syncing(lab), syncs.PROVE)
    harness.wait_for_step(id_, "sync_start")
    control.cancel(harness.engine, id_, "wrong window")
    known = harness.finished(id_)
    assert known.record.verdict is Verdict.CANCELLED, known.record.summary


def test_another_sync_is_waited_for(harness: Harness, lab: LabProcess) -> None:
    """Nothing is started while one runs that another person has started."""
    lab.break_node("S2", sync={"someone_else": True})
    known, _ = run(harness, syncing(lab), syncs.PROVE)
    assert known.record.verdict is Verdict.STOPPED, known.record.summary
