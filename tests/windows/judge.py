"""Judges the machines by their disks, ports and service logs, without any reply of the product."""

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import psutil
from lxml import etree

from tests.integration.harness import SITE
from tests.windows.machines import EXE, MEMBERS, NAMES, SERVICE, Farm, WindowsMachine

__all__ = ["FAMILY", "half_written", "not_joined"]

FAMILY = [f"Sync{side}.{ending}" for side in ("Client", "Server") for ending in ("pfx", "pvk", "cer")]
_CONFIG = rf"{SERVICE}\{EXE}.exe.config"
_UTILITIES = r"C:\Program Files\Ektron\CMS400v80\Utilities"
_SOURCE = rf"{_UTILITIES}\Software\SecurityConfigurator"
_EWS = rf"{_UTILITIES}\EWSUpdates\3.0\{EXE}.exe.config"


def not_joined(farm: Farm) -> list[str]:
    """Every requirement of the procedure that a machine does not meet."""
    return [f"{machine.name}: {what}" for machine in farm for what in _missing(farm, machine)]


def half_written(farm: Farm) -> list[str]:
    """Our temporary files, configurations that are not XML, and family files with other content."""
    files = [path for machine in farm for path in machine.files()]
    found = [path for path in files if ".esync-" in path.name or (path.suffix == ".config" and not _is_xml(path))]
    return sorted(map(str, [*found, *_other_certificates(farm, files)]))


def _other_certificates(farm: Farm, files: Iterable[Path]) -> Iterator[Path]:
    right = {kind: _family_file(farm, kind) for kind in FAMILY}
    for path in files:
        kind = path.name.partition("_")[2]
        if kind in right and path.read_bytes() != right[kind]:
            yield path


def _family_file(farm: Farm, kind: str) -> bytes:
    """The file that the Security Configurator created on the origin."""
    return farm.machines[NAMES[0]].at(rf"{_SOURCE}\{NAMES[0]}_{kind}").read_bytes()


def _is_xml(path: Path) -> bool:
    try:
        etree.fromstring(path.read_bytes())
    except etree.XMLSyntaxError:
        return False
    return True


def _missing(farm: Farm, machine: WindowsMachine) -> Iterator[str]:
    der = base64.b64encode(_family_file(farm, "SyncClient.cer")).decode()
    yield from _config_differences(machine, _CONFIG, der)
    yield from _site_differences(machine, der)
    if machine.name == NAMES[0]:
        yield from _config_differences(machine, _EWS, der)
    for path, data in _wanted_files(farm, machine):
        if not path.exists() or path.read_bytes() != data:
            yield f"{path} is missing or another file"
    yield from _service_differences(machine)


def _config_differences(machine: WindowsMachine, path: str, der: str) -> Iterator[str]:
    tree = _tree(machine, path)
    if tree.xpath("string(appSettings/add[@key='LoadBalanced']/@value)") != "1" and path == _CONFIG:
        yield "LoadBalanced of the service is not 1"
    keys = {str(add.get("key")): add.get("encodedValue") for add in tree.iterfind(".//publickCertKeys/add")}
    if keys != dict.fromkeys((f"{name}_SyncClient.cer" for name in MEMBERS), der):
        yield f"the keys in {path} are {sorted(keys)}, or their values are wrong"


def _site_differences(machine: WindowsMachine, der: str) -> Iterator[str]:
    if _tree(machine, rf"{SITE}\AssetManagement.config").get("LoadBalanced") != "1":
        yield "LoadBalanced of the site is not 1"
    web = _tree(machine, rf"{SITE}\web.config")
    if set(web.xpath("//endPoints/add/@clientCertificate")) != {f"{machine.name}_SyncClient.pfx"}:
        yield "an end point shows another certificate than the machine's own"
    if web.xpath("string(appSettings/add[@key='encodedValue']/@value)") != der:
        yield "encodedValue is wrong"


def _tree(machine: WindowsMachine, path: str) -> etree._Element:
    return etree.fromstring(machine.at(path).read_bytes())


def _wanted_files(farm: Farm, machine: WindowsMachine) -> Iterator[tuple[Path, bytes]]:
    own = machine.name
    for kind in FAMILY:
        data = _family_file(farm, kind)
        folders = [SERVICE, _SOURCE] if own == NAMES[0] else [SERVICE]
        yield from ((machine.at(rf"{folder}\{name}_{kind}"), data) for folder in folders for name in MEMBERS)
        if own != NAMES[0]:
            yield machine.at(rf"C:\Ektron Security Certificates\{own}_{kind}"), data
        if "Client" in kind:
            yield machine.at(rf"{SITE}\{own}_{kind}"), data


def _service_differences(machine: WindowsMachine) -> Iterator[str]:
    *_, (at, event, _) = machine.events()
    inputs = [*machine.at(SERVICE).glob("*_Sync*"), machine.at(_CONFIG), machine.at(rf"{SITE}\AssetManagement.config")]
    if event != "running":
        yield f"the service's last word is {event}"
    elif datetime.fromisoformat(at).timestamp() < max(path.stat().st_mtime for path in inputs):
        yield "the service started before its last change"
    # No connection: the practice service never accepts, so each connection would use one of its 16 places.
    listening = {found.laddr for found in psutil.net_connections("tcp4") if found.status == psutil.CONN_LISTEN}
    if (machine.address, 8732) not in listening:
        yield "nothing listens on port 8732"
