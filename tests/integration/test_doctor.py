"""`esync doctor` before anything is set up: each obstacle is reported with its fix."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.cli.entry import run
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.ektron.rules.findings import InvariantState
from tests.integration.harness import FOUR, HELD, SITE, Harness, cluster_of, four_servers, on_disk
from tests.integration.test_breakages import EWS
from tests.integration.test_rollout import SERVICE
from workers.records import Verdict

pytestmark = pytest.mark.integration

TASKS = r"C:\Windows\System32\Tasks"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def examined(harness: Harness, lab: LabProcess, **policy: object) -> RunSummary:
    """The result of the doctor."""
    return harness.rollout(cluster_of(lab, **policy), kind="doctor")


def refuted(summary: RunSummary) -> dict[str, tuple[str, ...]]:
    """The refuted invariants, with their counter-examples."""
    assert summary.findings is not None
    return {f.invariant: f.nodes for f in summary.findings.findings if f.verdict is InvariantState.REFUTED}


def put(lab: LabProcess, node: str, path: str, content: bytes = b"") -> None:
    """Puts a file on the disk of a server."""
    file = on_disk(lab, node, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def files(lab: LabProcess) -> dict[str, tuple[bytes, int]]:
    """Every file of every server, with its modification time."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for node in FOUR
        for path in lab.disk(node).rglob("*")
        if path.is_file()
    }


def test_untouched_servers_are_ready(harness: Harness, lab: LabProcess) -> None:
    """Everything is proven, nothing is written, limits and PowerShell version are known; exit 0."""
    before = files(lab)
    done = examined(harness, lab)
    assert (done.record.verdict, Verdict.READY.exit_code) == (Verdict.READY, 0), done.record.summary
    assert done.findings is not None
    assert {} == {f.invariant: f.evidence for f in done.findings.findings if f.verdict is not InvariantState.PROVEN}
    assert before == files(lab)
    facts = harness.engine.documents(done.record).all_facts("observed")
    assert {"5.1.17763.1"} == {seen.system.powershell for seen in facts.values() if seen.system}
    assert {"30"} == {seen.readiness.limits["MaxShellsPerUser"] for seen in facts.values() if seen.readiness}


def test_the_gate_names_the_screen(harness: Harness, tmp_path: Path) -> None:
    """Without a family the message says which screen to open and what to click; exit 3. With the policy: no gate."""
    with four_servers(tmp_path / "lab", lab="configured: false") as lab:
        done = examined(harness, lab)
        assert (done.record.verdict, Verdict.STOPPED.exit_code) == (Verdict.STOPPED, 3)
        assert "Security Configurator" in done.record.summary
        assert "Generate Certificates" in done.record.summary
        assert {"family.origin-present": ("S1",)} == refuted(done)
        assert examined(harness, lab, generate_certificates=True).record.verdict is Verdict.READY
        lab.run_configurator("S1")
        assert examined(harness, lab).record.verdict is Verdict.READY


def test_competing_tools_are_found(harness: Harness, lab: LabProcess) -> None:
    """DSC, DFS Replication of the site and a scheduled task that copies into it are named; other tasks are not."""
    put(lab, "S1", r"C:\Windows\System32\Configuration\Current.mof")
    put(lab, "S2", rf"{SITE}\DfsrPrivate\x")
    task = f"<Task><Command>robocopy</Command><Arguments>\\\\share {SITE.upper()} secret-argument</Arguments></Task>"
    put(lab, "P1", rf"{TASKS}\Nightly copy", task.encode("utf-16"))
    put(lab, "P1", rf"{TASKS}\Defrag", "<Task><Command>defrag</Command></Task>".encode("utf-16"))
    done = examined(harness, lab)
    assert done.record.verdict is Verdict.READY
    assert "1 warning" in done.record.summary
    assert done.findings is not None
    reasons = done.findings.of("node.competing-managers").reasons
    assert {"S1", "S2", "P1"} == set(reasons)
    assert "PowerShell DSC" in reasons["S1"]
    assert "DFS Replication" in reasons["S2"]
    assert "the scheduled task Nightly copy" in reasons["P1"]
    assert "Defrag" not in reasons["P1"]
    assert "secret-argument" not in done.findings.model_dump_json()


def test_obstacles_are_refuted(harness: Harness, lab: LabProcess) -> None:
    """A full disk, a read-only file, low limits and a wrong clock are named, each with its node; exit 5."""
    lab.break_node("S2", disk_free=50_000_000)
    lab.break_node("P1", readonly=[rf"{SITE}\web.config"])
    lab.break_node("P2", shell_quota=2, envelope_kilobytes=150)
    lab.break_node("S1", clock_skew=400)
    done = examined(harness, lab)
    assert (done.record.verdict, Verdict.REFUTED.exit_code) == (Verdict.REFUTED, 5)
    assert {
        "node.disk-free": ("S2",),
        "config.files-writable": ("P1",),
        "winrm.limits": ("P2",),
        "clock.skew-below-300s": ("S1",),
        "clock.skew-below-60s": ("S1",),
    } == refuted(done)
    assert done.findings is not None
    assert "MaxEnvelopeSizekb is 150, at least 500 is required" in done.findings.of("winrm.limits").reasons["P2"]
    assert all(finding.remedy for finding in done.findings.findings if finding.verdict is InvariantState.REFUTED)


def test_a_file_that_a_rollout_could_not_edit_is_named(harness: Harness, lab: LabProcess) -> None:
    """The copy for service updates is cut off on the origin: a rollout would refuse it, and doctor says so before."""
    copy = on_disk(lab, "S1", EWS)
    copy.write_bytes(copy.read_bytes()[:-30])
    done = examined(harness, lab)
    assert (done.record.verdict, refuted(done)) == (Verdict.REFUTED, {"config.files-editable": ("S1",)})
    assert done.findings is not None
    found = done.findings.of("config.files-editable")
    assert EWS in found.reasons["S1"]
    assert "repair the file manually" in found.remedy
    rollout = harness.rollout(cluster_of(lab))
    assert rollout.record.verdict is Verdict.FAILED
    assert EWS in rollout.record.summary
    assert "write `origin:" not in rollout.record.summary


def test_a_node_without_the_product_is_reported_with_the_others(harness: Harness, lab: LabProcess) -> None:
    """A missing file on the first checked node does not hide problems on another."""
    on_disk(lab, "S1", rf"{SITE}\AssetManagement.config").unlink()
    on_disk(lab, "P1", rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config").write_bytes(b"<configuration>")
    done = examined(harness, lab)
    assert done.record.verdict is Verdict.REFUTED
    assert ("S1", "P1") == refuted(done)["config.files-usable"]


def test_logons(harness: Harness, lab: LabProcess) -> None:
    """An unreachable node gives exit 4; a refused password costs one logon and gives exit 2."""
    lab.break_node("P2", refuse_connections=True)
    silent = examined(harness, lab)
    assert (silent.record.verdict, Verdict.UNREACHABLE.exit_code) == (Verdict.UNREACHABLE, 4)
    assert "P2" in silent.record.summary
    (lab.cluster.parent / "wrong").write_text("not the password\n")
    (lab.cluster.parent / "wrong").chmod(0o600)
    data = cluster_of(lab).model_dump()
    data["connection"]["secret"] = "file:wrong"
    refused = harness.rollout(Cluster.model_validate(data), kind="doctor")
    assert (refused.record.verdict, Verdict.FAILED.exit_code) == (Verdict.FAILED, 2)
    assert [1, 0, 0, 0] == [lab.report(node)["logons_refused"] for node in FOUR]


@pytest.fixture
def commands_use(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this test use the broker and worker of the harness."""
    for name in ("ESYNC_BROKER_URL", "ESYNC_SEAL_KEY"):
        monkeypatch.setenv(name, harness.environment[name])


@pytest.mark.usefixtures("commands_use")
def test_the_commands(harness: Harness, lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor, rollout, verify and explain as an operator types them: exit codes, data, and the cause."""
    file = str(lab.cluster)
    assert run(["doctor", file, "--json", "--verbose"]) == 0
    printed = capsys.readouterr()
    assert "ready" == json.loads(printed.out)["verdict"]
    assert "check by hand (no program can answer this), then record the answer" in printed.err
    assert run(["explain", "P1", file]) == 5  # nothing is set up yet
    capsys.readouterr()
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
    assert run(["explain", "p1", cluster_of(lab).name]) == 0
    assert "P1 is joined" in capsys.readouterr().out

    config = on_disk(lab, "P1", rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config")
    config.write_bytes(
        config.read_bytes().replace(b'S2_SyncClient.cer" encodedValue="MII', b'S2_SyncClient.cer" encodedValue="AAA')
    )
    assert run(["verify", file, "--json", "--verbose"]) == 5
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    (key,) = [finding for finding in report["findings"] if finding["invariant"] == "keys.match-cer"]
    assert ["P1"] == list(key["reasons"])
    assert key["source"]
    assert {"licence.load-balancing", "balancer.sticky-sessions"} < {asked["id"] for asked in report["attestations"]}
    assert printed.err.index("refuted: keys.match-cer") < printed.err.index("invariants proven")
    assert printed.err.index("invariants proven") < printed.err.index(
        "Does the balancer keep each session on one server?"
    )

    assert run(["explain", "P1", "last", "--json"]) == 5
    answer = json.loads(capsys.readouterr().out)
    assert ("cause", "keys.match-cer") == (answer["answer"], answer["cause"]["invariant"])
    assert report["run"] == answer["run"]
    assert run(["explain", "S2", report["run"]]) == 5
    assert "S2 is correct, but the cluster is not joined" in capsys.readouterr().out


@pytest.mark.usefixtures("commands_use")
def test_explain_refuses_what_it_cannot_answer(
    harness: Harness, lab: LabProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown node, an unknown run and a run without findings are refused with a fix."""
    run_id = harness.rollout(cluster_of(lab)).record.id
    assert run(["explain", "X9", run_id]) == 1
    assert "no node 'X9'" in capsys.readouterr().err
    assert run(["explain", "P1", "no-such-cluster"]) == 1
    assert "give the cluster file instead" in capsys.readouterr().err


@pytest.mark.usefixtures("commands_use")
def test_explain_names_the_failed_step(harness: Harness, lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """For a node with a failed step: the cause on the node, and the message of the step."""
    old = rf"{SITE}\S2_SyncClient.cer"
    on_disk(lab, "S2", old).write_bytes(b"of another family")
    done = harness.held_rollout(cluster_of(lab, **HELD), lambda: lab.break_node("S2", readonly=[old]))
    assert done.record.verdict is Verdict.FAILED
    assert run(["explain", "S2"]) == 5
    printed = " ".join(capsys.readouterr().out.split())
    assert "result of that run on this node: failed (refused) in cert_copy" in printed
    assert "remove the read-only attribute, or give the account the right, then retry" in printed


@pytest.mark.usefixtures("commands_use")
def test_explain_calls_no_node_joined_that_was_not_checked(lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """A rollout that ended before it wrote anything has checked the prerequisites only; the message says why."""
    old = rf"{SITE}\S2_SyncClient.cer"
    on_disk(lab, "S2", old).write_bytes(b"of another family")
    lab.break_node("S2", readonly=[old])
    assert run(["rollout", str(lab.cluster), "--yes"]) == 2
    capsys.readouterr()
    for node in ("S2", "P1"):
        assert run(["explain", node]) == 1
        printed = capsys.readouterr()
        assert "joined" not in printed.out
        said = " ".join(printed.err.split())
        assert "did not check the whole cluster: S2: the account may not replace" in said
        assert "give the cluster file instead" in said
