"""A joined cluster as facts, from which each test breaks one thing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.configuration import AssetFacts, EndpointFact, ServiceConfigFacts, WebFacts
from tasks.ektron.facts.generated import GeneratedFacts, GeneratedFile, GeneratedSite
from tasks.ektron.facts.machine import BinaryFacts, ProbeFacts, ReadinessFacts, SystemFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.service import ServiceFacts
from tasks.ektron.facts.values import CertificateFacts, FileFacts, Spread

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHANGED = NOW - timedelta(hours=2)
STARTED = NOW - timedelta(hours=1)
THUMBPRINT = "c1" * 32
HASHES = {kind: f"{index:02x}" * 32 for index, kind in enumerate(KINDS, 1)}
FOUR = ("S1", "S2", "P1", "P2")
CONTRACTS = (
    "SyncCommunicationScheduleServiceReference.SyncCommunicationSchedule",
    "SyncScheduleServiceReference.IScheduleService",
    "SiteCommunicationServiceReference.ISiteCommunication",
)

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


def service_config(path: str, nodes: tuple[str, ...], count: int) -> ServiceConfigFacts:
    """A service configuration with all keys, in a pool of that many nodes."""
    return ServiceConfigFacts(
        file=file(path),
        load_balanced="1",
        library_load_balanced="1",
        load_bal_server_count=str(count),
        install_version="8.0.1.087",
        keys=Spread.of(dict.fromkeys(nodes, THUMBPRINT), nodes),
        keys_present=True,
    )


def pool(name: str) -> str:
    """The pool of a node: that of S1, S2 is `staging`, that of P1, P2 `production`; other names are in no pool."""
    return {"S": "staging", "P": "production"}.get(name[0], "")


def connection(name: str) -> str:
    """The digest of the connection string: each pool has its own database."""
    return ("ee" if pool(name) == "production" else "dd") * 32


def generated_site(name: str, folder: str | None) -> GeneratedSite:
    """The site in a generated file of the service."""
    return GeneratedSite(
        name="site", site_path="/", physical_path=folder, active="1", connection_digest=connection(name)
    )


def _web(name: str) -> WebFacts:
    """The configuration of the site, all endpoints with the own certificate of the node."""
    return WebFacts(
        file=file(rf"{SITE}\web.config"),
        endpoints=tuple(EndpointFact(contract=c, client_certificate=f"{name}_SyncClient.pfx") for c in CONTRACTS),
        encoded_value=THUMBPRINT,
        ws_path="http://localhost/Workarea/ServerControlWS.asmx",
        site_path="/",
        asset_source="AssetManagement.config",
        builds={"ek_buildNumber": "8.0.1.087", "ek_ServicePack": "SP1"},
        connection_digest=connection(name),
        esync_enabled="true",
    )


def address_of(name: str, nodes: tuple[str, ...] = FOUR) -> str:
    """The address of a node."""
    return f"10.0.0.{nodes.index(name) + 11}"


_SYSTEM = SystemFacts(
    powershell="5.1.17763.1",
    edition="Desktop",
    clr="4.0",
    os="Windows 10.0",
    language_mode="FullLanguage",
    admin=True,
    free={"C:": 2**34},
)


_SERVICE = ServiceFacts(
    name="EktronWindowsServices30",
    installed=True,
    state="running",
    start_type="auto",
    pid=4,
    started=STARTED,
    image_path=rf'"{SERVICE}\{EXE}"',
)


def _generated(name: str) -> GeneratedFacts:
    return GeneratedFacts(
        sitedb=GeneratedFile(path=rf"{SERVICE}\sitedb.config", exists=True, sites=(generated_site(name, SITE),)),
        data=GeneratedFile(path=rf"{SERVICE}\data.config", exists=True, sites=(generated_site(name, None),)),
        batch_size="100",
    )


def joined_node(name: str, nodes: tuple[str, ...] = FOUR, *, origin: bool = False) -> NodeFacts:
    """A node that needs nothing."""
    spreads = {kind: Spread.of(dict.fromkeys(nodes, HASHES[kind]), nodes) for kind in KINDS}
    own_server = f"{name}_SyncServer.pfx"
    count = sum(pool(other) == pool(name) for other in nodes)
    config = service_config(rf"{SERVICE}\{EXE}.config", nodes, count)
    others = [other for other in nodes if other != name][:32]
    return NodeFacts(
        node=name,
        computer=name,
        observed_at=NOW,
        clock=NOW,
        service_folder=SERVICE,
        configurator_folder=CONFIGURATOR if origin else "",
        service=_SERVICE,
        binaries=(BinaryFacts(name=EXE, version="8.0.1.87", size=5, hash="bb" * 32),),
        asset=AssetFacts(
            file=file(rf"{SITE}\AssetManagement.config"),
            load_balanced="1",
            user_domain=name,
            storage_location=rf"\\nas\{pool(name)}",
        ),
        service_config=config.model_copy(update={"server_certificates": (own_server,)}),
        web=_web(name),
        ews=service_config(rf"{EWS}\{EXE}.config", nodes, count) if origin else None,
        origin_family=HASHES if origin else {},
        client=certificate(),
        server=certificate(thumbprint="5e" * 32),
        service_family=spreads,
        configurator_family={kind: spread.model_copy() for kind, spread in spreads.items()} if origin else {},
        web_root_family={kind: HASHES[kind] for kind in CLIENT_KINDS},
        staging_files=None if origin else tuple(f"{name}_{kind}" for kind in KINDS),
        staging_family={} if origin else dict(HASHES),
        newest_input=CHANGED,
        newest_input_path=rf"{SITE}\AssetManagement.config",
        newest_change=CHANGED,
        asked="change times",
        newest_change_path=rf"{SITE}\AssetManagement.config",
        inputs={rf"{SITE}\AssetManagement.config".casefold(): "aa" * 32},
        probes=ProbeFacts(
            listening_8732=True,
            reach_8732=dict.fromkeys(others, True),
            ws_status=200,
            ws_addresses=("127.0.0.1",),
            own_addresses=(address_of(name, nodes),),
        ),
        generated=_generated(name),
        system=_SYSTEM,
        readiness=ReadinessFacts(limits={"MaxShellsPerUser": "30", "MaxMemoryPerShellMB": "1024"}),
    )


@cache
def joined_cluster(nodes: tuple[str, ...] = FOUR) -> ClusterFacts:
    """All nodes joined, the first one the origin."""
    seen = {name: joined_node(name, nodes, origin=name == nodes[0]) for name in nodes}
    return ClusterFacts(
        nodes=nodes,
        origin=nodes[0],
        seen=seen,
        family=HASHES,
        family_thumbprint=THUMBPRINT,
        pools={name: pool(name) for name in nodes if pool(name)},
    )


def broken(node: str, breakage: Callable[[NodeFacts], NodeFacts], cluster: ClusterFacts | None = None) -> ClusterFacts:
    """The cluster with one node changed."""
    cluster = cluster or joined_cluster()
    return replace(cluster, seen={**cluster.seen, node: breakage(cluster.seen[node])})


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
