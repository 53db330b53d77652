"""What Ansible's variables mean in a cluster file: an inventory becomes a draft. Passwords never do."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipelines.cluster_file.init import PASSWORD, Draft, DraftNode, Value
from pipelines.cluster_file.inventory import Inventory, Vars
from pipelines.cluster_file.positions import Plain
from tasks.cluster import Connection

__all__ = [
    "CERTIFICATE",
    "CERTIFICATE_KEY",
    "CLUSTER",
    "CONNECTION",
    "LOOKUPS",
    "POOL",
    "ROLE",
    "TRUSTED",
    "VALIDATION",
    "draft_of",
]

#: Our own variables, which `esync export` writes.
CLUSTER, CONNECTION, POOL, ROLE = "esync_cluster", "esync_connection", "esync_pool", "esync_role"
CERTIFICATE, CERTIFICATE_KEY = "ansible_winrm_cert_pem", "ansible_winrm_cert_key_pem"
TRUSTED, VALIDATION = "ansible_winrm_ca_trust_path", "ansible_winrm_server_cert_validation"
#: reference of a secret -> the template that has the same meaning in Ansible
LOOKUPS = {
    "env": "{{{{ lookup('ansible.builtin.env', '{}') }}}}",
    "file": "{{{{ lookup('ansible.builtin.file', '{}') }}}}",
}
#: Ansible's name -> ours; the first of several is the one that is written
_TRANSPORTS = {
    "ntlm": "ntlm", "kerberos": "kerberos", "credssp": "credssp", "certificate": "certificate", "basic": "basic",
    "plaintext": "basic", "ssl": "basic", "negotiate": "ntlm",
}  # fmt: skip
_LOOKUP = re.compile(
    r"""\{\{\s*lookup\(\s*['"](?:ansible\.builtin\.)?(env|file)['"]\s*,\s*'((?:[^'\\]|\\.)+)'\s*\)\s*\}\}"""
)
_ESCAPED = re.compile(r"\\(.)")
_USER = ("ansible_user", "ansible_winrm_user", "ansible_psrp_user", "ansible_ssh_user")
_PASSWORD = (
    "ansible_password", "ansible_winrm_password", "ansible_winrm_pass", "ansible_psrp_password", "ansible_ssh_pass",
    "ansible_ssh_password",
)  # fmt: skip
_TRANSPORT = ("ansible_winrm_transport", "ansible_psrp_auth")
_SCHEME = ("ansible_winrm_scheme", "ansible_psrp_protocol")
_CA = (TRUSTED, "ansible_psrp_ca_cert")
_VALIDATION = (VALIDATION, "ansible_psrp_cert_validation")
_NETBIOS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ROLES = (("staging", re.compile(r"stag", re.IGNORECASE)), ("production", re.compile(r"prod|live", re.IGNORECASE)))
_SITE = ("path", "service_folder", "product_folder", "database")
_HTTP, _HTTPS = 5985, 5986
_NAMED = 8  #: hosts that a note names


@dataclass(slots=True)
class _Read:
    """The hosts so far, and what a person should know about them."""

    connections: dict[str, dict[str, Value]] = field(default_factory=dict)
    clear: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)


def draft_of(inventory: Inventory, *, source: str, name: str = "") -> Draft:
    """The cluster that an inventory describes, as far as it does.

    Groups become pools: the smallest group of a host, unless its variable `esync_pool` says another. A group whose
    name contains `stag`, `prod` or `live` gives its hosts their role; otherwise `esync_role` does, or nothing.

    Args:
        inventory: as it was read.
        source: of it, for a comment.
        name: of the cluster, if the inventory has none.
    """
    windows, others = _windows(inventory.hosts)
    read = _Read()
    for host, variables in windows.items():
        read.connections[host] = _connection(host, variables, read)
    _name_secrets(read.connections, windows)
    common = _common(read.connections.values())
    names = _node_names(windows)
    nodes = tuple(_node(host, names[host], inventory, windows[host], read, common) for host in windows)
    notes = _notes(read, others, inventory.unread)
    own = inventory.all_vars.get(CLUSTER)
    known = _own_words(own if isinstance(own, dict) else {})
    known = {"name": name, **known, "source": source, "connection": common, "nodes": nodes, "notes": notes}
    return Draft.model_validate(known)


def _windows(hosts: Mapping[str, Vars]) -> tuple[dict[str, Vars], list[str]]:
    """The hosts that Ansible reaches over WinRM, and the names of the others; all, if it names none so."""
    chosen = {name: own for name, own in hosts.items() if own.get("ansible_connection") in {"winrm", "psrp"}}
    windows = chosen or dict(hosts)
    return windows, [name for name in hosts if name not in windows]


def _connection(host: str, variables: Vars, read: _Read) -> dict[str, Value]:
    """The keys of `connection` that the variables of a host give."""

    def text(names: Iterable[str]) -> str:
        value = next((variables[name] for name in names if variables.get(name) not in (None, "")), "")
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and "{{" in value:
            read.templates.append(host)
            return ""
        return str(value).strip() if isinstance(value, str | int) else ""

    transport = text(_TRANSPORT).partition(",")[0].strip().lower()
    port = int(digits) if (digits := text(["ansible_port"])).isascii() and digits.isdigit() else 0
    scheme = text(_SCHEME).lower() or ("http" if port == _HTTP or transport == "plaintext" else "https")
    found: dict[str, Value] = {"transport": _TRANSPORTS.get(transport, transport or "ntlm")}
    found |= {"scheme": "http"} if scheme == "http" else {}
    found |= {"port": port} if port and port != (_HTTP if scheme == "http" else _HTTPS) else {}
    found |= {"user": user} if (user := text(_USER)) else {}
    found |= {"ca_file": ca} if (ca := text(_CA)) and ca != "legacy_requests" else {}
    found |= {"realm": realm} if (realm := text(["ansible_winrm_realm"])) else {}
    extra = variables.get(CONNECTION)
    for key, value in (extra if isinstance(extra, dict) else {}).items():
        if key in Connection.model_fields and isinstance(value, str | int):
            found[key] = value
    found = {key: value for key, value in found.items() if value != ""}  # ours removes what Ansible needs
    if text(_VALIDATION).lower() == "ignore":
        read.unverified.append(host)
    if "secret" in found:
        return found
    if reference := _reference(variables):
        found["secret"] = reference
    elif any(variables.get(name) for name in _PASSWORD):
        read.clear.append(host)
    return found


def _reference(variables: Vars) -> str:
    """The reference that a template for the password stands for; empty for a password and for another template."""
    for name in _PASSWORD:
        value = variables.get(name)
        if isinstance(value, str) and (found := _LOOKUP.fullmatch(value.strip())):
            return found[1] + ":" + _ESCAPED.sub(r"\1", found[2])
    certificate, key = variables.get(CERTIFICATE), variables.get(CERTIFICATE_KEY)
    return f"file:{certificate}" if isinstance(certificate, str) and certificate == (key or certificate) else ""


def _name_secrets(connections: Mapping[str, dict[str, Value]], windows: Mapping[str, Vars]) -> None:
    """A reference for each account without one: ESYNC_PASSWORD for the most frequent, with its name for the others."""
    without = [host for host in windows if "secret" not in connections[host]]
    users = Counter(str(connections[host].get("user", "")) for host in without)
    given: dict[str, str] = {}
    for place, (user, _) in enumerate(users.most_common()):
        label = re.sub(r"[^A-Za-z0-9]+", "_", user).strip("_").upper()[:40] or str(place)
        label = f"{PASSWORD}_{label}" if place else PASSWORD
        given[user] = label if label not in given.values() else f"{label}_{place}"
    for host in without:
        connections[host]["secret"] = given[str(connections[host].get("user", ""))]


def _common(connections: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """For each key that every host has, the most frequent value: a node can replace a value, but not remove it."""
    listed = list(connections)
    keys = {key: None for one in listed for key in one}
    everywhere = [key for key in keys if all(key in one for one in listed)]
    return {key: Counter(one[key] for one in listed).most_common(1)[0][0] for key in everywhere}


def _node_names(windows: Mapping[str, Vars]) -> dict[str, str]:
    """The NetBIOS name of each host: the first label of its name; empty where that is none, or not its own."""
    labels = {host: host.partition(".")[0] for host in windows}
    taken = Counter(label.upper() for label in labels.values())
    return {
        host: label if _NETBIOS.fullmatch(label) and not _is_number(host) and taken[label.upper()] == 1 else ""
        for host, label in labels.items()
    }


def _is_number(host: str) -> bool:
    """Whether a name is an IPv4 address, whose first number is no name."""
    return re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host) is not None


def _node(
    host: str, name: str, inventory: Inventory, variables: Vars, read: _Read, common: Mapping[str, Value]
) -> DraftNode:
    whole = read.connections[host]
    own = {key: value for key, value in whole.items() if common.get(key) != value}
    if "scheme" in own and "port" in whole:  # the port of another scheme does not apply
        own["port"] = whole["port"]
    address = variables.get("ansible_host", variables.get("ansible_ssh_host", host))
    address = address if isinstance(address, str) and "{{" not in address else ""
    groups = [group for group, hosts in inventory.groups.items() if host in hosts]
    groups.sort(key=lambda group: len(inventory.groups[group]))
    pool = _text(variables.get(POOL)) or next(filter(_WORD.fullmatch, groups), "")
    role = _text(variables.get(ROLE)) or _role(groups)
    notes = [f"inventory name: {host}"] if name != host else []
    others = [group for group in groups if group != pool and POOL not in variables]
    notes += [f"also in the groups {', '.join(others[:_NAMED])}"] if others else []
    return DraftNode(name=name, host=address, role=role, pool=pool, connection=own, notes=tuple(notes))


def _role(groups: Iterable[str]) -> str:
    """The role that the names of the groups give; empty when they give none or both."""
    names = " ".join(groups)
    found = [role for role, pattern in _ROLES if pattern.search(names)]
    return found[0] if len(found) == 1 else ""


def _own_words(own: Mapping[str, Plain]) -> dict[str, object]:
    """What `esync export` wrote about the cluster itself."""
    found: dict[str, object] = {key: _text(own.get(key)) for key in ("name", "edition", "origin")}
    site = own.get("site")
    for key in _SITE if isinstance(site, dict) else ():
        found["site_path" if key == "path" else key] = _text(site.get(key)) if isinstance(site, dict) else ""
    partners = own.get("partners")
    found["partners"] = tuple(map(_text, partners)) if isinstance(partners, list) else ()
    return {key: value for key, value in found.items() if value}


def _text(value: Plain) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and "{{" not in str(value) else ""


def _notes(read: _Read, others: list[str], unread: Iterable[str]) -> tuple[str, ...]:
    notes = []
    if read.clear:
        notes.append(
            f"Passwords in the inventory were not copied ({_listed(read.clear)}): put them where `secret` says."
        )
    if read.unverified:
        notes.append(
            f"Ansible verifies no certificate of {_listed(read.unverified)}; esync always does: see `esync trust FILE`."
        )
    if read.templates:
        notes.append(
            f"Templates were not resolved ({_listed(dict.fromkeys(read.templates))}): what they give is missing."
        )
    if others:
        notes.append(f"Left out, because Ansible does not reach them over WinRM: {_listed(others)}.")
    notes += [f"Left out, because it is encrypted: {file}" for file in unread]
    return tuple(notes)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
