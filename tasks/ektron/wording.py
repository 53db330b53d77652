"""Text for people: counts, lists of names, shortened values, changed parts of a node."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for its type only: most text is about no node
    from tasks.ektron.facts.node import NodeFacts

__all__ = [
    "ago",
    "all_are",
    "changed_parts",
    "counted",
    "decryption",
    "differing",
    "named",
    "owed",
    "shortened",
    "sized",
]

#: Name of each part of the facts of a node (`NodeFacts`), the most informative part first.
PARTS: Mapping[str, str] = {
    "asset": "AssetManagement.config",
    "service_config": "the configuration of the service",
    "web": "web.config",
    "ews": "the EWSUpdates copy",
    "service": "the Windows service",
    "binaries": "the program files",
    "service_family": "the certificates in the service folder",
    "partner_family": "the certificates of partners in the service folder",
    "web_root_family": "the certificates in the site root",
    "staging_family": "the certificates in the staging folder",
    "staging_files": "the files in the staging folder",
    "origin_family": "the certificates of the origin",
    "origin_problem": "the problem with the certificates of the origin",
    "configurator_family": "the certificates in the folder of the Security Configurator",
    "client": "the SyncClient.cer of the node",
    "server": "the SyncServer.cer of the node",
    "site_exists": "whether the site exists",
    "precompiled": "whether the site is precompiled",
    "service_folder": "the service folder",
    "product_folder": "the folder of the product",
    "configurator_folder": "the folder of the Security Configurator",
    "computer": "the name of the machine",
    "program_data": "the ProgramData folder",
    "system_drive": "the system drive",
    "leftovers": "temporary files of an earlier run",
    "renamed_copies": "the copies under other names in the service folder",
    "old_places": "the certificates in folders that are not used any more",
    "node": "the name of the node",
}
_WITH_VALUES = frozenset({"asset", "service_config", "web", "ews", "service"})
_VALUES = {
    "builds": "build numbers",
    "connection_digest": "the database connection",
    "encoded_value": "encodedValue",
    "keys": "certificate keys",
    "keys_present": "publickCertKeys",
    "other_keys": "certificate keys of other servers",
    "load_balanced": "LoadBalanced",
    "server_certificates": "serverCertificate",
    "start_type": "start type",
    "ws_path": "WSPath",
}
_SHOWN = 40
_KILO = 1000
_ONE_DIGIT = 9.95  #: from here on a digit after the point adds nothing
_NAMES = 5
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def shortened(value: str) -> str:
    """A value of at most 40 characters; a longer one, such as a certificate, ends in `...`."""
    return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."


def counted(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`, `345,498 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def sized(size: int) -> str:
    """A number of bytes in the unit that suits it, in steps of 1000: `512 bytes`, `1.2 kB`, `283 MB`."""
    if size < _KILO:
        return counted(size, "byte")
    amount, unit = size / _KILO, "kB"
    for larger in ("MB", "GB", "TB"):
        if amount < _KILO - 0.5:
            break
        amount, unit = amount / _KILO, larger
    return f"{amount:,.0f} {unit}" if amount >= _ONE_DIGIT else f"{amount:.1f} {unit}"


def all_are(nodes: int) -> str:
    """`the node is`, `all 3 nodes are`: the start of a sentence about a whole cluster."""
    return "the node is" if nodes == 1 else f"all {nodes} nodes are"


def changed_parts(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The parts that differ between two observations of a node (`NodeFacts.comparable`): `web.config (endpoints)`."""
    return [
        f"{part}{_changed_values(before.get(name), after.get(name)) if name in _WITH_VALUES else ''}"
        for name, part in PARTS.items()
        if before.get(name) != after.get(name)
    ]


def differing(planned: "NodeFacts", facts: "NodeFacts") -> str:
    """What differs between two observations of a node, for a sentence."""
    return named(changed_parts(planned.comparable(), facts.comparable()))


def _changed_values(before: object, after: object) -> str:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return ""
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    values = [_VALUES.get(name, name.replace("_", " ")) for name in names if name != "file"]
    return f" ({', '.join(values)})" if values else " (no value that esync reads)"


def ago(seconds: float) -> str:
    """How long ago it was, in the largest unit that says it: `just now`, `3 min ago`, `5 h ago`, `9 days ago`."""
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min ago"
    return f"{seconds / _HOUR:.0f} h ago" if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days ago"


def decryption(section: str = "<section>") -> str:
    """What to do about a section of a configuration file that is encrypted (protected configuration of .NET)."""
    return (
        f"decrypt it with aspnet_regiis -pdf {section} <folder>, run esync, then encrypt it again. The tool only takes "
        "files named web.config: for the configuration of the service, decrypt a copy of that name in a folder of its "
        "own, copy it back, and restart the service when it is encrypted again"
    )


def owed(reason: str, since: str = "") -> str:
    """That a restart is owed, and why, for a sentence: a reason may begin with these words itself."""
    return f"restart owed{since}: {reason.removeprefix('restart owed: ')}"


def named(names: Sequence[str]) -> str:
    """Names for a sentence, of nodes or other things: `S1, S2 and 3 more`."""
    if len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"
