"""Facts of the configuration files that a run edits (ektron-facts 2)."""

from tasks.ektron.facts.values import Fact, FileFacts, Spread

__all__ = [
    "CERTIFICATE",
    "CLIENT",
    "CONNECTION",
    "NO_CERTIFICATE",
    "AssetFacts",
    "AssetValues",
    "ConfigurationFacts",
    "EndpointFact",
    "FolderSettings",
    "IncludedFile",
    "Override",
    "ServiceConfigFacts",
    "ServiceSettings",
    "WebFacts",
    "WebValues",
]


class IncludedFile(FileFacts):
    """A file from which a configuration file takes content. It may be missing. `name`: as that file has it."""

    name: str


class _Sectioned(Fact):
    """What is in other files, or in none that can be read.

    Attributes:
        encrypted: sections with values that are edited whose content is encrypted: appSettings, ektron.serviceModel.
        elsewhere: a setting or section that is edited -> name of the included file in which it is in force.
    """

    encrypted: tuple[str, ...] = ()
    elsewhere: dict[str, str] = {}


NO_CERTIFICATE = "empty"  #: replaces the digest of a key without a value


class AssetValues(Fact):
    """Values of `AssetManagement.config` (ektron-facts 2.1)."""

    load_balanced: str | None = None
    user_domain: str | None = None
    storage_location: str | None = None


class AssetFacts(AssetValues):
    """`AssetManagement.config` and its values."""

    file: FileFacts


class ServiceSettings(_Sectioned):
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
    included: tuple[IncludedFile, ...] = ()
    keys: Spread = Spread()  #: publickCertKeys: SHA-256 of the decoded encodedValue, per node
    other_keys: dict[str, str] = {}  #: the same of the servers that are not nodes of the cluster


class EndpointFact(Fact):
    """One `add` of `ektron.serviceModel/endPoints` in web.config."""

    contract: str
    client_certificate: str | None = None


CERTIFICATE, CLIENT, CONNECTION = "encodedValue", "clientCertificate", "connectionString"  #: that folders may override


class Override(Fact):
    """A setting of the site that the pages of a folder do not take from it.

    Attributes:
        setting: `encodedValue`, or `clientCertificate` of an endpoint.
        of: the contract of the endpoint.
        value: SHA-256 of the decoded certificate, or the name of the file; empty where the setting is removed.
        where: file, `location` element and line.
    """

    setting: str
    of: str = ""
    value: str = ""
    where: str


class FolderSettings(Fact):
    """What the pages of the WorkArea read instead of the settings of the site. `problem`: why that is not known."""

    overrides: tuple[Override, ...] = ()
    problem: str = ""


class WebValues(_Sectioned):
    """Values of `web.config` (ektron-facts 2.3)."""

    endpoints: tuple[EndpointFact, ...] = ()
    service_model: bool = True  #: whether the section ektron.serviceModel exists and can be read
    encoded_value: str | None = None  #: SHA-256 of the decoded certificate; an empty string when the value is empty
    ws_path: str | None = None  #: without user and password
    site_path: str | None = None
    builds: dict[str, str] = {}  #: ek_buildNumber, ek_InstallBuild, ek_ServicePack, ek_cmsversion, ek_PatchUpdate
    connection_digest: str | None = None  #: keyed digest of Ektron.DbConnection; the string itself is never kept
    connection_problem: str = ""  #: why the connection string cannot be read: encrypted, or in a file that is missing
    connection_cipher: str | None = None  #: keyed digest of the section where it is encrypted
    esync_enabled: str | None = None
    pass_through_disabled: str | None = None  #: ek_DisableAssetLoadBalancePassThrough
    asset_source: str | None = None  #: configSource of DocumentManagerData; empty: its content is in web.config itself
    workarea: FolderSettings = FolderSettings()
    offloaded: bool = False  #: ek_UseOffloadingSSL: TLS ends at the balancer (ektron-facts 10)


class WebFacts(WebValues):
    """`web.config` and its values."""

    file: FileFacts
    included: tuple[IncludedFile, ...] = ()


class ConfigurationFacts(Fact):
    """The configuration files of one node that a run edits."""

    asset: AssetFacts
    service_config: ServiceConfigFacts
    web: WebFacts
    ews: ServiceConfigFacts | None = None  #: the EWSUpdates copy, on the origin

    @property
    def readonly_configurations(self) -> tuple[str, ...]:
        """Paths of the configuration files, and of files included by them, with the read-only attribute."""
        parts = (self.asset, self.service_config, self.web, self.ews)
        files = [part.file for part in parts if part is not None]
        files += [one for part in parts[1:] if isinstance(part, ServiceConfigFacts | WebFacts) for one in part.included]
        return tuple(file.path for file in files if file.readonly)
