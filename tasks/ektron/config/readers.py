"""What the rules need from the product's configuration files. Reads only; nothing secret leaves a reader."""

from collections.abc import Callable, Mapping

from tasks.ektron.certificates.family import CLIENT_CER, node_of, thumbprint
from tasks.ektron.config.sections import Collection, collection, find_section, open_config, sole_child
from tasks.ektron.facts import AssetValues, EndpointFact, ServiceConfigValues, WebValues
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["ASSET_ROOT", "ServiceValues", "read_asset", "read_service", "read_web"]

ASSET_ROOT = "DocumentManagerData"
NO_CERTIFICATE = "empty"  #: stands for the digest of a key without a value
_BUILDS = ("ek_buildNumber", "ek_InstallBuild", "ek_ServicePack", "ek_cmsversion", "ek_PatchUpdate")
_CONNECTION = "Ektron.DbConnection"


class ServiceValues(ServiceConfigValues):
    """The service's configuration, with its keys (ektron-facts 2.2)."""

    key_thumbprints: Mapping[str, str]  #: node, as the key spells it -> SHA-256 of the certificate
    duplicated_keys: tuple[str, ...] = ()  #: nodes with more than one entry in effect


def read_asset(data: bytes) -> AssetValues:
    """Reads AssetManagement.config.

    Raises:
        ConfigRefused: not well-formed, or not that file.
    """
    root = open_config(data, ASSET_ROOT).root
    return AssetValues(
        load_balanced=root.value("LoadBalanced"),
        user_domain=root.value("UserDomain"),
        storage_location=root.value("StorageLocation"),
    )


def read_service(data: bytes) -> ServiceValues:
    """Reads the service's configuration, live or the EWSUpdates copy.

    The build is looked up as InstallVersion and installedversion alike: both are seen (ektron-facts 1.3).

    Raises:
        ConfigRefused: not well-formed, or no .NET configuration.
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
        digest: keyed digest; the connection string goes into it and nowhere else.

    Raises:
        ConfigRefused: not well-formed, or no .NET configuration.
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
    """The node a key is for, if it is named as a client certificate."""
    named = node_of(entries[-1].value("key") or "")
    return named[0] if named and named[1] == CLIENT_CER else None


def _server_certificates(section: Element | None) -> tuple[str, ...]:
    """Each value once, in the file's order. The item's tag is unknown, so any child of `services` counts."""
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
    """Of the connection the product uses: the one `ektronDataConfiguration` names, else the usual one."""
    strings = _children(document, "connectionStrings", "name")
    chosen = find_section(document, "ektronDataConfiguration")
    names = (chosen.value("defaultDatabase") if chosen else None, _CONNECTION)
    for name in names:
        text = strings.last(name, "connectionString") if name else None
        if text:
            return digest(text.strip())
    return None
