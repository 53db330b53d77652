"""How values and lists of nodes are shortened for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.ektron.certificates import CLIENT_CER, node_of

__all__ = ["all_are", "changed_parts", "counted", "key_names", "named", "shortened"]

#: What each part of a look at a node (`NodeFacts`) is called by people.
PARTS: Mapping[str, str] = {
    "asset": "AssetManagement.config",
    "binaries": "the program files",
    "client": "the node's SyncClient.cer",
    "computer": "the machine's name",
    "configurator_family": "the certificates in the Security Configurator's folder",
    "configurator_folder": "the Security Configurator's folder",
    "ews": "the EWSUpdates copy",
    "leftovers": "temporary files of an earlier run",
    "node": "the node's name",
    "origin_family": "the origin's own certificates",
    "origin_problem": "the origin's own certificates",
    "precompiled": "whether the site is precompiled",
    "program_data": "the folder ProgramData",
    "server": "the node's SyncServer.cer",
    "service": "the Windows service",
    "service_config": "the service's configuration",
    "service_family": "the certificates in the service's folder",
    "service_folder": "the service's folder",
    "site_exists": "whether the site is there",
    "staging_family": "the certificates in the staging folder",
    "staging_files": "the files in the staging folder",
    "system_drive": "the system drive",
    "web": "web.config",
    "web_root_family": "the certificates in the site's root",
}
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
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return [f"{PARTS[name]}{_values(before.get(name), after.get(name))}" for name in names]


def _values(before: object, after: object) -> str:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return ""
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    told = [_VALUES.get(name, name.replace("_", " ")) for name in names if name != "file"]
    return f" ({', '.join(told)})" if told else " (none of the values that are read)" if "file" in names else ""


def named(nodes: Sequence[str]) -> str:
    """Names for a sentence: `S1, S2 and 3 more`."""
    if len(nodes) <= _NAMES:
        return ", ".join(nodes)
    return f"{', '.join(nodes[:_NAMES])} and {len(nodes) - _NAMES} more"


def key_names(keys: Sequence[str]) -> str:
    """Certificate keys by their nodes, with their number where there are several."""
    nodes = [*map(_node, keys[:_NAMES]), *keys[_NAMES:]]
    return named(nodes) if len(nodes) <= 1 else f"{len(nodes)} keys ({named(nodes)})"


def _node(key: str) -> str:
    named_for = node_of(key)
    return named_for[0] if named_for and named_for[1] == CLIENT_CER else key
