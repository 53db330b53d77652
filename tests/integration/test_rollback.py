"""A rollback restores every byte of every server, and loses nothing; judged by comparing disks."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.text import to_text
from pipelines.usecases import rollback as undoing
from pipelines.usecases.runs import RunSummary
from tasks.undo.words import CHANGED_SINCE, OWN_CHANGE
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, harness_at, on_disk, steps_of
from tests.integration.test_rollout import SERVICE, assert_joined, nothing_half_written
from tests.sampling import in_turn, rotated
from workers.errors import InputRefused, RunUnknown
from workers.records import RunState, Status, StepOutcome, Verdict

pytestmark = pytest.mark.integration

OURS = "ProgramData/esync-rollout"
WEB = rf"{SITE}\web.config"
CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
STAGING = r"C:\Ektron Security Certificates"

#: Number of operations of a node until PowerShell dies: its rollback step takes operations 85 to 171.
DEATHS = range(88, 172, 6)

Disk = dict[str, bytes | None]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def disk_of(lab: LabProcess, node: str) -> Disk:
    """Every file with its bytes and every folder of a node, except our own below ProgramData."""
    root = lab.disk(node)
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    kept = {name: path for name, path in paths.items() if not f"{name}/".startswith(f"{OURS}/")}
    return {name: path.read_bytes() if path.is_file() else None for name, path in kept.items() if name != "ProgramData"}


def disks(lab: LabProcess, *nodes: str) -> dict[str, Disk]:
    """The disks of the given nodes, or of all nodes."""
    return {node: disk_of(lab, node) for node in nodes or FOUR}


def states(lab: LabProcess) -> dict[str, str]:
    """The state of each node's service."""
    return {node: lab.report(node)["service"]["state"] for node in FOUR}


def rolled_back(harness: Harness, run: str, *nodes: str, force: bool = False) -> RunSummary:
    """Rolls a run back and waits for the verdict."""
    return harness.finished(undoing.rollback(harness.engine, run, nodes, force=force, reason="test").id)


def outcome_of(done: RunSummary, node: str) -> StepOutcome:
    """The outcome of the step `rollback` on a node."""
    (outcome,) = [o for o in done.outcomes if (o.node, o.step) == (node, "rollback")]
    return outcome


@pytest.mark.parametrize(
    "edition",
    [
        pytest.param(edition, marks=in_turn(at, 2, "editions of a rollback"))
        for at, edition in enumerate(("8.0", "9.1"))
    ],
)
def test_every_byte_is_as_before(harness: Harness, tmp_path: Path, edition: str) -> None:
    """After a rollout and its rollback, each disk holds the same files and folders with the same bytes."""
    with four_servers(tmp_path / "lab", edition=edition) as lab:
        before, ran = disks(lab), states(lab)
        run = harness.rollout(cluster_of(lab))
        assert run.record.verdict is Verdict.JOINED, run.record.summary
        assert before != disks(lab)
        starts = {node: lab.report(node)["service"]["starts"] for node in FOUR}
        undone = rolled_back(harness, run.record.id)
        assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
        assert (undone.record.kind, undone.record.parent) == ("rollback", run.record.id)
        assert before == disks(lab)
        assert ran == states(lab)
        assert {node: count + 1 for node, count in starts.items()} == {
            node: lab.report(node)["service"]["starts"] for node in FOUR
        }
        assert {Status.CHANGED} == {node.status for node in undone.nodes}
        nothing_half_written(lab)


def test_no_pool_is_down_as_a_whole(harness: Harness, lab: LabProcess) -> None:
    """By halves of both pools; a server whose service does not start keeps its partner as it is, until it is repaired.

    The other pool is restored. Then the rollback is run again: the server that is down comes first.
    """
    before, cluster = disks(lab), cluster_of(lab, whole_pool=False, judge_waves=True)
    run = harness.rollout(cluster).record
    assert run.verdict is Verdict.JOINED, run.summary
    joined = disks(lab, "P2")
    lab.break_node("P1", service={"start_error": 1069})
    undone = rolled_back(harness, run.id)
    assert undone.record.verdict is Verdict.FAILED, undone.record.summary
    waves = [turn.nodes for turn in undone.record.turns if turn.stage == "rollback"]
    assert [("S1", "P1"), ("S2",)] == waves
    assert "P2: not restored: no other server of pool" in undone.record.summary
    assert {"S1": "running", "S2": "running", "P1": "stopped", "P2": "running"} == states(lab)
    assert joined == disks(lab, "P2")
    assert check(bundle_of(harness.engine.store, undone)).verdict == "failed"
    report = build(undone)
    assert "not restored: no other server of pool production" in to_text(report)
    assert "not restored: no other server of pool production" in to_html(report)
    with pytest.raises(InputRefused, match="a rollback that ended as failed") as refused:
        undoing.require_not_half_undone(undone.record)
    assert (
        f"to finish it: esync rollback {run.id}; to undo it: esync rollback {undone.record.id}" in refused.value.remedy
    )
    undoing.require_not_half_undone(run)
    lab.heal("P1")
    again = rolled_back(harness, run.id)
    assert again.record.verdict is Verdict.RESTORED, again.record.summary
    assert [("S1", "P1"), ("S2", "P2")] == [turn.nodes for turn in again.record.turns if turn.stage == "rollback"]
    assert before == disks(lab)


def test_a_rollback_restores_a_pool_that_is_down_together(harness: Harness, lab: LabProcess) -> None:
    """And the others by halves, at the same time; with the option all servers go together."""
    run = harness.rollout(cluster_of(lab, whole_pool=False)).record.id
    for node in ("P1", "P2"):
        lab.agent(node, {"op": "service", "name": "EktronWindowsServices30", "action": "stop"})
    undone = rolled_back(harness, run)
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert [("S1", "P1", "P2"), ("S2",)] == [turn.nodes for turn in undone.record.turns if turn.stage == "rollback"]
    assert {"running"} == set(states(lab).values())
    again = undoing.rollback(harness.engine, undone.record.id, all_at_once=True, reason="test").id
    assert [FOUR] == [turn.nodes for turn in harness.finished(again).record.turns if turn.stage == "rollback"]


def test_a_stopped_service_is_stopped_again(harness: Harness, lab: LabProcess) -> None:
    """A service that was stopped before the run, and that the run started, is stopped by the rollback."""
    name = "EktronWindowsServices30"
    lab.agent("P1", {"op": "service", "name": name, "action": "stop"})
    ran = states(lab)
    assert ran["P1"] == "stopped"
    run = harness.rollout(cluster_of(lab))
    assert states(lab)["P1"] == "running"
    assert rolled_back(harness, run.record.id).record.verdict is Verdict.RESTORED
    assert ran == states(lab)


def test_one_node_alone(harness: Harness, lab: LabProcess) -> None:
    """Only the named node is restored; the others keep everything, and the report says why."""
    before = disks(lab, "P1")
    run = harness.rollout(cluster_of(lab))
    others = disks(lab, "S1", "S2", "P2")
    logons = {node: lab.report(node)["logons_tried"] for node in ("S1", "S2", "P2")}
    undone = rolled_back(harness, run.record.id, "p1")
    assert undone.record.verdict is Verdict.RESTORED
    assert before == disks(lab, "P1")
    assert others == disks(lab, "S1", "S2", "P2")
    assert logons == {node: lab.report(node)["logons_tried"] for node in ("S1", "S2", "P2")}
    result = {node.node: node for node in undone.nodes}
    assert (result["P1"].status, result["S1"].status) == (Status.CHANGED, Status.SKIPPED)
    assert "not selected" in result["S1"].problem.message


def test_a_run_with_a_failed_node(harness: Harness, lab: LabProcess) -> None:
    """A node on which the run failed after some changes is restored like the others, to the last byte."""
    before = disks(lab)
    lab.break_node("S2", dies_after_operations=34)
    lab.break_node("P2", disk_free=0)
    run = harness.rollout(cluster_of(lab, retries={"unreachable": 1}))
    assert run.record.verdict is Verdict.FAILED
    assert {"S2", "P2"} == {node.node for node in run.nodes if node.status is Status.FAILED}
    for node in ("S2", "P2"):
        lab.heal(node)
    assert before["S1"] != disk_of(lab, "S1")
    undone = rolled_back(harness, run.record.id)
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert before == disks(lab)
    assert "changed no file" in outcome_of(undone, "P2").message


def test_a_file_changed_since_is_a_conflict(harness: Harness, lab: LabProcess) -> None:
    """A file that changed since the run blocks its node; the difference is shown without secrets; force restores it."""
    before = disks(lab)
    run = harness.rollout(cluster_of(lab))
    web = on_disk(lab, "P1", WEB)
    secret = b"server=db1;database=cms;uid=sa;pwd=Hunter2-planted"
    text = re.sub(rb'connectionString="server=[^"]*"', b'connectionString="' + secret + b'"', web.read_bytes(), count=2)
    text = text.replace(b'key="ek_PageSize" value="50"', b'key="ek_PageSize" value="75"')
    assert secret in text
    web.write_bytes(text)
    changed = disks(lab, "P1")

    undone = rolled_back(harness, run.record.id)
    assert (undone.record.verdict, Verdict.FAILED.exit_code) == (Verdict.FAILED, 2)
    assert changed == disks(lab, "P1")
    assert {node: before[node] for node in ("S1", "S2", "P2")} == disks(lab, "S1", "S2", "P2")
    conflict = outcome_of(undone, "P1")
    assert (conflict.status, conflict.slug, conflict.file) == (Status.FAILED, "conflict", WEB)
    assert "--force" in conflict.remedy
    others = [change for change in conflict.changes if change.what.startswith(CHANGED_SINCE)]
    own = [change for change in conflict.changes if change.what.startswith(OWN_CHANGE)]
    assert not any("clientCertificate" in change.before for change in others)
    assert ["clientCertificate" in change.before for change in own] == [True]
    shown = "\n".join(f"{change.what}|{change.file}|{change.before}|{change.after}" for change in conflict.changes)
    assert 'value="75"' in shown
    assert 'value="50"' in shown
    assert "[hidden " in shown
    assert check(bundle_of(harness.engine.store, undone)).verdict == "failed"
    report = build(undone)
    for leak in (b"planted", b"uid=sa", b"server="):
        for output in (shown, to_html(report), to_text(report), report.model_dump_json(), harness.log()):
            assert leak.decode() not in output

    forced = rolled_back(harness, run.record.id, force=True)
    assert forced.record.verdict is Verdict.RESTORED, forced.record.summary
    assert before == disks(lab)


def test_files_removed_or_put_there_since_are_conflicts_too(harness: Harness, lab: LabProcess) -> None:
    """A missing replaced file or a changed created file blocks the node; a missing created file does not."""
    before = disks(lab)
    run = harness.rollout(cluster_of(lab))
    on_disk(lab, "S2", CONFIG).unlink()
    on_disk(lab, "P1", rf"{SERVICE}\S1_SyncClient.pfx").write_bytes(b"another key")
    on_disk(lab, "P2", rf"{SERVICE}\S1_SyncClient.pfx").unlink()
    undone = rolled_back(harness, run.record.id)
    assert {"S2": "conflict", "P1": "conflict"} == {
        node.node: node.problem.slug for node in undone.nodes if node.problem.slug
    }
    assert "another key" not in build(undone).model_dump_json()
    assert rolled_back(harness, run.record.id, force=True).record.verdict is Verdict.RESTORED
    assert before == disks(lab)


def test_a_folder_that_others_use_by_now_stays(harness: Harness, lab: LabProcess) -> None:
    """A file that another program put into a folder of the run stays, with its folder."""
    before = disks(lab, "P1")
    run = harness.rollout(cluster_of(lab))
    on_disk(lab, "P1", rf"{STAGING}\notes.txt").write_text("do not lose me")
    assert rolled_back(harness, run.record.id).record.verdict is Verdict.RESTORED
    name = STAGING.split("\\")[1]
    assert before["P1"] | {name: None, f"{name}/notes.txt": b"do not lose me"} == disk_of(lab, "P1")


def test_twice_and_back_again(harness: Harness, lab: LabProcess) -> None:
    """A second rollback changes and restarts nothing; the rollback of a rollback joins the cluster again."""
    before = disks(lab)
    run = harness.rollout(cluster_of(lab))
    joined = disks(lab)
    undone = rolled_back(harness, run.record.id)
    starts = {node: lab.report(node)["service"]["starts"] for node in FOUR}
    again = rolled_back(harness, run.record.id)
    assert again.record.verdict is Verdict.RESTORED
    assert {Status.UNCHANGED} == {outcome.status for outcome in again.outcomes}
    assert starts == {node: lab.report(node)["service"]["starts"] for node in FOUR}
    assert before == disks(lab)

    redone = rolled_back(harness, undone.record.id)
    assert redone.record.verdict is Verdict.RESTORED, redone.record.summary
    assert joined == disks(lab)
    assert_joined(lab, SERVICE, "30")
    assert rolled_back(harness, redone.record.id).record.verdict is Verdict.RESTORED
    assert before == disks(lab)


def test_an_earlier_run_is_not_taken_back_over_a_later_one(harness: Harness, lab: LabProcess) -> None:
    """A change of a later run is a conflict; newest first, both runs can be rolled back."""
    before = disks(lab)
    first = harness.rollout(cluster_of(lab))
    config = on_disk(lab, "P2", CONFIG)
    broken = re.sub(rb'(S2_SyncClient.cer" encodedValue=")....', rb"\1AAAA", config.read_bytes())
    joined = config.read_bytes()
    config.write_bytes(broken)
    later = harness.rollout(cluster_of(lab))
    assert joined == config.read_bytes()
    # The bytes are those of the first run: nothing is lost by restoring, whatever wrote them.
    assert rolled_back(harness, later.record.id).record.verdict is Verdict.RESTORED
    assert broken == config.read_bytes()
    assert outcome_of(rolled_back(harness, first.record.id), "P2").slug == "conflict"
    config.write_bytes(joined)
    assert rolled_back(harness, first.record.id).record.verdict is Verdict.RESTORED
    assert before == disks(lab)


def test_an_interrupted_rollback_goes_on(tmp_path: Path, lab: LabProcess) -> None:
    """After kill -9 during the rollback a new worker continues: the same run ends with every byte restored."""
    with harness_at(tmp_path / "harness") as harness:
        before = disks(lab)
        run = harness.rollout(cluster_of(lab)).record.id
        joined = disks(lab)
        for node in FOUR:
            lab.break_node(node, latency_ms=500)  # so the rollback is not over when its first change is noticed
        undone = undoing.rollback(harness.engine, run).id
        with suppress(FileNotFoundError):  # a file was removed while they were read: they differ
            while joined == disks(lab):
                assert harness.engine.store.run(undone).state is not RunState.CONCLUDED
                time.sleep(0.1)
        harness.kill_worker()
        for node in FOUR:
            lab.heal(node)
        assert "verify" not in {turn.stage for turn in harness.engine.store.run(undone).turns}
        harness.start_worker()
        done = harness.finished(undone)
        assert done.record.verdict is Verdict.RESTORED, done.record.summary
        assert before == disks(lab)
        for node in FOUR:
            service = lab.report(node)["service"]
            assert service["state"] == "running"
            assert datetime.fromisoformat(service["started"]).timestamp() > newest_input(lab, node)


def newest_input(lab: LabProcess, node: str) -> float:
    """The last change of any file that the service reads."""
    paths = (CONFIG, rf"{SITE}\AssetManagement.config")
    return max(on_disk(lab, node, path).stat().st_mtime for path in paths)


def test_wherever_the_connection_breaks(harness: Harness, lab: LabProcess) -> None:
    """PowerShell dies at many points of the rollback: the step observes again in a new session and does the rest."""
    before, hit = disks(lab), 0
    deaths = [DEATHS[number] for number in rotated(len(DEATHS), 3, "deaths of a rollback")]
    for first in range(0, len(deaths), len(FOUR) - 1):
        dying = dict(zip(FOUR[1:], deaths[first:], strict=False))
        run = harness.rollout(cluster_of(lab))
        assert run.record.verdict is Verdict.JOINED, run.record.summary
        for node, point in dying.items():
            lab.break_node(node, dies_after_operations=point)
        undone = rolled_back(harness, run.record.id)
        hit += sum(outcome_of(undone, node).attempt > 1 for node in dying)
        assert undone.record.verdict is Verdict.RESTORED, f"{dying}: {undone.record.summary}"
        assert before == disks(lab), dying
        for node in dying:
            lab.heal(node)
            starts = lab.report(node)["service"]["history"]
            assert datetime.fromisoformat(starts[-1][1]).timestamp() > newest_input(lab, node), dying
    assert hit >= len(deaths) - 3


def test_given_up_half_way_and_rolled_back_again(harness: Harness, lab: LabProcess) -> None:
    """Without retries an interrupted rollback is reported; the next one, a new run, finishes it and restarts."""
    before = disks(lab)
    once = cluster_of(lab, retries={"unreachable": 1, "conflict": 1}, max_failed=3)
    for dying in ({"S2": 125, "P1": 140, "P2": 162}, {"P1": 166}):
        run = harness.rollout(once).record.id
        starts = {node: lab.report(node)["service"]["starts"] for node in dying}
        for node, point in dying.items():
            lab.break_node(node, dies_after_operations=point)
        broken = rolled_back(harness, run)
        assert broken.record.verdict is Verdict.FAILED, dying
        assert set(dying) == {node.node for node in broken.nodes if node.status is Status.FAILED}
        for node in dying:
            lab.heal(node)
        mended = rolled_back(harness, run)
        assert mended.record.verdict is Verdict.RESTORED, mended.record.summary
        assert before == disks(lab), dying
        for node in dying:
            service = lab.report(node)["service"]
            assert service["starts"] > starts[node]
            assert datetime.fromisoformat(service["started"]).timestamp() > newest_input(lab, node), dying


def test_a_run_that_only_recycled_the_site(harness: Harness, lab: LabProcess) -> None:
    """It replaced no byte and has no backup: a rollback has nothing to do, and reports no missing backup.

    The service has loaded the same bytes before, so a younger file alone owes no restart.
    """
    harness.rollout(cluster_of(lab))
    asset = on_disk(lab, "P1", rf"{SITE}\AssetManagement.config")
    os.utime(asset)  # younger than web.config, and than the start of the service
    before = disks(lab)
    run = harness.rollout(cluster_of(lab))
    assert {"config_edit"} == {o.step for o in run.outcomes if o.status is Status.CHANGED}
    assert Verdict.RESTORED is rolled_back(harness, run.record.id).record.verdict
    assert before == disks(lab)


def test_a_try_that_broke_before_it_changed_anything(harness: Harness, lab: LabProcess) -> None:
    """A step that requested what already existed, and lost its connection, has changed nothing and has no backup."""
    harness.rollout(cluster_of(lab))
    config = on_disk(lab, "P1", rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config")
    config.write_bytes(config.read_bytes() + b"\n")  # only a restart is owed
    at = {"operation": "spread", "target": SERVICE, "nth": 1, "after": False}
    lab.break_node("P1", later=[{"at": at, "faults": {"dies_after_operations": 0}}])
    run = harness.rollout(cluster_of(lab))
    copied = steps_of(run, "P1")["cert_copy"]
    assert (2, Status.UNCHANGED) == (copied.attempt, copied.status)
    assert Verdict.RESTORED is rolled_back(harness, run.record.id).record.verdict


def test_refusals_say_why(harness: Harness, lab: LabProcess) -> None:
    """A rollback of unknown runs, of runs that wrote nothing or are active, and of unchanged nodes is refused."""
    with pytest.raises(RunUnknown):
        undoing.rollback(harness.engine, "no-such-run")
    looked = harness.rollout(cluster_of(lab), kind="verify")
    with pytest.raises(InputRefused, match=r"nothing to roll back.*verify"):
        undoing.rollback(harness.engine, looked.record.id)
    run = harness.rollout(cluster_of(lab))
    with pytest.raises(InputRefused, match="has no node 'P9'"):
        undoing.rollback(harness.engine, run.record.id, ["P1", "P9"])
    empty = harness.rollout(cluster_of(lab))
    with pytest.raises(InputRefused, match=r"plan of run .* was empty"):
        undoing.rollback(harness.engine, empty.record.id)
    for node in FOUR:
        lab.break_node(node, latency_ms=60)
    going = harness.start(cluster_of(lab))
    with pytest.raises(InputRefused, match="has not ended"):
        undoing.rollback(harness.engine, going.id)
    locked = rolled_back(harness, run.record.id)
    assert locked.record.verdict is Verdict.LOCKED
    harness.finished(going.id)


def test_a_wrong_password_costs_one_logon(harness: Harness, lab: LabProcess) -> None:
    """The canary's refusal ends a rollback before anything is written."""
    run = harness.rollout(cluster_of(lab))
    joined = disks(lab)
    lab.break_node("S1", refuse_logons=True)
    tried = {node: lab.report(node)["logons_tried"] for node in FOUR}
    harness.kill_worker()  # and with it its open sessions
    harness.start_worker()
    undone = rolled_back(harness, run.record.id)
    assert undone.record.verdict is Verdict.FAILED
    assert joined == disks(lab)
    assert {node: tried[node] for node in FOUR[1:]} == {node: lab.report(node)["logons_tried"] for node in FOUR[1:]}


def test_cleanup_keeps_what_is_not_expired(harness: Harness, lab: LabProcess) -> None:
    """By default new backups stay; with 0 days all are removed, and a rollback then says that they are gone."""
    run = harness.rollout(cluster_of(lab))
    kept = harness.finished(undoing.cleanup(harness.engine, cluster_of(lab)).id)
    assert kept.record.verdict is Verdict.CLEAN
    assert {Status.UNCHANGED} == {outcome.status for outcome in kept.outcomes}
    joined = disks(lab)
    on_disk(lab, "P1", rf"{SITE}\web.config.esync-99999.tmp").write_bytes(b"half")
    gone = harness.finished(undoing.cleanup(harness.engine, cluster_of(lab), everything=True).id)
    assert gone.record.verdict is Verdict.CLEAN, gone.record.summary
    assert {Status.CHANGED} == {node.status for node in gone.nodes}
    for node in FOUR:
        assert not (lab.disk(node) / OURS).exists()
    assert joined == disks(lab)
    undone = rolled_back(harness, run.record.id)
    assert undone.record.verdict is Verdict.FAILED
    assert "backups are missing" in undone.record.summary
    assert joined == disks(lab)


def test_cleanup_by_age_and_what_is_not_ours(harness: Harness, lab: LabProcess) -> None:
    """Expired backups are removed, newer ones stay; a foreign file in our folder is named and not touched."""
    run = harness.rollout(cluster_of(lab)).record.id
    old = lab.disk("P1") / OURS / "20200101-000000-old-aaaaaa"
    shutil.copytree(lab.disk("P1") / OURS / run, old)
    os.utime(old / "manifest.jsonl", (1.6e9, 1.6e9))
    done = harness.finished(undoing.cleanup(harness.engine, cluster_of(lab)).id)
    assert done.record.verdict is Verdict.CLEAN
    assert {"P1"} == {node.node for node in done.nodes if node.status is Status.CHANGED}
    assert not old.exists()
    assert (lab.disk("P1") / OURS / run / "manifest.jsonl").exists()
    stranger = lab.disk("P1") / OURS / run / "mine.txt"
    stranger.write_text("not ours")
    stays = harness.finished(undoing.cleanup(harness.engine, cluster_of(lab), everything=True).id)
    assert stays.record.verdict is Verdict.FAILED
    assert "mine.txt" in stays.record.summary
    assert stranger.read_text() == "not ours"
