"""Reads the values that the rules need from the configuration files. No reader returns a secret."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import islice

from tasks.ektron.certificates.family import key_owner, thumbprint
from tasks.ektron.config.alike import Alike
from tasks.ektron.config.sections import (
    ASSET_ROOT,
    Collection,
    Configuration,
    Content,
    Part,
    Section,
    collection,
    open_config,
)
from tasks.ektron.config.workarea import overrides_in
from tasks.ektron.facts.configuration import (
    NO_CERTIFICATE,
    AssetValues,
    EndpointFact,
    FolderSettings,
    ServiceSettings,
    WebValues,
)
from tasks.ektron.kept import Kept
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wspath import without_logon
from tasks.ektron.xml.document import Element

__all__ = ["ServiceValues", "read_asset", "read_service", "read_web"]

_BUILDS = ("ek_buildNumber", "ek_InstallBuild", "ek_ServicePack", "ek_cmsversion", "ek_PatchUpdate")
_MODEL = "ektron.serviceModel"
_CONNECTIONS = "connectionStrings"
_DEFAULT = "Ektron.DbConnection"


class ServiceValues(ServiceSettings):
    """The settings of the service, and its certificate keys as the file has them."""

    key_thumbprints: dict[str, str]  #: node, as the key spells it -> SHA-256 of the certificate
    duplicated_keys: tuple[str, ...]  #: nodes with several effective entries that differ


_SERVICE_VALUES = Kept[bytes, ServiceValues](entries=64, size=16 * 2**20)


def read_asset(content: Content) -> AssetValues:
    """Reads AssetManagement.config.

    Raises:
        ConfigRefused: the file is not well-formed, or is another file.
    """
    root = open_config(content.data, ASSET_ROOT).root
    return AssetValues(
        load_balanced=root.value("LoadBalanced"),
        user_domain=root.value("UserDomain"),
        storage_location=root.value("StorageLocation"),
    )


def read_service(content: Content) -> ServiceValues:
    """Reads the configuration of the service: the live file or its EWSUpdates copy. Once for all nodes.

    The build is in InstallVersion or in installedversion: both exist in real files (ektron-facts 1.3).

    Raises:
        ConfigRefused: the file, or one that it includes, is not well-formed, or is not a .NET configuration.
    """
    alike = Alike.of(content.data)
    if not content.is_alone:
        return _service_values(content)
    try:
        digest = hashlib.sha256(alike.data).digest()
        values = _SERVICE_VALUES.of(digest, lambda: _service_values(Content(alike.data)), len(alike.data))
    except ConfigRefused:
        return _service_values(content)  # refuses in the words of this file
    certificates = tuple(dict.fromkeys(alike.text(name) for name in values.server_certificates))
    found = values.model_copy(update={"server_certificates": certificates})
    return _service_values(content) if alike.name and Alike.STAND_IN in repr(found) else found


def _service_values(content: Content) -> ServiceValues:
    configuration = Configuration(content)
    settings = _children(configuration, "appSettings")
    model = _model(configuration)
    holder = model.sole_child("publickCertKeys") if model else None
    keys = collection(holder.children if holder else ())
    nodes = {
        key: node
        for key, node in ((key, key_owner(entries[-1].value("key") or "")) for key, entries in keys.entries.items())
        if node
    }
    return ServiceValues(
        load_balanced=settings.last("LoadBalanced", "value"),
        library_load_balanced=settings.last("LibraryLoadBalanced", "value"),
        load_bal_server_count=settings.last("LoadBalServerCount", "value"),
        install_version=settings.last("InstallVersion", "value") or settings.last("installedversion", "value"),
        keys_present=holder is not None,
        key_thumbprints={
            node: thumbprint(keys.last(key, "encodedValue") or "") or NO_CERTIFICATE for key, node in nodes.items()
        },
        duplicated_keys=tuple(node for key, node in nodes.items() if _contradict(keys.entries[key])),
        server_certificates=_server_certificates(model),
        encrypted=_encrypted(configuration),
        elsewhere=_elsewhere(configuration, "LoadBalanced"),
    )


def read_web(content: Content, digest: Callable[[str], str]) -> WebValues:
    """Reads web.config.

    Args:
        content: the file, with those that it includes.
        digest: keyed digest; the connection string is passed only to it.

    Raises:
        ConfigRefused: the file, or one that it includes, is not well-formed, or is not a .NET configuration.
    """
    configuration = Configuration(content)
    settings = _children(configuration, "appSettings")
    model = _model(configuration)
    encoded = settings.last("encodedValue", "value")
    ws_path = settings.last("WSPath", "value")
    switches = _children(configuration, "eSyncSettings")
    asset = configuration.document.root.named(ASSET_ROOT)
    return WebValues(
        endpoints=_endpoints(model),
        service_model=model is not None,
        encoded_value=None if encoded is None else thumbprint(encoded),
        ws_path=None if ws_path is None else without_logon(ws_path),
        site_path=settings.last("ek_sitePath", "value"),
        builds={name: value for name in _BUILDS if (value := settings.last(name, "value")) is not None},
        **_connection(configuration, digest),
        esync_enabled=switches.last("eSyncEnabled", "value"),
        pass_through_disabled=settings.last("ek_DisableAssetLoadBalancePassThrough", "value"),
        offloaded=(settings.last("ek_UseOffloadingSSL", "value") or "").strip().casefold() == "true",
        asset_source=(asset[0].value("configSource") or "") if asset else None,
        encrypted=_encrypted(configuration),
        elsewhere=_elsewhere(configuration, "encodedValue"),
        workarea=_workarea(configuration, content, digest),
    )


def _workarea(configuration: Configuration, content: Content, digest: Callable[[str], str]) -> FolderSettings:
    for folder, why in content.unreadable_below.items():
        return FolderSettings(problem=f"{folder}\\web.config cannot be read: {why}")
    return overrides_in(configuration.document, content.below, _connection_names(configuration)[:1], digest)


def _contradict(entries: Sequence[Element]) -> bool:
    """Whether they differ: .NET takes an entry that is equal to an earlier one, and refuses another one."""
    return len({entry.value("encodedValue") for entry in entries}) > 1


def _children(configuration: Configuration, name: str, key: str = "key") -> Collection:
    section = configuration.section(name)
    return collection(section.children if section and not section.encrypted else (), key)


def _model(configuration: Configuration) -> Part | None:
    """The section of eSync."""
    section = configuration.section(_MODEL)
    return section.parts[0] if section and not section.encrypted else None


def _encrypted(configuration: Configuration) -> tuple[str, ...]:
    """Names of the encrypted sections among those that are read."""
    sections = (configuration.section(name) for name in ("appSettings", _MODEL))
    return tuple(section.name for section in sections if section and section.encrypted)


def _elsewhere(configuration: Configuration, key: str) -> dict[str, str]:
    """Which of the values that are edited are in force in an included file, and in which."""
    settings, model = configuration.section("appSettings"), configuration.section(_MODEL)
    sources = {key: settings.part_of(key).source if settings else "", _MODEL: model.parts[0].source if model else ""}
    return {name: source for name, source in sources.items() if source}


def _server_certificates(model: Part | None) -> tuple[str, ...]:
    """Each value once, in the order of the file. The tag of an item is unknown, so every child of `services` counts."""
    values = (
        item.value("serverCertificate")
        for services in (model.element.named("services") if model else ())
        for item in services.children
    )
    return tuple(dict.fromkeys(value for value in values if value is not None))


def _endpoints(model: Part | None) -> tuple[EndpointFact, ...]:
    holder = model.sole_child("endPoints") if model else None
    entries = collection(holder.children if holder else (), "contract").entries.values()
    return tuple(
        EndpointFact(contract=item.value("contract") or "", client_certificate=item.value("clientCertificate"))
        for same in entries
        for item in same
    )


def _connection(configuration: Configuration, digest: Callable[[str], str]) -> dict[str, str | None]:
    """The connection string as a digest, or why there is none; it may be in another file, or encrypted."""
    try:
        section = configuration.section(_CONNECTIONS)
        if section and section.encrypted:
            return {
                "connection_problem": "the section connectionStrings is encrypted",
                "connection_cipher": _cipher(section, digest),
            }
        return {"connection_digest": _connection_digest(configuration, section, digest)}
    except ConfigRefused as refusal:
        return {"connection_problem": str(refusal)}


def _cipher(section: Section, digest: Callable[[str], str]) -> str:
    """Digest of what is in an encrypted section: equal only where the same file was copied with its key."""
    part = section.parts[0]
    element = next(islice(part.document.tree.iter("*"), part.element.index, None))
    return digest("".join("".join(str(text) for text in element.itertext()).split()))


def _connection_digest(
    configuration: Configuration, section: Section | None, digest: Callable[[str], str]
) -> str | None:
    """Digest of the connection that the product uses: named in `ektronDataConfiguration`, else the default one."""
    strings = collection(section.children if section else (), "name")
    for name in _connection_names(configuration):
        text = strings.last(name, "connectionString")
        if text:
            return digest(text.strip())
    return None


def _connection_names(configuration: Configuration) -> list[str]:
    chosen = configuration.section("ektronDataConfiguration")
    return [name for name in (chosen.parts[0].element.value("defaultDatabase") if chosen else None, _DEFAULT) if name]
