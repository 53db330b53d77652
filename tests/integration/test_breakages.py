"""A joined cluster with one fault at a time: verify names rule and node, explain finds the cause, the repair works.

Each fault is on the servers themselves: disks, services, clocks and network, never in our facts.
"""

import base64
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tasks.ektron.certificates.making import generate_family
from tasks.ektron.rules.explain import ORDER, Answer, explain
from tasks.ektron.rules.findings import Findings, InvariantState
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, on_disk, steps_of
from tests.integration.test_rollout import SERVICE
from tests.sampling import rotated
from workers.records import Verdict

pytestmark = pytest.mark.integration

CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
ASSET, WEB = rf"{SITE}\AssetManagement.config", rf"{SITE}\web.config"
HOSTS = r"C:\Windows\System32\drivers\etc\hosts"
STAGING = r"C:\Ektron Security Certificates"
UTILITIES = r"C:\Program Files\Ektron\CMS400v80\Utilities"
EWS = rf"{UTILITIES}\EWSUpdates\3.0\Ektron.ASM.EktronServices30.exe.config"
CONFIGURATOR = rf"{UTILITIES}\Software\SecurityConfigurator"
RESTART = "service.started-after-last-change"
ALWAYS = {"family.expiry", "family.weak-key"}  #: the certificates of the lab have the product's own profile
STRANGER = generate_family("X1").encoded_value.encode()

Break = Callable[[LabProcess, str], AbstractContextManager[None]]


@contextmanager
def restored(*files: Path) -> Iterator[None]:
    """Restores files with their times; removes those that did not exist before."""
    before = {file: (file.read_bytes(), file.stat()) if file.exists() else None for file in files}
    try:
        yield
    finally:
        for file, was in before.items():
            if was is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(was[0])
                os.utime(file, ns=(was[1].st_atime_ns, was[1].st_mtime_ns))


def edit(path: str, pattern: bytes, new: bytes, *, touched: bool = False) -> Break:
    """Changes bytes of a file in one place; its time stays unless `touched`, so that only one fact changes."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        file = on_disk(lab, node, path)
        with restored(file):
            stat = file.stat()
            data = file.read_bytes()
            changed = re.sub(pattern.replace(b"NODE", node.encode()), new, data, count=1)
            assert changed != data
            file.write_bytes(changed)
            if not touched:
                os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            yield

    return broken


def address_of_s1(path: str, pattern: bytes, new: bytes) -> Break:
    """As `edit`, with the address of S1 in place of ADDRESS; a missing file is made."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        file = on_disk(lab, node, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with restored(file):
            if not file.exists():
                file.write_bytes(b"")
            address = str(lab.nodes["S1"]["address"]).encode()
            with edit(path, pattern, new.replace(b"ADDRESS", address))(lab, node):
                yield

    return broken


def flip(path: str) -> Break:
    """Changes one byte of a file and keeps its time."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        file = on_disk(lab, node, path.replace("NODE", node))
        with restored(file):
            stat, data = file.stat(), bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            yield

    return broken


def gone(path: str) -> Break:
    """Removes a file."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        file = on_disk(lab, node, path.replace("NODE", node))
        with restored(file):
            file.unlink()
            yield

    return broken


def there(path: str, content: bytes = b"", *, days_old: int = 0) -> Break:
    """Writes a file that should not exist."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        file = on_disk(lab, node, path.replace("NODE", node))
        assert not file.exists()
        file.parent.mkdir(exist_ok=True)
        with restored(file):
            file.write_bytes(content)
            when = time.time() - days_old * 86400
            os.utime(file, (when, when))
            yield

    return broken


def copied_over(path: str) -> Break:
    """Copies another file over this one, after the service started; as copying programs do, with its old time."""
    return edit(path, rb"\Z", b"\n")


def fault(**faults: object) -> Break:
    """Adds a fault to the machine."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        lab.break_node(node, **faults)
        try:
            yield
        finally:
            lab.heal(node)

    return broken


@contextmanager
def stopped(lab: LabProcess, node: str) -> Iterator[None]:
    """Stops the service."""
    service = {"op": "service", "name": "EktronWindowsServices30"}
    lab.agent(node, {**service, "action": "stop"})
    try:
        yield
    finally:
        assert lab.agent(node, {**service, "action": "start"})[0]["ok"]


def both(*breaks: Break) -> Break:
    """Applies several faults."""

    @contextmanager
    def broken(lab: LabProcess, node: str) -> Iterator[None]:
        with ExitStack() as stack:
            for one in breaks:
                stack.enter_context(one(lab, node))
            yield

    return broken


@dataclass(frozen=True)
class Case:
    """A fault with its node, and the rules that must be refuted, the cause first."""

    node: str
    broken: Break
    refuted: tuple[str, ...]


def case(broken: Break, *refuted: str, node: str = "P1") -> Case:
    """A row of the table."""
    return Case(node, broken, refuted)


OTHER_KEY = rb'(S2_SyncClient\.cer" encodedValue=")[^"]+'
CASES = {
    "asset flag": case(edit(ASSET, rb'LoadBalanced="1" S', b'LoadBalanced="0" S'), "config.asset-load-balanced"),
    "asset flag spelt otherwise": case(
        edit(ASSET, rb'LoadBalanced="1" S', b'LoadBalanced="true" S'), "config.asset-load-balanced"
    ),
    "asset file gone": case(gone(ASSET), "config.files-usable", "site.wspath-answers"),
    "service flag": case(
        edit(CONFIG, rb'key="LoadBalanced" value="1"/>', b'key="LoadBalanced" value="0"/>'),
        "config.service-load-balanced",
        node="S2",
    ),
    "service flag, written just now": case(
        edit(CONFIG, rb'key="LoadBalanced" value="1"/>', b'key="LoadBalanced" value="0"/>', touched=True),
        "config.service-load-balanced",
    ),
    "key of another certificate": case(edit(CONFIG, OTHER_KEY, rb"\1" + STRANGER), "keys.match-cer"),
    "own key of another certificate": case(
        edit(CONFIG, rb'(NODE_SyncClient\.cer" encodedValue=")[^"]+', rb"\1" + STRANGER), "keys.match-cer"
    ),
    "key that is no base64": case(edit(CONFIG, OTHER_KEY, rb"\1????"), "keys.match-cer"),
    "key gone": case(edit(CONFIG, rb'<add key="S2_SyncClient\.cer"[^>]*>', b""), "keys.complete"),
    "key commented out": case(
        edit(CONFIG, rb'(<add key="S2_SyncClient\.cer"[^>]*>)', rb"<!-- \1 -->"), "keys.complete", node="P2"
    ),
    "key twice": case(
        edit(
            CONFIG,
            rb'<add key="S2_SyncClient',
            b'<add key="S2_SyncClient.cer" encodedValue="TkVX"/><add key="S2_SyncClient',
        ),
        "keys.no-duplicates",
    ),
    "EWSUpdates key gone": case(
        edit(EWS, rb'<add key="P2_SyncClient\.cer"[^>]*>', b""), "keys.ewsupdates-agrees", node="S1"
    ),
    "EWSUpdates key of another certificate": case(
        edit(EWS, rb'(P2_SyncClient\.cer" encodedValue=")[^"]+', rb"\1" + STRANGER), "keys.ewsupdates-agrees", node="S1"
    ),
    "no EWSUpdates copy": case(gone(EWS), node="S1"),
    "server certificate of another host": case(
        edit(CONFIG, rb'serverCertificate="NODE_', b'serverCertificate="S1_'), "family.server-certificate-is-own"
    ),
    "one byte of a family file": case(flip(rf"{SERVICE}\S2_SyncClient.pfx"), "family.identical-across-nodes"),
    "one byte of its own certificate": case(flip(rf"{SERVICE}\NODE_SyncServer.cer"), "family.identical-across-nodes"),
    "family file gone": case(gone(rf"{SERVICE}\S2_SyncClient.pvk"), "family.complete"),
    "renamed copy gone from the configurator's folder": case(
        gone(rf"{CONFIGURATOR}\P2_SyncClient.cer"), "family.complete", node="S1"
    ),
    "origin's own file gone from the configurator's folder": case(
        gone(rf"{CONFIGURATOR}\S1_SyncClient.pvk"), "family.complete", node="S1"
    ),
    "web root file gone": case(gone(rf"{SITE}\NODE_SyncClient.pvk"), "family.web-root-copy"),
    "one byte of a web root file": case(flip(rf"{SITE}\NODE_SyncClient.pfx"), "family.web-root-copy"),
    "another server's file in the staging folder": case(
        there(rf"{STAGING}\S1_SyncClient.pfx"), "family.staging-folder-clean"
    ),
    "a certificate of nobody in the staging folder": case(there(rf"{STAGING}\old.cer"), "family.staging-folder-clean"),
    "staging file gone": case(gone(rf"{STAGING}\NODE_SyncServer.cer"), "family.staging-folder-clean"),
    "one byte of a staging file": case(flip(rf"{STAGING}\NODE_SyncServer.pvk"), "family.staging-folder-clean"),
    "one endpoint of the factory": case(
        edit(WEB, rb'clientCertificate="NODE_SyncClient', b'clientCertificate="EktronSyncClient'),
        "config.web-endpoints",
    ),
    "one endpoint of another host": case(
        edit(WEB, rb'clientCertificate="NODE_', b'clientCertificate="S1_'), "config.web-endpoints", node="P2"
    ),
    "encodedValue empty": case(edit(WEB, rb'(key="encodedValue" value=")[^"]+', rb"\1"), "config.encoded-value-agrees"),
    "encodedValue of another certificate": case(
        edit(WEB, rb'(key="encodedValue" value=")[^"]+', rb"\1" + STRANGER), "config.encoded-value-agrees"
    ),
    "another certificate for the pages of the WorkArea": case(
        edit(
            WEB,
            rb"</configuration>",
            b'<location path="WorkArea"><appSettings><add key="encodedValue" value="'
            + STRANGER
            + b'"/></appSettings></location></configuration>',
        ),
        "config.workarea-as-site",
    ),
    "web.config cut off": case(edit(WEB, rb"</configuration>", b""), "config.files-usable"),
    "service configuration cut off": case(edit(CONFIG, rb"</configuration>", b""), "config.files-usable"),
    "another database": case(
        edit(WEB, rb"database=CMS400Staging", b"database=CMS400Test"),
        "database.same-connection-string",
        "config.generated-agrees",
        node="S2",
    ),
    "another password of the database": case(
        edit(WEB, rb"pwd=[^;&\"]+", b"pwd=other"),
        "database.same-connection-string",
        "config.generated-agrees",
        node="S2",
    ),
    "production on the database of staging": case(
        edit(WEB, rb"database=CMS400Production", b"database=CMS400Staging"),
        "database.same-connection-string",
        "config.generated-agrees",
        node="P2",
    ),
    "sitedb.config left behind": case(
        edit(rf"{SERVICE}\sitedb.config", rb"database=CMS400Production", b"database=CMS400Old"),
        "config.generated-agrees",
    ),
    "WSPath leads nowhere": case(edit(WEB, rb"http://NODE/", b"http://gone.example/"), "site.wspath-answers"),
    "WSPath names a page that is gone": case(edit(WEB, rb"ServerControlWS\.asmx", b"Gone.asmx")),
    "service files forbidden": case(
        there(rf"{SITE}\ektron.cms.security.whitelist.config", b"<whitelist />"), "site.service-files-allowed"
    ),
    "no eSync sections": case(
        edit(WEB, rb"(?s)<ektron.serviceModel>.*</ektron.serviceModel>", b""), "node.syncs", node="P2"
    ),
    "asset settings from another file": case(
        both(there(rf"{SITE}\Other.config", b"<DocumentManagerData />"), edit(WEB, rb"AssetManagement\.", b"Other.")),
        "config.asset-source",
    ),
    "encrypted settings": case(
        edit(WEB, rb"<appSettings file", b"<appSettings configProtectionProvider='x' file"), "config.not-encrypted"
    ),
    "WSPath over https": case(edit(WEB, rb"http://NODE/", b"https://localhost/")),
    "WSPath names another server": case(edit(WEB, rb"http://NODE/", b"http://S1/"), "site.wspath-no-other-node"),
    "WSPath names the address of another server": case(
        address_of_s1(WEB, rb"http://NODE/", b"http://ADDRESS/"), "site.wspath-no-other-node"
    ),
    "the own name leads to another server": case(
        address_of_s1(HOSTS, rb"\Z", b"ADDRESS  p1 # moved"), "site.wspath-no-other-node"
    ),
    "another build": case(
        edit(WEB, rb'(key="ek_buildNumber" value=")[^"]+', rb"\g<1>8.0.1.99"),
        "version.same-build",
        "version.service-newer-or-equal",
    ),
    "another service pack": case(
        edit(WEB, rb'(key="ek_ServicePack" value=")[^"]+', rb"\1SP9"), "version.same-build", node="S2"
    ),
    "a library patched": case(flip(rf"{SERVICE}\Ektron.Sync.Communication.dll"), "version.same-build"),
    "a library gone": case(gone(rf"{SERVICE}\Ektron.FileSync.Common.dll"), "version.same-build"),
    "precompiled alone": case(
        there(rf"{SITE}\PrecompiledApp.config", b'<precompiledApp version="2"/>'),
        "site.precompiled-all-or-none",
        node="S2",
    ),
    "configuration copied after the start": case(copied_over(CONFIG), RESTART),
    "asset configuration copied after the start": case(copied_over(ASSET), RESTART),
    "service stopped": case(
        stopped, "service.running", "service.listening-8732", "network.reach-8732-all-pairs", node="P2"
    ),
    "service disabled": case(fault(service={"disabled": True}), "service.starts-by-itself"),
    "clock six minutes ahead": case(fault(clock_skew=360), "clock.skew-below-300s", "clock.skew-below-60s"),
    "clock two minutes behind": case(fault(clock_skew=-120), "clock.skew-below-60s"),
    "way to a neighbour blocked": case(fault(cut=["S2"]), "network.reach-8732-all-pairs"),
    "temporary file left": case(there(rf"{SERVICE}\x.config.esync-77.tmp"), "leftovers.none"),
    "library balancing for one server": case(
        edit(CONFIG, rb'(key="LibraryLoadBalanced"   value=")0', rb"\g<1>1"),
        "config.library-server-count",
        "config.library-balancing-alike",
        node="S2",
    ),
    "a service of another update": case(
        edit(CONFIG, rb'(key="InstallVersion" value="[^"]+)', rb"\1 CU 5"), "version.same-installed-version"
    ),
    "an endpoint gone": case(
        edit(WEB, rb'<add contract="SiteCommunicationServiceReference[^>]*>', b""), "config.endpoints-complete"
    ),
    "another virtual path": case(
        edit(WEB, rb'(key="ek_sitePath" value=")/', rb"\1/other/"),
        "site.same-virtual-path",
        "config.generated-agrees",
        node="S2",
    ),
    "UserDomain of another server": case(
        edit(ASSET, rb'UserDomain="[^"]*"', b'UserDomain="S1"'), "config.asset-user-domain"
    ),
    "eSync switched on alone": case(
        edit(WEB, rb'(key="eSyncEnabled" value=")false', rb"\1true"), "config.esync-enabled-alike", node="S2"
    ),
    "another batch size": case(
        there(rf"{SERVICE}\DbSync.config", b'<config><DatabaseRuntime batchsize="9"/></config>'),
        "config.batchsize-alike",
    ),
    "status of an old sync": case(there(rf"{SITE}\EktSyncStatus\status.xml", days_old=3), "sync.no-stale-status"),
    "assets not passed through": case(
        edit(
            WEB,
            rb'<add key="ek_PageSize"',
            b'<add key="ek_DisableAssetLoadBalancePassThrough" value="true"/><add key="ek_PageSize"',
        ),
        "config.asset-pass-through",
    ),
    "two things at once": case(
        both(edit(CONFIG, OTHER_KEY, rb"\1" + STRANGER), edit(ASSET, rb'LoadBalanced="1" S', b'LoadBalanced="0" S')),
        "keys.match-cer",
        "config.asset-load-balanced",
    ),
}


@pytest.fixture(scope="module")
def joined(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Four servers, joined once for all cases."""
    with four_servers(tmp_path_factory.mktemp("joined") / "lab") as lab:
        assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
        yield lab


def looked_at(harness: Harness, lab: LabProcess) -> tuple[Verdict | None, Findings]:
    """The findings of a verify run."""
    seen = harness.rollout(cluster_of(lab), kind="verify")
    assert seen.findings is not None
    return seen.record.verdict, seen.findings


def read_by_the_service(lab: LabProcess, node: str) -> dict[Path, bytes]:
    """What the service reads when it starts: whatever differs from it later, the service has not loaded."""
    folder = on_disk(lab, node, SERVICE)
    files = [on_disk(lab, node, ASSET), on_disk(lab, node, CONFIG), *folder.glob("*_Sync*.???")]
    return {file: file.read_bytes() for file in files if file.exists()}


def refuted(findings: Findings) -> dict[str, tuple[str, ...]]:
    """The additional refuted rules, with their counter-examples.

    A service that started less than two minutes before its clock was set back by two minutes started in the future.
    """
    found = {f.invariant: f.nodes for f in findings.findings if f.verdict is InvariantState.REFUTED}
    found.pop("service.started-in-the-past", None)
    return {invariant: nodes for invariant, nodes in found.items() if invariant not in ALWAYS}


@pytest.mark.parametrize("name", [list(CASES)[number] for number in rotated(len(CASES), 2, "breakages")])
def test_one_breakage(harness: Harness, joined: LabProcess, name: str) -> None:
    """Exactly the expected rules are refuted, on that node; explain stops at the first of them."""
    one = CASES[name]
    loaded = read_by_the_service(joined, one.node)
    with one.broken(joined, one.node):
        other = read_by_the_service(joined, one.node) != loaded
        verdict, findings = looked_at(harness, joined)
    restart = {RESTART: (one.node,)} if other and "service.running" not in one.refuted else {}
    expected = dict.fromkeys(one.refuted, (one.node,)) | restart
    assert expected == refuted(findings)
    answer = explain(one.node, findings)
    causes = [invariant for invariant in expected if invariant in ORDER]
    if causes:
        assert (Verdict.REFUTED, Answer.CAUSE) == (verdict, answer.answer)
        assert answer.cause is not None
        assert causes[0] == answer.cause.invariant
        assert answer.because
        assert explain("S1" if one.node != "S1" else "S2", findings).answer is Answer.ELSEWHERE
    else:
        assert (Verdict.JOINED, Answer.JOINED) == (verdict, answer.answer)
        assert set(expected) <= {note.partition(":")[0] for note in answer.notes}
    assert STRANGER.decode() not in findings.model_dump_json()


def test_a_rollout_mends_what_plan_and_step_see_alike(harness: Harness, joined: LabProcess) -> None:
    """A foreign certificate in the staging folder is removed and a copy is kept; a missing included file is no news."""
    stray = on_disk(joined, "P2", rf"{STAGING}\old.cer")
    stray.write_bytes(b"somebody's")
    asset = on_disk(joined, "P2", ASSET)
    asset.write_bytes(asset.read_bytes().replace(b'LoadBalanced="1" S', b'LoadBalanced="0" S'))
    done = harness.rollout(cluster_of(joined))
    assert done.record.verdict is Verdict.JOINED, done.record.summary
    assert not stray.exists()
    kept = on_disk(joined, "P2", rf"C:\ProgramData\esync-rollout\{done.record.id}\files")
    assert b"somebody's" in {file.read_bytes() for file in kept.iterdir()}
    message = steps_of(done, "P2")["config_edit"].message
    assert message == "one file edited, the site is recycled"


def test_healed_it_is_joined_again(harness: Harness, joined: LabProcess) -> None:
    """After all cases nothing is refuted: each fault was the only one."""
    verdict, findings = looked_at(harness, joined)
    assert (Verdict.JOINED, {}) == (verdict, refuted(findings))
    assert base64.b64decode(STRANGER)


def test_the_table_is_long_enough() -> None:
    """There are at least 25 faults, and they refute most kinds of rules that can prevent a join."""
    assert len(CASES) >= 25
    covered = {invariant for one in CASES.values() for invariant in one.refuted}
    # Renewals, removed servers and balancers have their own tests.
    elsewhere = {"family.origin-present", "leftovers.removed-node", "pool.none-left-drained"}
    others = {"shared.family-of-other-sites", "shared.partners-known"}  # this lab has one site and no partner
    never = {"node.is-itself", "node.places-writable", "service.installed", "site.same-path", "version.as-declared"}
    never |= {"service.runs-from-folder"}
    assert set(ORDER) - covered == elsewhere | others | never
