"""A joined cluster as facts, from which each test breaks one thing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import (
    AssetFacts,
    BinaryFacts,
    CertificateFacts,
    EndpointFact,
    FileFacts,
    GeneratedFacts,
    GeneratedFile,
    GeneratedSite,
    NodeFacts,
    ProbeFacts,
    ReadinessFacts,
    ServiceConfigFacts,
    ServiceFacts,
    Spread,
    SystemFacts,
    WebFacts,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHANGED = NOW - timedelta(hours=2)
STARTED = NOW - timedelta(hours=1)
THUMBPRINT = "c1" * 32
HASHES = {kind: f"{index:02x}" * 32 for index, kind in enumerate(KINDS, 1)}
FOUR = ("S1", "S2", "P1", "P2")

SERVICE = r"C:\Program Files\Ektron\EktronWindowsService30"
SITE = r"C:\inetpub\wwwroot\site"
CONFIGURATOR = r"C:\Program Files\Ektron\CMS400v80\Utilities\Software\SecurityConfigurator"
EWS = r"C:\Program Files\Ektron\CMS400v80\Utilities\EWSUpdates\3.0"
EXE = "Ektron.ASM.EktronServices30.exe"


def certificate(**other: object) -> CertificateFacts:
    """A strong certificate, valid for years."""
    values = {
        "thumbprint": THUMBPRINT,
        "subject": "CN=ektron",
        "not_before": NOW - timedelta(days=100),
        "not_after": NOW + timedelta(days=3000),
        "key_bits": 2048,
        "signature": "sha256",
    }
    return CertificateFacts.model_validate({**values, **other})


def file(path: str) -> FileFacts:
    """A file that exists."""
    return FileFacts(path=path, exists=True, size=100, mtime=CHANGED, hash="aa" * 32)


def service_config(path: str, nodes: tuple[str, ...]) -> ServiceConfigFacts:
    """A service configuration with all keys."""
    return ServiceConfigFacts(
        file=file(path),
        load_balanced="1",
        install_version="8.0.1.087",
        keys=Spread.of(dict.fromkeys(nodes, THUMBPRINT), nodes),
        keys_present=True,
    )


def generated_site(folder: str | None) -> GeneratedSite:
    """The site in a generated file of the service."""
    return GeneratedSite(name="site", physical_path=folder, connection_digest="dd" * 32)


def _web(name: str) -> WebFacts:
    """The configuration of the site, all endpoints with the own certificate of the node."""
    return WebFacts(
        file=file(rf"{SITE}\web.config"),
        endpoints=tuple(EndpointFact(contract=c, client_certificate=f"{name}_SyncClient.pfx") for c in "abc"),
        encoded_value=THUMBPRINT,
        ws_path="http://localhost/Workarea/ServerControlWS.asmx",
        site_path="/",
        builds={"ek_buildNumber": "8.0.1.087", "ek_ServicePack": "SP1"},
        connection_digest="dd" * 32,
        esync_enabled="true",
    )


def joined_node(name: str, nodes: tuple[str, ...] = FOUR, *, origin: bool = False) -> NodeFacts:
    """A node that needs nothing."""
    spreads = {kind: Spread.of(dict.fromkeys(nodes, HASHES[kind]), nodes) for kind in KINDS}
    own_server = f"{name}_SyncServer.pfx"
    config = service_config(rf"{SERVICE}\{EXE}.config", nodes)
    others = [other for other in nodes if other != name][:32]
    return NodeFacts(
        node=name,
        computer=name,
        observed_at=NOW,
        clock=NOW,
        service_folder=SERVICE,
        configurator_folder=CONFIGURATOR if origin else "",
        service=ServiceFacts(
            name="EktronWindowsServices30",
            installed=True,
            state="running",
            start_type="auto",
            pid=4,
            started=STARTED,
            image_path=rf'"{SERVICE}\{EXE}"',
        ),
        binaries=(BinaryFacts(name=EXE, version="8.0.1.87", size=5, hash="bb" * 32),),
        asset=AssetFacts(file=file(rf"{SITE}\AssetManagement.config"), load_balanced="1"),
        service_config=config.model_copy(update={"server_certificates": (own_server,)}),
        web=_web(name),
        ews=service_config(rf"{EWS}\{EXE}.config", nodes) if origin else None,
        origin_family=HASHES if origin else {},
        client=certificate(),
        server=certificate(thumbprint="5e" * 32),
        service_family=spreads,
        configurator_family=spreads if origin else {},
        web_root_family={kind: HASHES[kind] for kind in CLIENT_KINDS},
        staging_files=None if origin else tuple(f"{name}_{kind}" for kind in KINDS),
        staging_family={} if origin else dict(HASHES),
        newest_input=CHANGED,
        newest_input_path=rf"{SITE}\AssetManagement.config",
        probes=ProbeFacts(listening_8732=True, reach_8732=dict.fromkeys(others, True), ws_status=200),
        generated=GeneratedFacts(
            sitedb=GeneratedFile(path=rf"{SERVICE}\sitedb.config", exists=True, sites=(generated_site(SITE),)),
            data=GeneratedFile(path=rf"{SERVICE}\data.config", exists=True, sites=(generated_site(None),)),
            batch_size="100",
        ),
        system=SystemFacts(
            powershell="5.1.17763.1", edition="Desktop", language_mode="FullLanguage", admin=True, free={"C:": 2**34}
        ),
        readiness=ReadinessFacts(limits={"MaxShellsPerUser": "30", "MaxMemoryPerShellMB": "1024"}),
    )


def joined_cluster(nodes: tuple[str, ...] = FOUR) -> ClusterFacts:
    """All nodes joined, the first one the origin."""
    seen = {name: joined_node(name, nodes, origin=name == nodes[0]) for name in nodes}
    return ClusterFacts(nodes=nodes, origin=nodes[0], seen=seen, family=HASHES, family_thumbprint=THUMBPRINT)


def broken(node: str, breakage: Callable[[NodeFacts], NodeFacts], cluster: ClusterFacts | None = None) -> ClusterFacts:
    """The cluster with one node changed."""
    cluster = cluster or joined_cluster()
    return ClusterFacts(
        nodes=cluster.nodes,
        origin=cluster.origin,
        seen={**cluster.seen, node: breakage(cluster.seen[node])},
        reasons=cluster.reasons,
        family=cluster.family,
        family_thumbprint=cluster.family_thumbprint,
    )


def changed(facts: NodeFacts, **fields: object) -> NodeFacts:
    """A validated copy with replaced fields; `web__encoded_value` is the field of a part."""
    data = facts.model_dump()
    for path, value in fields.items():
        *parts, last = path.split("__")
        part = data
        for name in parts:
            part = part[name]
        part[last] = value
    return NodeFacts.model_validate(data)
