"""Reads the values that the rules need from the configuration files. No reader returns a secret."""

from collections.abc import Callable

from tasks.ektron.certificates.family import CLIENT_CER, node_of, thumbprint
from tasks.ektron.config.sections import Collection, collection, find_section, open_config, sole_child
from tasks.ektron.facts import AssetValues, EndpointFact, ServiceSettings, WebValues
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["ASSET_ROOT", "ServiceValues", "read_asset", "read_service", "read_web"]

ASSET_ROOT = "DocumentManagerData"
NO_CERTIFICATE = "empty"  #: replaces the digest of a key without a value
_BUILDS = ("ek_buildNumber", "ek_InstallBuild", "ek_ServicePack", "ek_cmsversion", "ek_PatchUpdate")
_CONNECTION = "Ektron.DbConnection"


class ServiceValues(ServiceSettings):
    """The settings of the service, and its certificate keys as the file has them."""

    key_thumbprints: dict[str, str]  #: node, as the key spells it -> SHA-256 of the certificate
    duplicated_keys: tuple[str, ...]  #: nodes with more than one effective entry


def read_asset(data: bytes) -> AssetValues:
    """Reads AssetManagement.config.

    Raises:
        ConfigRefused: the file is not well-formed, or is another file.
    """
    root = open_config(data, ASSET_ROOT).root
    return AssetValues(
        load_balanced=root.value("LoadBalanced"),
        user_domain=root.value("UserDomain"),
        storage_location=root.value("StorageLocation"),
    )


def read_service(data: bytes) -> ServiceValues:
    """Reads the configuration of the service: the live file or its EWSUpdates copy.

    The build is in InstallVersion or in installedversion: both exist in real files (ektron-facts 1.3).

    Raises:
        ConfigRefused: the file is not well-formed, or is not a .NET configuration.
    """
    document = open_config(data)
    settings = _children(document, "appSettings")
    section = find_section(document, "ektron.serviceModel")
    holder = sole_child(document, section, "publickCertKeys") if section else None
    keys = collection(holder.children if holder else ())
    nodes = {key: node for key, node in ((key, _client_of(entries)) for key, entries in keys.entries.items()) if node}
    return ServiceValues(
        load_balanced=settings.last("LoadBalanced", "value"),
        library_load_balanced=settings.last("LibraryLoadBalanced", "value"),
        load_bal_server_count=settings.last("LoadBalServerCount", "value"),
        install_version=settings.last("InstallVersion", "value") or settings.last("installedversion", "value"),
        keys_present=holder is not None,
        key_thumbprints={
            node: thumbprint(keys.last(key, "encodedValue") or "") or NO_CERTIFICATE for key, node in nodes.items()
        },
        duplicated_keys=tuple(node for key, node in nodes.items() if len(keys.entries[key]) > 1),
        server_certificates=_server_certificates(section),
    )


def read_web(data: bytes, digest: Callable[[str], str]) -> WebValues:
    """Reads web.config.

    Args:
        data: the file.
        digest: keyed digest; the connection string is passed only to it.

    Raises:
        ConfigRefused: the file is not well-formed, or is not a .NET configuration.
    """
    document = open_config(data)
    settings = _children(document, "appSettings")
    section = find_section(document, "ektron.serviceModel")
    encoded = settings.last("encodedValue", "value")
    switches = _children(document, "eSyncSettings")
    return WebValues(
        endpoints=_endpoints(document, section),
        encoded_value=None if encoded is None else thumbprint(encoded),
        ws_path=settings.last("WSPath", "value"),
        site_path=settings.last("ek_sitePath", "value"),
        builds={name: value for name in _BUILDS if (value := settings.last(name, "value")) is not None},
        connection_digest=_connection_digest(document, digest),
        esync_enabled=switches.last("eSyncEnabled", "value"),
        pass_through_disabled=settings.last("ek_DisableAssetLoadBalancePassThrough", "value"),
    )


def _children(document: XmlDocument, name: str, key: str = "key") -> Collection:
    section = find_section(document, name)
    return collection(section.children if section else (), key)


def _client_of(entries: list[Element]) -> str | None:
    """The node of a key, if the key has the name of a client certificate."""
    node_and_kind = node_of(entries[-1].value("key") or "")
    return node_and_kind[0] if node_and_kind and node_and_kind[1] == CLIENT_CER else None


def _server_certificates(section: Element | None) -> tuple[str, ...]:
    """Each value once, in the order of the file. The tag of an item is unknown, so every child of `services` counts."""
    values = (
        item.value("serverCertificate")
        for services in (section.named("services") if section else ())
        for item in services.children
    )
    return tuple(dict.fromkeys(value for value in values if value is not None))


def _endpoints(document: XmlDocument, section: Element | None) -> tuple[EndpointFact, ...]:
    holder = sole_child(document, section, "endPoints") if section else None
    entries = collection(holder.children if holder else (), "contract").entries.values()
    return tuple(
        EndpointFact(contract=item.value("contract") or "", client_certificate=item.value("clientCertificate"))
        for same in entries
        for item in same
    )


def _connection_digest(document: XmlDocument, digest: Callable[[str], str]) -> str | None:
    """Digest of the connection that the product uses: named in `ektronDataConfiguration`, else the default one."""
    strings = _children(document, "connectionStrings", "name")
    chosen = find_section(document, "ektronDataConfiguration")
    names = (chosen.value("defaultDatabase") if chosen else None, _CONNECTION)
    for name in names:
        text = strings.last(name, "connectionString") if name else None
        if text:
            return digest(text.strip())
    return None
