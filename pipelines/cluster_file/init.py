"""Writes a new cluster file: what is known, comments about each part, and a marked line for what is not known. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping

from pipelines.cluster_file.mistakes import FILL_IN, allowed_values
from workers.records import Record
from workers.texts import cleaned

__all__ = ["PASSWORD", "SCHEMA_FILE", "Draft", "DraftNode", "text_of"]

SCHEMA_FILE = "cluster-schema.json"  #: beside the cluster file; its first line names it, so that editors complete it
PASSWORD = "env:ESYNC_PASSWORD"  # noqa: S105 - the reference to one
_PLAIN = re.compile(r"[A-Za-z_]([A-Za-z0-9_.:/\\-]*[A-Za-z0-9_.\\/-])?")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  #: they are no texts in YAML
_CONNECTION = (
    "How to log on to WinRM. `secret` says where the password is, never the password itself: env:NAME, or file:PATH",
    "relative to this file. Over https (port 5986) the servers' certificates are verified against `ca_file` (a PEM",
    "file), against the authorities of this system, or against the pins that `esync trust FILE` collects. Over http",
    "(`scheme: http`, port 5985) the logon method encrypts every message.",
)
_NODES = (
    "One entry per server. `name` is its Windows (NetBIOS) name, which is part of the certificate file names. `pool`",
    "groups the servers behind one load balancer, which share one database; all servers of a pool have one `role`:",
    "staging or production. `connection` may differ from the one above.",
)

Value = str | int


class DraftNode(Record):
    """One server as far as it is known; an empty text is unknown. `notes` become comments."""

    name: str = ""
    host: str = ""
    role: str = ""
    pool: str = ""
    connection: Mapping[str, Value] = {}
    notes: tuple[str, ...] = ()


class Draft(Record):
    """A cluster as far as it is known; an empty text is unknown.

    Attributes:
        source: where it is from, for a comment.
        connection: keys of a cluster file's `connection` with their values, without those that are not known.
        notes: for the person who completes the file; they become comments.
    """

    source: str = ""
    name: str = ""
    edition: str = ""
    origin: str = ""
    site_path: str = ""
    service_folder: str = ""
    product_folder: str = ""
    database: str = ""
    partners: tuple[str, ...] = ()
    connection: Mapping[str, Value] = {}
    nodes: tuple[DraftNode, ...] = ()
    notes: tuple[str, ...] = ()


def text_of(draft: Draft) -> str:
    """The cluster file. What is not known is `FILL-IN`, with what is allowed there; `esync check` names these lines."""
    return "\n".join([*_head(draft), *_cluster(draft), *_connection(draft), *_nodes(draft), ""])


def _head(draft: Draft) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={SCHEMA_FILE}"
    source = f" {cleaned(draft.source)}" if draft.source else ""
    yield f"# Written by `esync init`{source}. `esync check FILE` names every line that is still to be filled in."
    yield from _comments(draft.notes)
    yield ""


def _cluster(draft: Draft) -> Iterator[str]:
    yield _line("name", draft.name, ("name",))
    yield from ("", "# The CMS version, in quotes. It decides folders and the name of the service.")
    yield _line("edition", draft.edition, ("edition",), quoted=True)
    yield from (
        "",
        "# The server on which the Security Configurator made the certificates. All others get renamed copies.",
    )
    yield _line("origin", draft.origin, ("origin",))
    yield from ("", "site:", "  # The folder of the site; it must be the same on every server.")
    yield "  " + _line("path", draft.site_path, ("site", "path"))
    yield "  # Only if the product is not in its default folder:"
    yield _optional("service_folder", draft.service_folder, r"D:\Ektron\EktronWindowsService40")
    yield _optional("product_folder", draft.product_folder, r"D:\Ektron\CMS400v91")
    yield "  # Each pool has its own database: eSync copies between two of them. Only if all pools use one on purpose:"
    yield _optional("database", draft.database, "shared")
    if draft.partners:
        yield from ("", "# Servers outside this cluster that sync with it: their keys and certificate files stay.")
        yield f"partners: [{', '.join(map(_scalar, draft.partners))}]"


def _connection(draft: Draft) -> Iterator[str]:
    yield ""
    yield from _comments(_CONNECTION)
    yield "connection:"
    given = {"transport": "ntlm", "user": "", "secret": PASSWORD, **draft.connection}
    for key, value in given.items():
        yield "  " + _line(key, value, ("connection", key))
    if "ca_file" not in given:
        yield "  # ca_file: ca.pem"


def _nodes(draft: Draft) -> Iterator[str]:
    yield ""
    yield from _comments(_NODES)
    yield "nodes:"
    for node in draft.nodes or (DraftNode(),):
        yield from (f"  {line}" for line in _comments(node.notes))
        lead = "  - "
        for key in ("name", "host", "role", "pool"):
            yield lead + _line(key, getattr(node, key), ("nodes", 0, key))
            lead = "    "
        if node.connection:
            yield "    connection:"
            yield from (f"      {key}: {_scalar(value)}" for key, value in node.connection.items())


def _comments(lines: Iterable[str]) -> Iterator[str]:
    return (f"# {cleaned(line)}" for line in lines)


def _line(key: str, value: Value, path: tuple[str | int, ...], *, quoted: bool = False) -> str:
    if value == "":
        return f"{key}: {FILL_IN}   # {allowed_values(path)}"
    return f"{key}: {_quoted(str(value)) if quoted else _scalar(value)}"


def _optional(key: str, value: str, example: str) -> str:
    return f"  {key}: {_scalar(value)}" if value else f"  # {key}: {example}"


def _scalar(value: Value) -> str:
    """The value in YAML; a text in quotes unless every reader of YAML takes it for a text without."""
    if isinstance(value, int):
        return str(value)
    return value if _PLAIN.fullmatch(value) and value.casefold() not in _WORDS else _quoted(value)


def _quoted(text: str) -> str:
    return "'" + cleaned(text).replace("'", "''") + "'"
