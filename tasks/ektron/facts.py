"""What was seen on one node, as one value. Everything the rules decide on is in here, and nothing secret.

Where a thing exists once per node of the cluster (a key, a family file), the fact holds what most have and who
differs, so that its size does not grow with the cluster.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

__all__ = [
    "AssetFacts",
    "AssetValues",
    "BinaryFacts",
    "CertificateFacts",
    "ConfigurationFacts",
    "EndpointFact",
    "Fact",
    "FileFacts",
    "GeneratedFacts",
    "GeneratedFile",
    "GeneratedSite",
    "NodeFacts",
    "ProbeFacts",
    "ReadinessFacts",
    "ServiceConfigFacts",
    "ServiceConfigValues",
    "ServiceEvidence",
    "ServiceFacts",
    "Spread",
    "SystemFacts",
    "WebFacts",
    "WebValues",
]


class Fact(BaseModel):
    """A frozen observation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFacts(Fact):
    """One file on the node. `problem` says why its content could not be understood, for an operator."""

    path: str
    exists: bool = False
    size: int = 0
    mtime: AwareDatetime | None = None
    hash: str = ""  #: SHA-256, hex
    readonly: bool = False
    problem: str = ""


class Spread(Fact):
    """A thing that each node of the cluster should have under its own name: what most have, and who differs."""

    common: str = ""  #: the value (a hash) that most of those present have; empty when none is present
    differing: dict[str, str] = {}  #: node -> value, where it is not the common one
    missing: tuple[str, ...] = ()  #: nodes that have none
    unexpected: tuple[str, ...] = ()  #: entries under a name that is no node of the cluster
    duplicated: tuple[str, ...] = ()  #: nodes whose name stands there more than once

    @classmethod
    def of(
        cls,
        values: Mapping[str, str],
        nodes: Iterable[str],
        *,
        duplicated: Iterable[str] = (),
    ) -> Self:
        """Compresses name -> value against the cluster's node names. Case of names does not count.

        Args:
            values: what is there, under whatever spelling of the name.
            nodes: the names there should be.
            duplicated: names seen more than once.
        """
        known = {name.casefold(): name for name in nodes}
        present = {known[n.casefold()]: v for n, v in values.items() if n.casefold() in known}
        common = Counter(present.values()).most_common(1)[0][0] if present else ""
        return cls(
            common=common,
            differing={n: v for n, v in present.items() if v != common},
            missing=tuple(n for n in known.values() if n not in present),
            unexpected=tuple(sorted(n for n in values if n.casefold() not in known)),
            duplicated=tuple(sorted(duplicated)),
        )

    def value(self, node: str) -> str | None:
        """What stands under that node's name, or None."""
        if node in self.missing or not self.common:
            return None
        return self.differing.get(node, self.common)

    def others(self, wanted: str, nodes: Iterable[str]) -> tuple[str, ...]:
        """Those of the nodes that have something, but not the wanted value."""
        if self.common == wanted:
            return tuple(self.differing)
        absent = {*self.missing, *(node for node, value in self.differing.items() if value == wanted)}
        return tuple(node for node in nodes if node not in absent) if self.common else ()

    def count_others(self, wanted: str, nodes: int) -> int:
        """How many `others` returns for so many nodes; the effort does not grow with their number."""
        if self.common == wanted:
            return len(self.differing)
        equal = sum(1 for value in self.differing.values() if value == wanted)
        return nodes - len(self.missing) - equal if self.common else 0


class CertificateFacts(Fact):
    """The public part of a certificate."""

    thumbprint: str  #: SHA-256 of the DER, hex
    subject: str
    not_before: AwareDatetime
    not_after: AwareDatetime
    key_bits: int
    signature: str  #: hash of the signature, `md5`, `sha1`, `sha256`


class AssetValues(Fact):
    """What `AssetManagement.config` says (ektron-facts 2.1)."""

    load_balanced: str | None = None
    user_domain: str | None = None
    storage_location: str | None = None


class AssetFacts(AssetValues):
    """`AssetManagement.config` on a node."""

    file: FileFacts


class ServiceConfigValues(Fact):
    """What the Windows service's `exe.config` says, apart from its keys (ektron-facts 2.2)."""

    load_balanced: str | None = None
    library_load_balanced: str | None = None
    load_bal_server_count: str | None = None
    install_version: str | None = None
    keys_present: bool = False  #: whether the element publickCertKeys is there at all
    server_certificates: tuple[str, ...] = ()  #: services/*/@serverCertificate, each distinct value in the file's order


class ServiceConfigFacts(ServiceConfigValues):
    """The Windows service's `exe.config` on a node."""

    file: FileFacts
    keys: Spread = Spread()  #: publickCertKeys: SHA-256 of the decoded encodedValue, per node


class EndpointFact(Fact):
    """One `add` of `ektron.serviceModel/endPoints` in web.config."""

    contract: str
    client_certificate: str | None = None


class WebValues(Fact):
    """What `web.config` says (ektron-facts 2.3)."""

    endpoints: tuple[EndpointFact, ...] = ()
    encoded_value: str | None = None  #: SHA-256 of the decoded certificate; empty text when the value is empty
    ws_path: str | None = None
    site_path: str | None = None
    builds: dict[str, str] = {}  #: ek_buildNumber, ek_InstallBuild, ek_ServicePack, ek_cmsversion, ek_PatchUpdate
    connection_digest: str | None = None  #: keyed digest of Ektron.DbConnection; the string itself never leaves
    esync_enabled: str | None = None
    pass_through_disabled: str | None = None  #: ek_DisableAssetLoadBalancePassThrough


class WebFacts(WebValues):
    """`web.config` on a node."""

    file: FileFacts


class GeneratedSite(Fact):
    """One site as the service knows it. Attributes are looked up in any case; an absent one is None."""

    name: str | None = None
    site_path: str | None = None
    physical_path: str | None = None
    active: str | None = None
    connection_digest: str | None = None  #: comparable with that of web.config


class GeneratedFile(Fact):
    """sitedb.config or data.config: what the service made of web.config (ektron-facts 2.4)."""

    path: str
    exists: bool = False
    problem: str = ""
    sites: tuple[GeneratedSite, ...] = ()


class GeneratedFacts(Fact):
    """What the product writes by itself beside what is configured. Read, never edited (ektron-facts 2.4)."""

    sitedb: GeneratedFile | None = None
    data: GeneratedFile | None = None
    batch_size: str | None = None  #: of DbSync.config (ektron-facts 6, row 22)
    status_files: int = 0  #: below EktSyncStatus in the site root
    oldest_status: AwareDatetime | None = None


class SystemFacts(Fact):
    """What the node says of itself when greeted. Bytes are free on each drive."""

    powershell: str
    edition: str
    language_mode: str
    clr: str = ""
    os: str = ""
    admin: bool
    code_page: int = 0
    free: dict[str, int] = {}


class ReadinessFacts(Fact):
    """What only matters before anything is set up: limits of WinRM, and who else writes the same files.

    Attributes:
        limits: WinRM's settings by name, as `winrm get winrm/config` prints them; empty when they cannot be read.
        limits_problem: why they cannot.
        rivals: programs that keep files of a server as they want them, each with the sign it was known by.
        rivals_problem: what could not be looked at.
    """

    limits: dict[str, str] = {}
    limits_problem: str = ""
    rivals: tuple[str, ...] = ()
    rivals_problem: str = ""


class BinaryFacts(Fact):
    """One program file: version alone hides patches (ektron-facts 1.3), so size and hash too."""

    name: str
    version: str | None = None
    size: int = 0
    hash: str = ""


class ServiceFacts(Fact):
    """The Windows service (ektron-facts 1.1). Times are the node's, in UTC."""

    name: str
    installed: bool = False
    state: str = ""
    start_type: str = ""
    pid: int = 0
    started: AwareDatetime | None = None
    image_path: str = ""
    dependents: tuple[str, ...] = ()
    left_stopped: tuple[str, ...] = ()  #: stopped with it by a run that did not get to start them again

    @property
    def is_up(self) -> bool:
        """It runs, or will in a moment."""
        return self.state in {"running", "start_pending"}


class ProbeFacts(Fact):
    """What answered when asked from this node."""

    listening_8732: bool | None = None  #: this node's own sync port
    reach_8732: dict[str, bool] = {}  #: other node -> whether this node reaches its sync port
    ws_status: int | None = None  #: HTTP status of WSPath on this node; 0 when nothing answered


class ConfigurationFacts(Fact):
    """The configuration files of one node, which a run edits."""

    asset: AssetFacts
    service_config: ServiceConfigFacts
    web: WebFacts
    ews: ServiceConfigFacts | None = None  #: the EWSUpdates copy, on the origin

    @property
    def readonly_configurations(self) -> tuple[str, ...]:
        """Paths of the configuration files that cannot be written as they are."""
        parts = (self.asset, self.service_config, self.web, self.ews)
        return tuple(part.file.path for part in parts if part is not None and part.file.readonly)


class ServiceEvidence(Fact):
    """What decides whether the Windows service has to be started again."""

    service: ServiceFacts
    newest_input: AwareDatetime | None = None  #: latest change of anything the service reads when it starts
    newest_input_path: str = ""

    @property
    def restart_owed(self) -> bool:
        """The service is up, and started before something it reads was last changed (ektron-facts 6, row 30)."""
        started, changed = self.service.started, self.newest_input
        return self.service.is_up and started is not None and changed is not None and started <= changed


class NodeFacts(ConfigurationFacts, ServiceEvidence):
    """Everything seen on one node at one time."""

    node: str
    computer: str = ""  #: the name the machine gives itself
    observed_at: AwareDatetime  #: our clock
    clock: AwareDatetime  #: the node's clock
    skew: float = 0.0  #: seconds the node is ahead of us
    program_data: str = r"C:\ProgramData"
    system_drive: str = "C:"
    service_folder: str = ""
    configurator_folder: str = ""  #: on the origin, where the Security Configurator leaves its files
    binaries: tuple[BinaryFacts, ...] = ()
    precompiled: bool = False
    site_exists: bool = True
    origin_family: dict[str, str] = {}  #: on the origin: family file kind -> hash, as the Security Configurator left it
    origin_problem: str = ""  #: why those six do not make a family
    client: CertificateFacts | None = None  #: of this node's own SyncClient.cer in the service folder
    server: CertificateFacts | None = None
    service_family: dict[str, Spread] = {}  #: kind (`SyncClient.pfx`, ...) -> hashes in the service folder
    configurator_family: dict[str, Spread] = {}  #: the same in the configurator's folder, on the origin
    web_root_family: dict[str, str] = {}  #: this node's SyncClient files in the site root: kind -> hash
    staging_files: tuple[str, ...] | None = None  #: names in `Ektron Security Certificates`; None: no folder
    staging_family: dict[str, str] = {}  #: kind -> hash of this node's own files there
    leftovers: tuple[str, ...] = ()  #: temporary files of ours
    probes: ProbeFacts = ProbeFacts()
    generated: GeneratedFacts = GeneratedFacts()
    system: SystemFacts | None = None
    readiness: ReadinessFacts | None = None  #: None: was not asked

    def comparable(self) -> dict[str, Any]:
        """What a plan is based on, as data: no times, and nothing that only the clock or the network decides."""
        volatile: dict[str, Any] = dict.fromkeys(
            ("observed_at", "clock", "skew", "probes", "newest_input", "newest_input_path", "generated", "system"), True
        )
        volatile |= {"readiness": True}
        volatile |= {part: {"file": {"mtime"}} for part in ("asset", "service_config", "web", "ews")}
        volatile |= {"service": {"pid", "started", "state", "left_stopped"}}
        return self.model_dump(mode="json", exclude=volatile)

    def fingerprint(self) -> str:
        """Digest of `comparable`."""
        return hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode()).hexdigest()
