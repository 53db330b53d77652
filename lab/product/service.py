"""The running product: the Windows service, which loads everything at its start, and the web site.

Based on ektron-facts; the following rules fill gaps there:

- A configuration that is not XML ends the process during its start, like the .NET runtime.
- A section that the service cannot load (the same key twice with different values, 2.2; an invalid certificate) leaves
  it running without a listener (6, row 12).
- It listens on 8732 only with its own `<NODE>_SyncServer` identity in its folder, and only if every
  `services/*/@serverCertificate` names that identity (2.2; 6, row 42). So a new installation runs and does not listen.
- Nothing is read again before the next start.
"""

import base64
import json
from dataclasses import asdict, dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from lxml import etree

from lab.machine.disk import sha256
from lab.machine.errors import Refusal
from lab.machine.machine import Machine
from lab.machine.network import Page
from lab.machine.paths import WindowsPath
from lab.machine.services import ProgramDied

__all__ = ["SYNC_PORT", "EktronService", "EktronSite", "Loaded"]

SYNC_PORT = 8732


class _Broken(Exception):
    """The service cannot work with its files."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the service loaded at its start, and its answer to `GET /`. Certificates are SHA-256 of the DER.

    Attributes:
        clients: key in `publickCertKeys` -> certificate. missing_clients: keys without a `.pfx` in the folder.
        asset_load_balanced: from the AssetManagement.config of the first site in sitedb.config.
    """

    node: str
    load_balanced: str | None
    server_certificate: str
    clients: dict[str, str]
    missing_clients: list[str]
    asset_load_balanced: str | None


class EktronService:
    """The program of the Windows service."""

    def __init__(self, machine: Machine, config: WindowsPath) -> None:
        self._machine = machine
        self._config = config
        self.loaded: Loaded | None = None

    def start(self) -> None:
        """Loads everything and opens the sync port if that succeeds.

        Raises:
            ProgramDied: the configuration is not XML.
        """
        self.loaded = None
        try:
            root = _parse(self._machine.disk.read(self._config))
        except etree.XMLSyntaxError:
            raise ProgramDied from None
        except Refusal:
            return
        try:
            loaded = self._load(root)
        except (_Broken, Refusal):
            return
        self.loaded = loaded
        self._machine.network.listen(self._machine.address, SYNC_PORT, lambda: json.dumps(asdict(loaded)).encode())

    def stop(self) -> None:
        """Closes the sync port."""
        self.loaded = None
        self._machine.network.close(self._machine.address, SYNC_PORT)

    def _load(self, root: etree._Element) -> Loaded:
        clients = _client_keys(root)
        own = f"{self._machine.name}_SyncServer"
        named = {value.upper() for value in root.xpath("ektron.serviceModel/services/*/@serverCertificate")}
        if named - {f"{own}.pfx".upper()}:
            raise _Broken("a service is configured with the certificate of another machine")
        return Loaded(
            node=self._machine.name,
            load_balanced=_setting(root, "LoadBalanced"),
            server_certificate=self._identity(own),
            clients=clients,
            missing_clients=[key for key in clients if not self._has(key)],
            asset_load_balanced=self._asset_flag(),
        )

    def _file(self, name: str) -> bytes:
        return self._machine.disk.read(self._config.parent.child(name))

    def _has(self, key: str) -> bool:
        name = key.rpartition(".")[0] + ".pfx"
        return self._machine.disk.stat(self._config.parent.child(name)) is not None

    def _identity(self, name: str) -> str:
        """Loads a `.pfx` and its `.cer` and returns the certificate's hash; both must have the same certificate."""
        der = self._file(f"{name}.cer")
        if _certificate_of(self._file(f"{name}.pfx")) != der:
            raise _Broken("the .pfx cannot be opened, or its certificate differs from the .cer")
        return sha256(der)

    def _asset_flag(self) -> str | None:
        sites = _parse_or_none(self._file("sitedb.config"))
        folder = sites.xpath("add/@physicalpath") if sites is not None else []
        if not folder:
            return None
        config = WindowsPath.of(str(folder[0])).child("AssetManagement.config")
        asset = _parse_or_none(self._machine.disk.read(config))
        return asset.get("LoadBalanced") if asset is not None else None


class EktronSite:
    """The web site, with only a GET of its WSPath (ektron-facts 2.3, 8.9)."""

    def __init__(self, machine: Machine, folder: WindowsPath) -> None:
        self._machine = machine
        self._folder = folder

    def get(self, path: str) -> Page:
        """Answers 200 for the web service, 500 while a configuration cannot be read, else 404."""
        if not self._configured():
            return Page(500, b"<html><title>Configuration Error</title></html>")
        page = path.lower()
        if page == "/workarea/servercontrolws.asmx":
            return Page(200, b"<html><title>ServerControlWS Web Service</title></html>")
        if page == "/workarea/servercontrolws.asmx/testconnection":
            return Page(200, b'<?xml version="1.0" encoding="utf-8"?>\r\n<boolean>true</boolean>')
        return Page(404, b"<html><title>404</title></html>")

    def _configured(self) -> bool:
        try:
            return all(
                _parses(self._machine.disk.read(self._folder.child(name)))
                for name in ("web.config", "AssetManagement.config")
            )
        except Refusal:
            return False


def _parse(data: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    return etree.fromstring(data, parser)


def _parse_or_none(data: bytes) -> etree._Element | None:
    try:
        return _parse(data)
    except etree.XMLSyntaxError:
        return None


@lru_cache(maxsize=4096)
def _parses(data: bytes) -> bool:
    return _parse_or_none(data) is not None


def _setting(root: etree._Element, key: str) -> str | None:
    """The last value of a key in appSettings, like .NET; the case of the key is ignored."""
    values = [
        item.get("value") for item in root.iterfind("appSettings/add") if item.get("key", "").upper() == key.upper()
    ]
    return values[-1] if values else None


def _client_keys(root: etree._Element) -> dict[str, str]:
    """Key -> SHA-256 of the certificate. .NET rejects a key with two different values (ektron-facts 2.2)."""
    found: dict[str, str] = {}
    for item in root.iterfind("ektron.serviceModel/publickCertKeys/*"):
        key, value = item.get("key"), item.get("encodedValue")
        if item.tag == "clear":
            found.clear()
        elif not key:
            raise _Broken("an entry of publickCertKeys has no key")
        elif item.tag == "remove":
            found.pop(key, None)
        elif value is not None and found.setdefault(key, value) != value:
            raise _Broken(f"the key {key} occurs twice with different values")
    return {key: _fingerprint(value) for key, value in found.items()}


@lru_cache(maxsize=1024)
def _fingerprint(encoded: str) -> str:
    try:
        der = base64.b64decode(encoded, validate=True)
        x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise _Broken("an encodedValue is not a certificate") from error
    return sha256(der)


@lru_cache(maxsize=256)
def _certificate_of(pfx: bytes) -> bytes | None:
    """The certificate in a `.pfx` without a password, DER, or None."""
    try:
        certificate = pkcs12.load_key_and_certificates(pfx, None)[1]
    except ValueError:
        return None
    return certificate.public_bytes(Encoding.DER) if certificate else None
