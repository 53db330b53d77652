"""The facts of one node, as one value: the input of all rules. Facts contain no secrets.

Some things exist once per node of the cluster (a key, a family file). Their facts hold the most common value and the
nodes that differ, so the size of the facts does not grow with the cluster.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

__all__ = [
    "ON",
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
    "ServiceEvidence",
    "ServiceFacts",
    "ServiceSettings",
    "Spread",
    "SystemFacts",
    "WebFacts",
    "WebValues",
]


ON = "1"  #: LoadBalanced; the product compares the text, `true` does not switch it on (ektron-facts 2.1)


class Fact(BaseModel):
    """A frozen observation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFacts(Fact):
    """One file on the node. `problem` tells an operator why its content could not be read."""

    path: str
    exists: bool = False
    size: int = 0
    mtime: AwareDatetime | None = None
    hash: str = ""  #: SHA-256, hex
    readonly: bool = False
    problem: str = ""


class Spread(Fact):
    """Values that must exist once for each node of the cluster: the most common value, and the nodes that differ."""

    common: str = ""  #: the most common value (a hash); empty when there are no values
    differing: dict[str, str] = {}  #: node -> value, where it is not the common one
    missing: tuple[str, ...] = ()  #: nodes without a value
    unexpected: tuple[str, ...] = ()  #: names of entries that are not nodes of the cluster
    duplicated: tuple[str, ...] = ()  #: nodes with more than one entry

    @classmethod
    def of(
        cls,
        values: Mapping[str, str],
        nodes: Iterable[str],
        *,
        duplicated: Iterable[str] = (),
    ) -> Self:
        """Compares the entries that exist with the names of the nodes. Case of names does not matter.

        Args:
            values: name -> value of the existing entries, in any spelling of the names.
            nodes: the names of all nodes.
            duplicated: names that occur more than once.
        """
        expected = {name.casefold(): name for name in nodes}
        present = {expected[n.casefold()]: v for n, v in values.items() if n.casefold() in expected}
        common = Counter(present.values()).most_common(1)[0][0] if present else ""
        return cls(
            common=common,
            differing={n: v for n, v in present.items() if v != common},
            missing=tuple(n for n in expected.values() if n not in present),
            unexpected=tuple(sorted(n for n in values if n.casefold() not in expected)),
            duplicated=tuple(sorted(duplicated)),
        )

    def value(self, node: str) -> str | None:
        """The value for a node, or None."""
        if node in self.missing or not self.common:
            return None
        return self.differing.get(node, self.common)

    def others(self, expected: str, nodes: Iterable[str]) -> tuple[str, ...]:
        """The nodes that have a value, but not the expected one."""
        if self.common == expected:
            return tuple(self.differing)
        excluded = {*self.missing, *(node for node, value in self.differing.items() if value == expected)}
        return tuple(node for node in nodes if node not in excluded) if self.common else ()

    def count_others(self, expected: str, nodes: int) -> int:
        """How many nodes `others` returns, of that many; the time for it does not grow with their number."""
        if self.common == expected:
            return len(self.differing)
        equal = sum(1 for value in self.differing.values() if value == expected)
        return nodes - len(self.missing) - equal if self.common else 0


class CertificateFacts(Fact):
    """The public part of a certificate."""

    thumbprint: str  #: SHA-256 of the DER, hex
    subject: str
    not_before: AwareDatetime
    not_after: AwareDatetime
    key_bits: int
    signature: str  #: hash algorithm of the signature: `md5`, `sha1`, `sha256`


class AssetValues(Fact):
    """Values of `AssetManagement.config` (ektron-facts 2.1)."""

    load_balanced: str | None = None
    user_domain: str | None = None
    storage_location: str | None = None


class AssetFacts(AssetValues):
    """`AssetManagement.config` and its values."""

    file: FileFacts


class ServiceSettings(Fact):
    """Settings in the `exe.config` of the Windows service (ektron-facts 2.2)."""

    load_balanced: str | None = None
    library_load_balanced: str | None = None
    load_bal_server_count: str | None = None
    install_version: str | None = None
    keys_present: bool = False  #: whether the element publickCertKeys exists
    server_certificates: tuple[str, ...] = ()  #: services/*/@serverCertificate, each distinct value


class ServiceConfigFacts(ServiceSettings):
    """The `exe.config` of the Windows service, its settings and keys."""

    file: FileFacts
    keys: Spread = Spread()  #: publickCertKeys: SHA-256 of the decoded encodedValue, per node


class EndpointFact(Fact):
    """One `add` of `ektron.serviceModel/endPoints` in web.config."""

    contract: str
    client_certificate: str | None = None


class WebValues(Fact):
    """Values of `web.config` (ektron-facts 2.3)."""

    endpoints: tuple[EndpointFact, ...] = ()
    encoded_value: str | None = None  #: SHA-256 of the decoded certificate; an empty string when the value is empty
    ws_path: str | None = None
    site_path: str | None = None
    builds: dict[str, str] = {}  #: ek_buildNumber, ek_InstallBuild, ek_ServicePack, ek_cmsversion, ek_PatchUpdate
    connection_digest: str | None = None  #: keyed digest of Ektron.DbConnection; the string itself is never kept
    esync_enabled: str | None = None
    pass_through_disabled: str | None = None  #: ek_DisableAssetLoadBalancePassThrough


class WebFacts(WebValues):
    """`web.config` and its values."""

    file: FileFacts


class GeneratedSite(Fact):
    """One site in a file of the service. Names of attributes are read in any case; an absent attribute is None."""

    name: str | None = None
    site_path: str | None = None
    physical_path: str | None = None
    active: str | None = None
    connection_digest: str | None = None  #: comparable with the digest of web.config


class GeneratedFile(Fact):
    """sitedb.config or data.config, which the service makes from web.config (ektron-facts 2.4)."""

    path: str
    exists: bool = False
    problem: str = ""
    sites: tuple[GeneratedSite, ...] = ()


class GeneratedFacts(Fact):
    """The files that the product generates. They are read, never edited (ektron-facts 2.4)."""

    sitedb: GeneratedFile | None = None
    data: GeneratedFile | None = None
    batch_size: str | None = None  #: from DbSync.config (ektron-facts 6, row 22)
    status_files: int = 0  #: number of files below EktSyncStatus in the site root
    oldest_status: AwareDatetime | None = None


class SystemFacts(Fact):
    """What the node reports about itself when a session starts. `free`: drive -> free bytes."""

    powershell: str
    edition: str
    language_mode: str
    clr: str = ""
    os: str = ""
    admin: bool
    code_page: int = 0
    free: dict[str, int] = {}


class ReadinessFacts(Fact):
    """Facts that matter only before anything is set up: WinRM limits, and other programs that write the same files.

    Attributes:
        limits: WinRM settings by name, as `winrm get winrm/config` prints them; empty when they cannot be read.
        limits_problem: why they cannot be read.
        rivals: programs that manage the files of the server, each with the sign that was found.
        rivals_problem: what could not be checked.
    """

    limits: dict[str, str] = {}
    limits_problem: str = ""
    rivals: tuple[str, ...] = ()
    rivals_problem: str = ""


class BinaryFacts(Fact):
    """One program file. With size and hash, because patches do not always change the version (ektron-facts 1.3)."""

    name: str
    version: str | None = None
    size: int = 0
    hash: str = ""


class ServiceFacts(Fact):
    """The Windows service (ektron-facts 1.1). Times are from the clock of the node, in UTC."""

    name: str
    installed: bool = False
    state: str = ""
    start_type: str = ""
    pid: int = 0
    started: AwareDatetime | None = None
    image_path: str = ""
    dependents: tuple[str, ...] = ()
    left_stopped: tuple[str, ...] = ()  #: services that an interrupted run stopped together with it

    @property
    def is_up(self) -> bool:
        """Whether the service is running or starting."""
        return self.state in {"running", "start_pending"}


class ProbeFacts(Fact):
    """Results of network tests from this node. None: not tested."""

    listening_8732: bool | None = None  #: whether a program listens on the sync port of this node
    reach_8732: dict[str, bool] = {}  #: other node -> whether this node reaches its sync port
    ws_status: int | None = None  #: HTTP status of WSPath on this node; 0: no answer


_VOLATILE = (
    "observed_at", "clock", "skew", "probes", "newest_input", "newest_input_path", "generated", "system", "readiness",
)  # fmt: skip


class ConfigurationFacts(Fact):
    """The configuration files of one node that a run edits."""

    asset: AssetFacts
    service_config: ServiceConfigFacts
    web: WebFacts
    ews: ServiceConfigFacts | None = None  #: the EWSUpdates copy, on the origin

    @property
    def readonly_configurations(self) -> tuple[str, ...]:
        """Paths of the configuration files with the read-only attribute."""
        parts = (self.asset, self.service_config, self.web, self.ews)
        return tuple(part.file.path for part in parts if part is not None and part.file.readonly)


class ServiceEvidence(Fact):
    """The facts that decide whether the Windows service must be restarted."""

    service: ServiceFacts
    newest_input: AwareDatetime | None = None  #: last change of the files that the service reads when it starts
    newest_input_path: str = ""

    @property
    def restart_owed(self) -> bool:
        """Whether the service is up, but started before a file that it reads changed (ektron-facts 6, row 30)."""
        started, changed = self.service.started, self.newest_input
        return self.service.is_up and started is not None and changed is not None and started <= changed


class NodeFacts(ConfigurationFacts, ServiceEvidence):
    """All facts of one node at one time."""

    node: str
    computer: str = ""  #: the name that the machine reports
    observed_at: AwareDatetime  #: by the clock of the worker
    clock: AwareDatetime  #: by the clock of the node
    skew: float = 0.0  #: seconds by which the node is ahead of the worker
    program_data: str = r"C:\ProgramData"
    system_drive: str = "C:"
    service_folder: str = ""
    configurator_folder: str = ""  #: on the origin, where the Security Configurator writes its files
    binaries: tuple[BinaryFacts, ...] = ()
    precompiled: bool = False
    site_exists: bool = True
    origin_family: dict[str, str] = {}  #: on the origin: kind -> hash of the files that the Security Configurator wrote
    origin_problem: str = ""  #: why those six files do not form a family
    client: CertificateFacts | None = None  #: of the node's own SyncClient.cer in the service folder
    server: CertificateFacts | None = None
    service_family: dict[str, Spread] = {}  #: kind (`SyncClient.pfx`, ...) -> hashes in the service folder
    configurator_family: dict[str, Spread] = {}  #: the same in the folder of the configurator, on the origin
    web_root_family: dict[str, str] = {}  #: kind -> hash of the node's own SyncClient files in the site root
    staging_files: tuple[str, ...] | None = None  #: names in `Ektron Security Certificates`; None: no folder
    staging_family: dict[str, str] = {}  #: kind -> hash of the node's own files in that folder
    leftovers: tuple[str, ...] = ()  #: temporary files of this program
    probes: ProbeFacts = ProbeFacts()
    generated: GeneratedFacts = GeneratedFacts()
    system: SystemFacts | None = None
    readiness: ReadinessFacts | None = None  #: None: not requested

    def comparable(self) -> dict[str, object]:
        """The facts on which a plan is based, as data: no times, and nothing that depends on the clock or network."""
        volatile: dict[str, bool | set[str] | dict[str, set[str]]] = dict.fromkeys(_VOLATILE, True)
        volatile |= {part: {"file": {"mtime"}} for part in ("asset", "service_config", "web", "ews")}
        volatile |= {"service": {"pid", "started", "state", "left_stopped"}}
        return self.model_dump(mode="json", exclude=volatile)

    def fingerprint(self) -> str:
        """Digest of `comparable`."""
        return hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode()).hexdigest()
