"""Which server can connect to which, read from the servers' disks. A judge that shares no code with the product.

A server that connects shows a client certificate, the one that it connects to shows a server certificate, and each
compares what it is shown with what it holds (ektron-facts 3.1 to 3.4):

- The client shows `<ITSELF>_SyncClient.pfx` of its site, which its service folder holds, too; every endpoint in
  web.config has to name it.
- The server accepts it if its `publickCertKeys` hold that certificate as `<CLIENT>_SyncClient.cer`.
- The server shows `<ITSELF>_SyncServer.pfx` of its service folder, which every `services/*/@serverCertificate` names.
- The client knows the server if its service folder holds `<SERVER>_SyncClient.cer`. If that holds
  `<SERVER>_SyncServer.cer`, too, it has to be the certificate that is shown.

With `by_value` only the certificates count, not the names in keys and of files (ektron-facts 3.2: the product's
validator may keep one list of valid certificates): the weaker comparison, for times when two families are trusted.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from lxml import etree

__all__ = ["Server", "as_loaded", "connections", "expected", "private_keys", "refusal", "server_at"]

_CLIENT, _SERVER = "_syncclient", "_syncserver"
_SECRET = (".pfx", ".pvk")


@dataclass(frozen=True, slots=True)
class Server:
    """What decides about the connections of one server. Certificates are SHA-256 of the DER; names are lower case.

    Attributes:
        shown_as_client: the certificate of its own client files; empty when they are missing, differ or are not named.
        shown_as_server: the same of its own server files.
        keys: server -> certificate, from `publickCertKeys`.
        clients: server -> certificate, from the `_SyncClient.cer` files of its service folder.
        servers: server -> certificate, from the `_SyncServer.cer` files of its service folder.
    """

    name: str
    shown_as_client: str
    shown_as_server: str
    keys: Mapping[str, str]
    clients: Mapping[str, str]
    servers: Mapping[str, str]


def server_at(name: str, drive: Path) -> Server:
    """The server whose drive C: is that folder. With services of two generations, the newer one counts.

    Raises:
        AssertionError: it has no service.
    """
    folder = _service_folder(drive)
    (config,) = _named(folder, ".exe.config")
    service = etree.fromstring(config.read_bytes())
    own = name.casefold()
    certificates = {path.name.casefold(): _digest(path.read_bytes()) for path in _named(folder, ".cer")}
    named = {value.casefold() for value in service.xpath("ektron.serviceModel/services/*/@serverCertificate")}
    shown = _pair(folder, f"{own}{_SERVER}") if named <= {f"{own}{_SERVER}.pfx"} else ""
    return Server(
        name=own,
        shown_as_client=_shown_by_sites(own, folder, drive),
        shown_as_server=shown,
        keys=dict(_keys(service)),
        clients=_of_kind(certificates, _CLIENT),
        servers=_of_kind(certificates, _SERVER),
    )


def as_loaded(server: Server, answer: Mapping[str, Any] | None) -> Server:
    """The same with what its running service has in memory: its answer on the sync port, None without a listener."""
    if answer is None:
        return replace(server, shown_as_server="", keys={})
    keys = {name.casefold().removesuffix(f"{_CLIENT}.cer"): value for name, value in answer["clients"].items()}
    return replace(server, shown_as_server=answer["server_certificate"], keys=keys)


def refusal(client: Server, server: Server, *, by_value: bool = False) -> str:
    """Why a connection fails; empty when it succeeds."""
    accepted = server.keys.values() if by_value else [server.keys.get(client.name)]
    held = client.clients.get(server.name)
    known = client.servers.values() if by_value else [client.servers.get(server.name, server.shown_as_server)]
    obstacles = (
        ("the client has no certificate to show", not client.shown_as_client),
        ("the server has no certificate to show", not server.shown_as_server),
        ("the server has no key for the client", client.shown_as_client not in accepted),
        ("the client has no file of the server", held is None and not by_value),
        ("the client has no such certificate of the server", server.shown_as_server not in known),
    )
    return next((why for why, applies in obstacles if applies), "")


def connections(servers: Iterable[Server], *, by_value: bool = False) -> set[tuple[str, str]]:
    """All pairs (client, server) that can connect, in lower case."""
    pairs = permutations(servers, 2)
    return {(one.name, other.name) for one, other in pairs if not refusal(one, other, by_value=by_value)}


def expected(nodes: Iterable[str], partners: Iterable[str] = ()) -> set[tuple[str, str]]:
    """The pairs that a cluster file demands: every two nodes, and each partner with every node, in both directions."""
    names = {name.casefold() for name in nodes}
    outside = {name.casefold() for name in partners}
    return {pair for pair in permutations(names | outside, 2) if names & set(pair)}


def private_keys(drive: Path) -> set[str]:
    """Every file with a private key on a disk, except backups below ProgramData: its path below the drive, with `/`."""
    found = (path.relative_to(drive).as_posix() for path in drive.rglob("*") if path.suffix.casefold() in _SECRET)
    return {path for path in found if not path.startswith("ProgramData/")}


def _service_folder(drive: Path) -> Path:
    """The folder of the newest generation of the service: its name ends in 30 or 40 (ektron-facts 1.1)."""
    found = sorted(drive.glob("Program Files*/Ektron/EktronWindowsService*"), key=lambda folder: folder.name)
    found = [folder for folder in found if _named(folder, ".exe.config")]
    assert found, f"there is no service below {drive}"
    return found[-1]


def _named(folder: Path, ending: str) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.casefold().endswith(ending)] if folder.is_dir() else []


def _of_kind(certificates: Mapping[str, str], kind: str) -> dict[str, str]:
    ending = f"{kind}.cer"
    return {name.removesuffix(ending): value for name, value in certificates.items() if name.endswith(ending)}


def _keys(service: etree._Element) -> Iterator[tuple[str, str]]:
    for entry in service.iterfind("ektron.serviceModel/publickCertKeys/add"):
        yield str(entry.get("key")).casefold().removesuffix(f"{_CLIENT}.cer"), _of_text(entry.get("encodedValue"))


def _shown_by_sites(own: str, folder: Path, drive: Path) -> str:
    """The client certificate that all sites of the service, and the service itself, have."""
    shown = {_pair(folder, f"{own}{_CLIENT}")}
    for site in _sites(folder, drive):
        shown.add(_pair(site, f"{own}{_CLIENT}"))
        (config,) = _named(site, "web.config")
        web = etree.fromstring(config.read_bytes())
        named = {value.casefold() for value in web.xpath("ektron.serviceModel/endPoints/*/@clientCertificate")}
        encoded = web.xpath("string(appSettings/add[@key='encodedValue']/@value)")
        shown.add(_of_text(encoded) if named == {f"{own}{_CLIENT}.pfx"} else "")
    return shown.pop() if len(shown) == 1 else ""


def _sites(folder: Path, drive: Path) -> list[Path]:
    """The folders of all sites of a service, from its list (ektron-facts 2.4)."""
    (listed,) = _named(folder, "sitedb.config")
    paths = etree.fromstring(listed.read_bytes()).xpath("add/@physicalpath")
    return [drive.joinpath(*str(path).split("\\")[1:]) for path in paths]


def _pair(folder: Path, stem: str) -> str:
    """The certificate of a `.pfx` whose `.cer` is the same; empty when one is missing or they differ."""
    files = {path.name.casefold(): path for ending in (".pfx", ".cer") for path in _named(folder, f"{stem}{ending}")}
    if f"{stem}.pfx" not in files or f"{stem}.cer" not in files:
        return ""
    inside = _inside(files[f"{stem}.pfx"].read_bytes())
    return _digest(inside) if inside == files[f"{stem}.cer"].read_bytes() else ""


@lru_cache
def _inside(pfx: bytes) -> bytes:
    """The certificate in it. Many servers have the same one, and its key takes a while to be checked."""
    _, certificate, _ = pkcs12.load_key_and_certificates(pfx, None)
    return certificate.public_bytes(Encoding.DER) if certificate else b""


def _of_text(encoded: str | None) -> str:
    return _digest(base64.b64decode(encoded)) if encoded else ""


def _digest(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()
