"""Single broken facts of a joined cluster, each with the rules that must be refuted."""

from collections.abc import Callable
from datetime import timedelta

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tests.unit.tasks.ektron.joined import CONTRACTS, FOUR, HASHES, NOW, SITE, STARTED, THUMBPRINT, certificate, changed

__all__ = ["BREAKAGES", "OLD_EXE", "field"]


def spread(facts: NodeFacts, kind: str, **values: str | None) -> dict[str, Spread]:
    """The files in the service folder with some of one kind changed; None removes one."""
    present = dict.fromkeys(FOUR, HASHES[kind]) | values
    return {**facts.service_family, kind: Spread.of({n: v for n, v in present.items() if v is not None}, FOUR)}


def keys(**values: str | None) -> Spread:
    """The keys of the cluster with some changed; None removes one."""
    present: dict[str, str | None] = {**dict.fromkeys(FOUR, THUMBPRINT), **values}
    return Spread.of({name: value for name, value in present.items() if value is not None}, FOUR)


def field(**fields: object) -> Callable[[NodeFacts], NodeFacts]:
    """A breakage that replaces fields."""
    return lambda facts: changed(facts, **fields)


def endpoints(*certificates: str | None) -> list[dict[str, str | None]]:
    """The first of the product's endpoints, with these client certificates."""
    return [{"contract": CONTRACTS[i], "client_certificate": name} for i, name in enumerate(certificates)]


BROKEN_EXE = [{"name": "Ektron.ASM.EktronServices30.exe", "version": "8.0.1.87", "size": 6, "hash": "be" * 32}]
OLD_EXE = [{"name": "Ektron.ASM.EktronServices30.exe", "version": "3.0.0.0", "size": 5, "hash": "bb" * 32}]
SIX = [f"P1_{kind}" for kind in KINDS]

# name: (node, what breaks, the rules that must be refuted)
BREAKAGES: dict[str, tuple[str, Callable[[NodeFacts], NodeFacts], set[str]]] = {
    "another machine answers": ("P1", field(computer="WEB7"), {"node.is-itself"}),
    "service pack differs": ("P1", field(web__builds__ek_ServicePack="SP2"), {"version.same-build"}),
    "site build differs": (
        "P1",
        field(web__builds__ek_buildNumber="8.0.1.090"),
        {"version.same-build", "version.service-newer-or-equal"},
    ),
    "patched program of the same version": ("P1", field(binaries=BROKEN_EXE), {"version.same-build"}),
    "program missing": ("P2", field(binaries=[]), {"version.same-build"}),
    "service older than site": (
        "P1",
        field(service_config__install_version="8.0.0.001"),
        {"version.same-installed-version", "version.service-newer-or-equal"},
    ),
    "service of another update": (
        "P1",
        field(service_config__install_version="8.0.1.087 CU 5"),
        {"version.same-installed-version"},
    ),
    "installed version not set": (
        "P1",
        field(service_config__install_version=None),
        {"version.same-installed-version"},
    ),
    "installed from another package": (
        "P1",
        field(web__builds__ek_InstallBuild="8.0.1.087SP1.03"),
        {"version.same-install-build"},
    ),
    "another version in ek_cmsversion": (
        "P1",
        field(web__builds__ek_cmsversion="8.50"),
        {"version.same-install-build"},
    ),
    "another virtual path": (
        "S2",
        field(web__site_path="/shop/", generated__sitedb__sites=[{"connection_digest": "dd" * 32}]),
        {"site.same-virtual-path"},
    ),
    "site elsewhere": (
        "S2",
        field(web__file__path=r"D:\web\site\web.config"),
        {"site.same-path", "config.generated-agrees"},
    ),
    "site folder gone": ("P1", field(site_exists=False), {"config.files-usable"}),
    "precompiled alone": ("S2", field(precompiled=True), {"site.precompiled-all-or-none"}),
    "another database": (
        "S2",
        field(web__connection_digest="00" * 32),
        {"database.same-connection-string", "config.generated-agrees"},
    ),
    "sitedb of another database": (
        "P2",
        field(generated__sitedb__sites=[{"physical_path": SITE, "connection_digest": "00" * 32}]),
        {"config.generated-agrees"},
    ),
    "sitedb of another folder": (
        "P2",
        field(generated__sitedb__sites=[{"physical_path": r"D:\old", "connection_digest": "ee" * 32}]),
        {"config.generated-agrees"},
    ),
    "data.config of another database": (
        "P2",
        field(generated__data__sites=[{"connection_digest": "00" * 32}]),
        {"config.generated-agrees"},
    ),
    "the site is not active in sitedb": (
        "P2",
        field(generated__sitedb__sites=[{"connection_digest": "ee" * 32, "active": "0"}]),
        {"config.generated-agrees"},
    ),
    "sitedb of another site path": (
        "P2",
        field(generated__sitedb__sites=[{"connection_digest": "ee" * 32, "site_path": "/old/"}]),
        {"config.generated-agrees"},
    ),
    "another batch size": ("S2", field(generated__batch_size="1000"), {"config.batchsize-alike"}),
    "stale status files": (
        "P1",
        field(generated__status_files=3, generated__oldest_status=NOW - timedelta(days=2)),
        {"sync.no-stale-status"},
    ),
    "assets are not passed through": ("P1", field(web__pass_through_disabled="True"), {"config.asset-pass-through"}),
    "asset flag 0": ("P1", field(asset__load_balanced="0"), {"config.asset-load-balanced"}),
    "asset flag true": ("P1", field(asset__load_balanced="true"), {"config.asset-load-balanced"}),
    "asset flag gone": ("P1", field(asset__load_balanced=None), {"config.asset-load-balanced"}),
    "service flag 0": ("S2", field(service_config__load_balanced="0"), {"config.service-load-balanced"}),
    "broken config": ("S2", field(web__file__problem="not well-formed"), {"config.files-usable"}),
    "factory endpoints": (
        "P1",
        field(web__endpoints=endpoints(*["EktronSyncClient.pfx"] * 3)),
        {"config.web-endpoints"},
    ),
    "one endpoint of another node": (
        "P1",
        field(web__endpoints=endpoints("P1_SyncClient.pfx", "S1_SyncClient.pfx", "P1_SyncClient.pfx")),
        {"config.web-endpoints"},
    ),
    "no endpoints": ("P1", field(web__endpoints=[]), {"config.web-endpoints"}),
    "no eSync section": ("P1", field(web__service_model=False, web__endpoints=[]), {"node.syncs"}),
    "an endpoint gone": (
        "P1",
        field(web__endpoints=endpoints("P1_SyncClient.pfx", "P1_SyncClient.pfx")),
        {"config.endpoints-complete"},
    ),
    "UserDomain of another server": ("P1", field(asset__user_domain="s1"), {"config.asset-user-domain"}),
    "encoded value of another family": ("P1", field(web__encoded_value="00" * 32), {"config.encoded-value-agrees"}),
    "encoded value empty": ("P1", field(web__encoded_value=""), {"config.encoded-value-agrees"}),
    "key missing": ("P1", field(service_config__keys=keys(S2=None)), {"keys.complete"}),
    "no keys element": (
        "P1",
        field(service_config__keys=keys(**dict.fromkeys(FOUR)), service_config__keys_present=False),
        {"keys.complete"},
    ),
    "key of another certificate": ("P1", field(service_config__keys=keys(S2="00" * 32)), {"keys.match-cer"}),
    "all keys of another family": (
        "P1",
        field(service_config__keys=keys(**dict.fromkeys(FOUR, "00" * 32))),
        {"keys.match-cer"},
    ),
    "key twice": (
        "P1",
        field(service_config__keys=keys().model_copy(update={"duplicated": ("S2",)})),
        {"keys.no-duplicates"},
    ),
    "EWSUpdates key twice": (
        "S1",
        field(ews__keys=keys().model_copy(update={"duplicated": ("S2",)})),
        {"keys.no-duplicates"},
    ),
    "EWSUpdates key missing": ("S1", field(ews__keys=keys(P2=None)), {"keys.ewsupdates-agrees"}),
    "EWSUpdates key wrong": ("S1", field(ews__keys=keys(P2="00" * 32)), {"keys.ewsupdates-agrees"}),
    "server certificate of another node": (
        "P1",
        field(service_config__server_certificates=["S1_SyncServer.pfx"]),
        {"family.server-certificate-is-own"},
    ),
    "a family file gone": (
        "P1",
        lambda f: changed(f, service_family=spread(f, "SyncClient.pvk", S2=None)),
        {"family.complete"},
    ),
    "one byte of a family file": (
        "P1",
        lambda f: changed(f, service_family=spread(f, "SyncClient.pfx", S2="00" * 32)),
        {"family.identical-across-nodes"},
    ),
    "a whole other family": (
        "P1",
        lambda f: changed(f, service_family=spread(f, "SyncServer.cer", **dict.fromkeys(FOUR, "00" * 32))),
        {"family.identical-across-nodes"},
    ),
    "configurator folder incomplete": (
        "S1",
        lambda f: changed(f, configurator_family=spread(f, "SyncClient.cer", P2=None)),
        {"family.complete"},
    ),
    "origin lost its family": ("S1", field(origin_family={}), {"family.origin-present"}),
    "web root file gone": ("P1", field(web_root_family={}), {"family.web-root-copy"}),
    "web root file of another family": (
        "P1",
        field(**{"web_root_family__SyncClient.cer": "00" * 32}),
        {"family.web-root-copy"},
    ),
    "stray in the staging folder": (
        "P1",
        field(staging_files=[*SIX, "S1_SyncClient.pfx"]),
        {"family.staging-folder-clean"},
    ),
    "staging folder missing": ("P1", field(staging_files=None), {"family.staging-folder-clean"}),
    "staging file of another family": (
        "P1",
        field(**{"staging_family__SyncServer.pfx": "00" * 32}),
        {"family.staging-folder-clean"},
    ),
    "certificate expired": ("P1", field(client=certificate(not_after=NOW - timedelta(days=1))), {"family.expiry"}),
    "certificate expires soon": ("P1", field(server=certificate(not_after=NOW + timedelta(days=9))), {"family.expiry"}),
    "short key": ("P1", field(client=certificate(key_bits=1024)), {"family.weak-key"}),
    "md5": ("P1", field(client=certificate(signature="md5")), {"family.weak-key"}),
    "service in another folder": (
        "P1",
        field(service__image_path=r"D:\Ektron\Ektron.ASM.EktronServices30.exe"),
        {"service.runs-from-folder"},
    ),
    "service stopped": ("P1", field(service__state="stopped"), {"service.running"}),
    "service not installed": (
        "P1",
        field(service__installed=False, service__state=""),
        {"service.installed", "service.running"},
    ),
    "settings of the site encrypted": (
        "P1",
        field(web__encrypted=("appSettings",), web__ws_path=None, web__builds={}, probes__ws_status=None),
        {"config.not-encrypted"},
    ),
    "service manual": ("P1", field(service__start_type="manual"), {"service.starts-by-itself"}),
    "restart owed": (
        "P1",
        field(newest_input=STARTED + timedelta(seconds=1), newest_change=STARTED + timedelta(seconds=1)),
        {"service.started-after-last-change"},
    ),
    "service started when the clock was ahead": (
        "P1",
        field(
            service__started=NOW + timedelta(hours=1),
            inputs={"a": "b"},
            start_record={
                "service": "EktronWindowsServices30",
                "pid": 4,
                "started": NOW + timedelta(hours=1),
                "loaded": {"a": "b"},
            },
        ),
        {"service.started-in-the-past"},
    ),
    "not listening": ("P1", field(probes__listening_8732=False), {"service.listening-8732"}),
    "way blocked": ("P1", field(probes__reach_8732__S1=False), {"network.reach-8732-all-pairs"}),
    "web service fails": ("P1", field(probes__ws_status=500), {"site.wspath-answers"}),
    "web service silent": ("P1", field(probes__ws_status=0), {"site.wspath-answers"}),
    "clock five minutes ahead": ("P1", field(skew=301), {"clock.skew-below-300s", "clock.skew-below-60s"}),
    "clock a minute behind": ("P1", field(skew=-61), {"clock.skew-below-60s"}),
    "dependent services left stopped": (
        "P1",
        field(service__left_stopped=["W3SVC"]),
        {"leftovers.stopped-services"},
    ),
    "certificates in an old folder": (
        "P1",
        field(
            old_places=[{"folder": r"D:\old", "why": "an earlier place", "files": 6, "examples": ["P1_SyncClient.pfx"]}]
        ),
        {"leftovers.old-places"},
    ),
    "another site uses another family": (
        "P1",
        field(
            service_config__keys=keys(**dict.fromkeys(FOUR, "00" * 32)),
            generated__sitedb__sites=[
                {"physical_path": SITE, "connection_digest": "ee" * 32},
                {"name": "shop", "physical_path": r"D:\shop", "connection_digest": "ab" * 32},
            ],
        ),
        {"keys.match-cer", "shared.family-of-other-sites"},
    ),
    "leftover": ("P1", field(leftovers=[r"C:\x.esync-5.tmp"]), {"leftovers.none"}),
    "library count": (
        "P1",
        field(service_config__library_load_balanced="1", service_config__load_bal_server_count="3"),
        {"config.library-server-count"},
    ),
    "eSync switched off on one node": ("S2", field(web__esync_enabled="false"), {"config.esync-enabled-alike"}),
}
