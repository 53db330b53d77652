"""Whether two services, or a site and its service, accept each other: by what they have loaded (ektron-facts 3, 6)."""

import base64

from lab.machine.disk import sha256
from lab.machine.errors import Refusal
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.product.loading import Loaded
from lab.product.xml import parse_or_none, setting

__all__ = ["MAX_SKEW_SECONDS", "certificate_problem", "site_problem"]

MAX_SKEW_SECONDS = 300  #: between two servers (ektron-facts 3.5)
_FAULTED = "The communication object, ServiceChannel, is in the Faulted state."


def certificate_problem(caller: Loaded, called: Loaded) -> str:
    """Why one of two services does not trust the other; empty if both do. Each needs the key of the other (3.1)."""
    return _unknown(caller, called) or _unknown(called, caller)


def _unknown(shown: Loaded, to: Loaded) -> str:
    name = f"{shown.node}_SyncClient.cer".upper()
    known = {key.upper(): value for key, value in to.clients.items()}
    if not shown.client_certificate:
        return f"{shown.node} has no client certificate"
    if name not in known:
        return f"{to.node} has no key for {shown.node}"
    if known[name] != shown.client_certificate:
        return f"{to.node} has another key for {shown.node}"
    if name in {key.upper() for key in to.missing_clients}:
        return f"{to.node} has no certificate file of {shown.node}"
    return ""


def site_problem(machine: Machine, site: WindowsPath, loaded: Loaded | None) -> str:
    """Why a site cannot talk to the service of its machine; empty if it can (ektron-facts 6, rows 1 to 6).

    The client files are those in the site's folder that every entry of `endPoints` names; `encodedValue` is the same
    certificate, and the service has its key.
    """
    if loaded is None:
        return _FAULTED
    web = parse_or_none(machine.disk.read(site.child("web.config")))
    named = [] if web is None else web.xpath("ektron.serviceModel/endPoints/add/@clientCertificate")
    if web is None or not named:
        return "Object reference not set to an instance of an object."
    for name in dict.fromkeys(map(str, named)):
        if why := _client_problem(machine, site, name, loaded):
            return why
    if setting(web, "encodedValue") not in _encoded(machine, site, named):
        return _FAULTED
    return ""


def _client_problem(machine: Machine, site: WindowsPath, name: str, loaded: Loaded) -> str:
    stem = name.rpartition(".")[0]
    missing = [f"{stem}.{kind}" for kind in ("pfx", "pvk", "cer") if not _there(machine, site, f"{stem}.{kind}")]
    if missing:
        return f"The system cannot find the file specified: {missing[0]}"
    known = {key.upper(): value for key, value in loaded.clients.items()}
    if known.get(f"{stem}.cer".upper()) != sha256(machine.disk.read(site.child(f"{stem}.cer"))):
        return _FAULTED
    return ""


def _there(machine: Machine, site: WindowsPath, name: str) -> bool:
    try:
        return machine.disk.stat(site.child(name)) is not None
    except Refusal:  # not a name of a file
        return False


def _encoded(machine: Machine, site: WindowsPath, named: list[str]) -> set[str]:
    files = [site.child(f"{name.rpartition('.')[0]}.cer") for name in named]
    return {base64.b64encode(machine.disk.read(file)).decode() for file in files}
