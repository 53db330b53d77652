"""The main job: from an untouched installation to a joined cluster, judged by looking at the servers' disks."""

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from lab.control.remote import LabProcess
from tests.integration.harness import FOUR, SITE, Harness, cluster_of, four_servers, on_disk, steps_of
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration

KINDS = [f"Sync{side}.{ending}" for side in ("Client", "Server") for ending in ("pfx", "pvk", "cer")]
SERVICE = r"C:\Program Files\Ektron\EktronWindowsService30"
SERVICE_85 = r"C:\Program Files (x86)\Ektron\EktronWindowsService40"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def parsed(lab: LabProcess, node: str, path: str) -> etree._Element:
    """A configuration file, parsed by another reader."""
    return etree.fromstring(on_disk(lab, node, path).read_bytes())


def assert_joined(lab: LabProcess, service: str, generation: str) -> None:
    """Asserts everything that the procedure requires, on the disks and at the sync ports."""
    config = rf"{service}\Ektron.ASM.EktronServices{generation}.exe.config"
    client = x509.load_der_x509_certificate(on_disk(lab, "S1", rf"{service}\S1_SyncClient.cer").read_bytes())
    der = client.public_bytes(Encoding.DER)
    for node in FOUR:
        asset = parsed(lab, node, rf"{SITE}\AssetManagement.config")
        assert asset.get("LoadBalanced") == "1"
        tree = parsed(lab, node, config)
        assert tree.xpath("string(appSettings/add[@key='LoadBalanced']/@value)") == "1"
        keys = {add.get("key"): add.get("encodedValue") for add in tree.iterfind(".//publickCertKeys/add")}
        assert {f"{name}_SyncClient.cer" for name in FOUR} <= keys.keys()
        assert {base64.b64encode(der).decode()} == {keys[f"{name}_SyncClient.cer"] for name in FOUR}
        web = parsed(lab, node, rf"{SITE}\web.config")
        assert {f"{node}_SyncClient.pfx"} == set(web.xpath("//endPoints/add/@clientCertificate"))
        assert web.xpath("string(appSettings/add[@key='encodedValue']/@value)") == base64.b64encode(der).decode()
        assert_family(lab, node, service)
        assert_started_last(lab, node, service, config)
        listening = lab.sync_port(node)
        assert listening is not None
        assert listening["load_balanced"] == "1"
        wanted = hashlib.sha256(der).hexdigest()
        assert {wanted} == {listening["clients"][f"{name}_SyncClient.cer"] for name in FOUR}


def assert_family(lab: LabProcess, node: str, service: str) -> None:
    """Asserts 6 x N equal files in the service folder, three in the site, only six in the staging folder."""
    for kind in KINDS:
        copies = {on_disk(lab, node, rf"{service}\{name}_{kind}").read_bytes() for name in FOUR}
        assert copies == {on_disk(lab, "S1", rf"{service}\S1_{kind}").read_bytes()}
        if "Client" in kind:
            assert copies == {on_disk(lab, node, rf"{SITE}\{node}_{kind}").read_bytes()}
    staging = on_disk(lab, node, r"C:\Ektron Security Certificates")
    if node == "S1":
        assert not staging.exists()
    else:
        assert {f"{node}_{kind}" for kind in KINDS} == {path.name for path in staging.iterdir()}


def assert_started_last(lab: LabProcess, node: str, service: str, config: str) -> None:
    """Asserts that the service started after the last change of anything that it reads."""
    folder = on_disk(lab, node, service)
    inputs = [
        *folder.glob("*_Sync*"),
        on_disk(lab, node, config),
        on_disk(lab, node, rf"{SITE}\AssetManagement.config"),
    ]
    newest = max(path.stat().st_mtime for path in inputs)
    started = lab.report(node)["service"]["started"]
    assert datetime.fromisoformat(started).timestamp() > newest


def nothing_half_written(lab: LabProcess) -> None:
    """Asserts that there is no temporary file of ours, and every configuration is well-formed."""
    for node in FOUR:
        assert [] == [str(path) for path in lab.disk(node).rglob("*.esync-*")]
        for path in [*lab.disk(node).rglob("*.config")]:
            if path.read_bytes():
                etree.fromstring(path.read_bytes())


@pytest.mark.parametrize(("edition", "service", "generation"), [("8.0", SERVICE, "30"), ("8.5", SERVICE_85, "40")])
def test_an_untouched_cluster_ends_joined(
    harness: Harness, tmp_path: Path, edition: str, service: str, generation: str
) -> None:
    """One run makes four untouched servers a joined cluster; a second run changes and restarts nothing."""
    with four_servers(tmp_path / "lab", edition=edition) as lab:
        first = harness.rollout(cluster_of(lab))
        assert first.record.verdict is Verdict.JOINED, first.record.summary
        assert_joined(lab, service, generation)
        nothing_half_written(lab)
        starts = {node: lab.report(node)["service"]["starts"] for node in FOUR}

        second = harness.rollout(cluster_of(lab))
        assert second.record.verdict is Verdict.JOINED
        assert {Status.UNCHANGED} == {outcome.status for outcome in second.outcomes}
        assert second.plan is not None
        assert second.plan.empty
        assert starts == {node: lab.report(node)["service"]["starts"] for node in FOUR}


def test_the_ews_copy_and_the_configurator_folder_of_the_origin(harness: Harness, lab: LabProcess) -> None:
    """The origin's EWSUpdates copy has all keys, and the Security Configurator's folder 6 x N files."""
    harness.rollout(cluster_of(lab))
    utilities = r"C:\Program Files\Ektron\CMS400v80\Utilities"
    ews = parsed(lab, "S1", rf"{utilities}\EWSUpdates\3.0\Ektron.ASM.EktronServices30.exe.config")
    keys = ews.xpath("//publickCertKeys/add/@key")
    assert {f"{name}_SyncClient.cer" for name in FOUR} <= set(keys)
    folder = on_disk(lab, "S1", rf"{utilities}\Software\SecurityConfigurator")
    assert {f"{name}_{kind}" for name in FOUR for kind in KINDS} <= {path.name for path in folder.iterdir()}


def test_what_is_replaced_is_kept(harness: Harness, lab: LabProcess) -> None:
    """Each replaced file is in the backup folder of the run on the node, as the manifest says."""
    before = on_disk(lab, "P1", rf"{SITE}\web.config").read_bytes()
    run = harness.rollout(cluster_of(lab)).record.id
    backup = on_disk(lab, "P1", rf"C:\ProgramData\esync-rollout\{run}")
    manifest = (backup / "manifest.jsonl").read_text().splitlines()
    (line,) = [line for line in manifest if "web.config" in line]
    kept = re.search(r'"kept": ?"([^"]+)"', line)
    assert kept is not None
    assert before == backup.joinpath(*kept[1].replace("\\\\", "\\").split("\\")).read_bytes()


def test_a_changed_key_is_mended_on_that_node_alone(harness: Harness, lab: LabProcess) -> None:
    """One wrong key on one node: verify names it, the next run repairs and restarts exactly that node, once."""
    harness.rollout(cluster_of(lab))
    config = on_disk(lab, "P2", rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config")
    text = config.read_bytes()
    config.write_bytes(re.sub(rb'(S2_SyncClient.cer" encodedValue=")....', rb"\1AAAA", text))
    starts = {node: lab.report(node)["service"]["starts"] for node in FOUR}

    looked = harness.rollout(cluster_of(lab), kind="verify")
    assert looked.record.verdict is Verdict.REFUTED
    assert looked.findings is not None
    assert "P2" in {node for finding in looked.findings.refuted_errors for node in finding.nodes}

    mended = harness.rollout(cluster_of(lab))
    assert mended.record.verdict is Verdict.JOINED
    assert {"P2"} == {o.node for o in mended.outcomes if o.status is Status.CHANGED}
    assert starts | {"P2": starts["P2"] + 1} == {node: lab.report(node)["service"]["starts"] for node in FOUR}


def test_without_a_family_the_run_stops_at_the_gate(harness: Harness, tmp_path: Path) -> None:
    """No certificates on the origin: nothing is written, and the message says which screen to open."""
    with four_servers(tmp_path / "lab", lab="configured: false") as lab:
        stopped = harness.rollout(cluster_of(lab))
        assert stopped.record.verdict is Verdict.STOPPED
        assert "Security Configurator" in stopped.record.summary
        assert "S1" in stopped.record.summary
        assert {Status.UNCHANGED} == {outcome.status for outcome in stopped.outcomes}
        lab.run_configurator("S1")
        assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED


def test_a_family_is_made_where_the_policy_says_so(harness: Harness, tmp_path: Path) -> None:
    """With generate_certificates the run makes the family itself; the next run keeps it."""
    with four_servers(tmp_path / "lab", lab="configured: false") as lab:
        cluster = cluster_of(lab, generate_certificates=True)
        assert harness.rollout(cluster).record.verdict is Verdict.JOINED
        again = harness.rollout(cluster)
        assert {Status.UNCHANGED} == {outcome.status for outcome in again.outcomes}


def test_steps_run_in_order_and_cost_little(harness: Harness, lab: LabProcess) -> None:
    """Four steps a node, one PowerShell start and at most 30 round trips for the whole join."""
    done = harness.rollout(cluster_of(lab))
    order = ["install_check", "config_edit", "cert_copy", "service_restart"]
    for node in FOUR:
        assert order == list(steps_of(done, node))
        report = lab.report(node)
        assert report["powershell_starts"] == 1
        assert report["round_trips"] <= 30
