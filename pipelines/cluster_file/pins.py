"""Pinned certificates: in the cluster file (`fingerprint` of a node's `connection`), or beside it in a PEM file. Pure.

The cluster file is edited at the positions that its parser gives, so that comments, order and layout stay (a round
trip through ruamel.yaml loses comments behind aliases). The result is parsed and compared with the values that it
should have; where something else would change, nothing is written.
"""

import copy
import re
from collections.abc import Mapping

from ruamel.yaml.nodes import MappingNode, Node

from pipelines.cluster_file.positions import Plain, Unreadable, parse
from workers.errors import InputRefused

__all__ = ["PINS_FILE", "pem_text", "pinned_in_pem", "with_fingerprints"]

PINS_FILE = "pins.pem"  #: beside the cluster file
_HEAD = re.compile(r"^# (\S{1,64}) .*$", re.MULTILINE)
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_ALIAS = re.compile(r"\s*:\s*(\*[^\s,}\]]+)")

_Edit = tuple[int, int, str]  # from, to, the text in that place


def with_fingerprints(text: str, pins: Mapping[int, str]) -> str:
    """A cluster file in which these nodes have these fingerprints; comments, layout and other values stay.

    Args:
        text: the file, which was loaded before.
        pins: place of a node in the list, from 0 -> the text for `fingerprint`.

    Raises:
        InputRefused: it cannot be edited without changing something else.
    """
    plain = text.removeprefix("\ufeff")
    try:
        document = parse(plain)
        edited = plain
        edits = [_edit(plain, document.find(("nodes", place))[0], pin) for place, pin in pins.items()]
        for start, end, new in sorted(edits, reverse=True):
            edited = edited[:start] + new + edited[end:]
        right = parse(edited).data == _expected(document.data, pins)
    except (Unreadable, LookupError, ValueError):
        right, edited = False, ""
    if not right:
        lines = "; ".join(f'nodes[{place}].connection.fingerprint: "{pin}"' for place, pin in pins.items())
        raise InputRefused(
            "the fingerprints cannot be written into this file without changing something else",
            remedy=f"add them by hand: {lines}",
        )
    return text[: len(text) - len(plain)] + edited


def _expected(data: Plain, pins: Mapping[int, str]) -> Plain:
    changed = copy.deepcopy(data)
    nodes = changed.get("nodes") if isinstance(changed, dict) else None
    for place, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if isinstance(node, dict) and (value := pins.get(place)):
            own = node.get("connection")
            node["connection"] = {**(own if isinstance(own, dict) else {}), "fingerprint": value}
    return changed


def _edit(text: str, node: Node, pin: str) -> _Edit:
    """The one edit that pins a node.

    Raises:
        LookupError, ValueError: the node is not written as expected.
    """
    pinned = f'fingerprint: "{pin}"'
    whole = _mapping(node)
    keys = _own(whole)
    if "connection" not in keys:
        return _added(text, whole, keys, pinned)
    key, connection = keys["connection"]
    if not _inside(connection, whole):  # an alias of another connection
        alias = _ALIAS.match(text, key.end_mark.index)
        if alias is None:
            raise ValueError("no alias")
        return alias.start(1), alias.end(1), f"{{<<: {alias[1]}, {pinned}}}"
    connection = _mapping(connection)
    inner = _own(connection)
    if "fingerprint" in inner:
        value = inner["fingerprint"][1]
        return value.start_mark.index, value.end_mark.index, f'"{pin}"'
    if connection.flow_style:
        at = text.index("{", connection.start_mark.index) + 1
        return at, at, f"{pinned}, " if inner else pinned
    first = connection.value[0][0].start_mark
    return first.index, first.index, f"{pinned}{_newline(text)}{' ' * first.column}"


def _added(text: str, node: MappingNode, keys: Mapping[str, tuple[Node, Node]], pinned: str) -> _Edit:
    """A connection for a node that has none: behind its host, or its name where the host is merged from elsewhere."""
    key, value = keys.get("host") or keys["name"]
    end = value.end_mark.index
    if node.flow_style:
        return end, end, f", connection: {{{pinned}}}"
    found = re.compile(r"\r?\n").search(text, end)
    indent, newline = " " * key.start_mark.column, _newline(text)
    lines = f"{indent}connection:{newline}{indent}  {pinned}"
    if found is None:
        return len(text), len(text), f"{newline}{lines}{newline}"
    return found.end(), found.end(), f"{lines}{newline}"


def _mapping(node: Node) -> MappingNode:
    """The node as a mapping, or LookupError."""
    if isinstance(node, MappingNode):
        return node
    raise LookupError("no mapping")


def _own(node: MappingNode) -> dict[str, tuple[Node, Node]]:
    """The keys that are written in a mapping, with their values; not those that it merges."""
    return {str(key.value): (key, value) for key, value in node.value}


def _inside(part: Node, whole: Node) -> bool:
    start: int = part.start_mark.index
    return bool(whole.start_mark.index <= start <= whole.end_mark.index)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def pem_text(certificates: Mapping[str, tuple[str, str]]) -> str:
    """A PEM file of pinned certificates.

    Args:
        certificates: name of a node -> what to say about it in a comment, and its certificate in PEM.
    """
    parts = [f"# {name} {about}\n{pem.strip()}\n" for name, (about, pem) in certificates.items()]
    return "".join(["# Certificates that `esync trust` pinned; use it as `ca_file`.\n", *parts])


def pinned_in_pem(text: str) -> dict[str, str]:
    """Name of a node -> its certificate in PEM, from what `pem_text` wrote."""
    found: dict[str, str] = {}
    for head in _HEAD.finditer(text):
        block = _BLOCK.match(text, head.end() + 1)
        if block:
            found[head[1]] = block[0]
    return found
