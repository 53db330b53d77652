"""What the Windows service loads at its start.

Based on ektron-facts; the following rules fill gaps there:

- A configuration that is not XML ends the process during its start, like the .NET runtime.
- A section that the service cannot load (the same key twice with different values, 2.2; an invalid certificate) leaves
  it running without a listener (6, row 12).
- It listens on 8732 only with its own `<NODE>_SyncServer` identity in its folder, and only if every
  `services/*/@serverCertificate` names that identity (2.2; 6, row 42). So a new installation runs and does not listen.
- Nothing is read again before the next start.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from lxml import etree

from lab.machine.binaries import file_version
from lab.machine.disk import Disk, sha256
from lab.machine.errors import Refusal
from lab.machine.paths import WindowsPath, fold
from lab.product.xml import parse, parse_or_none, setting

__all__ = ["Broken", "Loaded", "ServedSite", "load"]


class Broken(Exception):
    """The service cannot work with its files."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the service loaded at its start, and its answer to `GET /`. Certificates are SHA-256 of the DER.

    Attributes:
        clients: key in `publickCertKeys` -> certificate. missing_clients: keys without a `.pfx` in the folder.
        asset_load_balanced: from the AssetManagement.config of the first site in sitedb.config.
        client_certificate: its own `<NODE>_SyncClient`; empty without it.
        expires: end of its life, seconds since 1970. build: version of its program.
    """

    node: str
    load_balanced: str | None
    server_certificate: str
    clients: dict[str, str]
    missing_clients: list[str]
    asset_load_balanced: str | None
    client_certificate: str = ""
    library_load_balanced: str | None = None
    server_count: str | None = None
    build: str = ""
    expires: int = 0


@dataclass(frozen=True, slots=True)
class ServedSite:
    """The site of a service, as sitedb.config named it at its start. The connection string is a secret."""

    folder: WindowsPath
    connection: str = field(repr=False)


def load(name: str, disk: Disk, config: WindowsPath) -> tuple[Loaded, ServedSite | None]:
    """Loads everything for the service of a machine.

    Raises:
        XMLSyntaxError: the configuration is not XML. Broken, Refusal: the service runs, but does not listen.
    """
    return _Folder(name, disk, config).load()


@dataclass(frozen=True, slots=True)
class _Folder:
    """The folder of the service, with its configuration."""

    name: str
    disk: Disk
    config: WindowsPath

    def load(self) -> tuple[Loaded, ServedSite | None]:
        """What the service loads."""
        root = parse(self.disk.read(self.config))
        clients = _client_keys(root)
        name = self.name
        own = f"{name}_SyncServer"
        named = {value.upper() for value in root.xpath("ektron.serviceModel/services/*/@serverCertificate")}
        if named - {f"{own}.pfx".upper()}:
            raise Broken("a service is configured with the certificate of another machine")
        site = self._served_site()
        client, expires = self._client()
        loaded = Loaded(
            node=name,
            load_balanced=setting(root, "LoadBalanced"),
            server_certificate=self._identity(own),
            clients=clients,
            missing_clients=self._missing(clients),
            asset_load_balanced=self._asset_flag(site),
            client_certificate=client,
            library_load_balanced=setting(root, "LibraryLoadBalanced"),
            server_count=setting(root, "LoadBalServerCount"),
            build=self._build(),
            expires=expires,
        )
        return loaded, site

    def _client(self) -> tuple[str, int]:
        """Its client certificate and the end of its life; a service without one listens, but cannot call others."""
        name = f"{self.name}_SyncClient"
        try:
            return self._identity(name), _expires(self._file(f"{name}.cer"))
        except (Broken, Refusal):
            return "", 0

    def _build(self) -> str:
        program = self.config.name.rpartition(".")[0]
        return file_version(self._file(program)) or "" if self.disk.stat(self.config.parent.child(program)) else ""

    def _file(self, name: str) -> bytes:
        return self.disk.read(self.config.parent.child(name))

    def _missing(self, keys: Iterable[str]) -> list[str]:
        """The keys whose `.pfx` is not there."""
        folder = self.config.parent
        there = {fold(name) for name in self.disk.names(folder)}
        return [key for key in keys if folder.child(f"{key.rpartition('.')[0]}.pfx").key[-1] not in there]

    def _identity(self, name: str) -> str:
        """Loads a `.pfx` and its `.cer` and returns the certificate's hash; both must have the same certificate."""
        der = self._file(f"{name}.cer")
        if _certificate_of(self._file(f"{name}.pfx")) != der:
            raise Broken("the .pfx cannot be opened, or its certificate differs from the .cer")
        return sha256(der)

    def _served_site(self) -> ServedSite | None:
        """The first site in sitedb.config."""
        sites = parse_or_none(self._file("sitedb.config"))
        first = sites.find("add[@physicalpath]") if sites is not None else None
        if first is None:
            return None
        return ServedSite(WindowsPath.of(first.get("physicalpath", "")), first.get("connectionstring", ""))

    def _asset_flag(self, site: ServedSite | None) -> str | None:
        if site is None:
            return None
        asset = parse_or_none(self.disk.read(site.folder.child("AssetManagement.config")))
        return asset.get("LoadBalanced") if asset is not None else None


def _client_keys(root: etree._Element) -> dict[str, str]:
    """Key -> SHA-256 of the certificate. .NET rejects a key with two different values (ektron-facts 2.2)."""
    found: dict[str, str] = {}
    for item in root.iterfind("ektron.serviceModel/publickCertKeys/*"):
        key, value = item.get("key"), item.get("encodedValue")
        if item.tag == "clear":
            found.clear()
        elif not key:
            raise Broken("an entry of publickCertKeys has no key")
        elif item.tag == "remove":
            found.pop(key, None)
        elif value is not None and found.setdefault(key, value) != value:
            raise Broken(f"the key {key} occurs twice with different values")
    return {key: _fingerprint(value) for key, value in found.items()}


@lru_cache(maxsize=1024)
def _fingerprint(encoded: str) -> str:
    try:
        der = base64.b64decode(encoded, validate=True)
        x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise Broken("an encodedValue is not a certificate") from error
    return sha256(der)


@lru_cache(maxsize=256)
def _expires(der: bytes) -> int:
    try:
        return int(x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp())
    except ValueError:
        return 0


@lru_cache(maxsize=256)
def _certificate_of(pfx: bytes) -> bytes | None:
    """The certificate in a `.pfx` without a password, DER, or None."""
    try:
        certificate = pkcs12.load_key_and_certificates(pfx, None)[1]
    except ValueError:
        return None
    return certificate.public_bytes(Encoding.DER) if certificate else None
