"""How values and lists of nodes are shortened for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.ektron.certificates.family import CLIENT_CER, node_of

__all__ = ["all_are", "changed_parts", "counted", "key_names", "named", "shortened"]

#: What each part of a look at a node (`NodeFacts`) is called by people; what they would look at first comes first.
PARTS: Mapping[str, str] = {
    "asset": "AssetManagement.config",
    "service_config": "the service's configuration",
    "web": "web.config",
    "ews": "the EWSUpdates copy",
    "service": "the Windows service",
    "binaries": "the program files",
    "service_family": "the certificates in the service's folder",
    "web_root_family": "the certificates in the site's root",
    "staging_family": "the certificates in the staging folder",
    "staging_files": "the files in the staging folder",
    "origin_family": "the origin's own certificates",
    "origin_problem": "what is wrong with the origin's certificates",
    "configurator_family": "the certificates in the Security Configurator's folder",
    "client": "the node's SyncClient.cer",
    "server": "the node's SyncServer.cer",
    "site_exists": "whether the site is there",
    "precompiled": "whether the site is precompiled",
    "service_folder": "where the service lies",
    "configurator_folder": "where the Security Configurator lies",
    "computer": "the machine's name",
    "program_data": "where ProgramData lies",
    "system_drive": "the system drive",
    "leftovers": "temporary files of an earlier run",
    "node": "the node's name",
}
_WITH_VALUES = frozenset({"asset", "service_config", "web", "ews", "service"})
_VALUES = {
    "builds": "build numbers",
    "connection_digest": "the database connection",
    "encoded_value": "encodedValue",
    "keys": "certificate keys",
    "keys_present": "publickCertKeys",
    "load_balanced": "LoadBalanced",
    "server_certificates": "serverCertificate",
    "start_type": "its start type",
    "ws_path": "WSPath",
}
_SHOWN = 40
_NAMES = 5


def shortened(value: str) -> str:
    """A value, cut in the middle of a certificate."""
    return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."


def counted(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def all_are(nodes: int) -> str:
    """`the node is`, `all 3 nodes are`: how a sentence about a whole cluster begins."""
    return "the node is" if nodes == 1 else f"all {nodes} nodes are"


def changed_parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two looks at a node (`NodeFacts.comparable`): `web.config (endpoints)`."""
    names = [name for name in PARTS if before.get(name) != after.get(name)]
    return [
        f"{PARTS[name]}{_values(before.get(name), after.get(name)) if name in _WITH_VALUES else ''}" for name in names
    ]


def _values(before: object, after: object) -> str:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return ""
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    told = [_VALUES.get(name, name.replace("_", " ")) for name in names if name != "file"]
    return f" ({', '.join(told)})" if told else " (none of the values that are read)" if "file" in names else ""


def named(names: Sequence[str]) -> str:
    """Names for a sentence, of nodes or other things: `S1, S2 and 3 more`."""
    if len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"


def key_names(keys: Sequence[str]) -> str:
    """Certificate keys by their nodes, with their number where there are several."""
    nodes = [*map(_node, keys[:_NAMES]), *keys[_NAMES:]]
    return named(nodes) if len(nodes) <= 1 else f"{len(nodes)} keys ({named(nodes)})"


def _node(key: str) -> str:
    named_for = node_of(key)
    return named_for[0] if named_for and named_for[1] == CLIENT_CER else key
