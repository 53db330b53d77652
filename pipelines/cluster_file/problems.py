"""One mistake in a cluster file: where it stands, what it is, what would be right. Pure.

Pydantic finds what breaks the schema; this turns what it says into words for the person who edits the file.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipelines.cluster_file.positions import Document, Path
from tasks.cluster import ClusterFile
from workers.records import Record

__all__ = ["ALLOWED", "Problem", "did_you_mean", "explain", "place"]

_NETBIOS = "a NetBIOS name: 1 to 15 letters, digits, '-' and '_'"
_WORD = "1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
_WINDOWS_PATH = r"an absolute Windows path such as C:\inetpub\wwwroot\site"
_REFERENCE = "env:NAME or file:PATH; the secret itself stands in no cluster file"
_TRANSPORT = "ntlm, basic, kerberos, credssp, certificate"
_TRIES = "a whole number from 1 to 20, the first try included"
_SECONDS = "seconds, more than 0, at most 86400"

#: What may stand under a key, by its path without indices.
ALLOWED: Mapping[str, str] = {
    "name": _WORD,
    "edition": "8.0, 8.5, 8.6, 8.7, 9.0, 9.1, 9.2, 9.3",
    "origin": "the name of one of the nodes",
    "site.path": _WINDOWS_PATH,
    "site.service_folder": _WINDOWS_PATH,
    "site.product_folder": _WINDOWS_PATH,
    "connection.transport": _TRANSPORT,
    "connection.port": "a whole number from 1 to 65535",
    "connection.user": r"an account such as DOMAIN\name, at most 256 characters",
    "connection.secret": _REFERENCE,
    "connection.ca_file": "the path of a PEM file, relative to the cluster file",
    "policy.concurrency": "a whole number from 1 to 1000",
    "policy.waves": 'pools, all, or sizes such as [1, 5, "25%", "100%"]',
    "policy.max_failed": "a whole number from 0, or null for a third of the cluster",
    "policy.max_refused": "a whole number from 0 to 1000",
    "policy.unreachable": "continue, stop",
    "policy.stale": "stop, continue",
    "policy.generate_certificates": "true, false",
    "policy.keep_backups_days": "a whole number from 0 to 3650",
    "policy.deadlines.connect": _SECONDS,
    "policy.deadlines.step": _SECONDS,
    "policy.deadlines.service": _SECONDS,
    "policy.deadlines.run": _SECONDS,
    "policy.deadlines.cancel": _SECONDS,
    "policy.retries.unreachable": _TRIES,
    "policy.retries.conflict": _TRIES,
    "policy.retries.timeout": _TRIES,
    "policy.retries.failed": _TRIES,
    "policy.retries.backoff": "seconds from 0 to 60",
    "policy.retries.longest": "seconds from 0 to 600",
    "nodes": "1 to 5000 nodes, each with name, host, role and pool",
    "nodes.name": _NETBIOS,
    "nodes.host": "a host name or an IP address, without scheme or port",
    "nodes.role": "staging, production",
    "nodes.pool": _WORD,
}

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_SECRETIVE = re.compile(r"secret|passw|pwd|token|credential", re.IGNORECASE)
_SHOWN = 60
_OF_KEYS = {"missing", "extra_forbidden"}
_NUMBER = re.compile(r"[-+.]?[0-9][0-9_.]*")


class Problem(Record):
    """One mistake. `line` and `column` count from 1; `value` is as written, shortened, empty where it must not be seen.

    Attributes:
        file: the cluster file, as it was named to us.
        path: the key, such as `nodes[1].role`; empty for the file as a whole.
        message: what is wrong, without the value.
        allowed: what may stand there; may be empty.
        hint: what was probably meant; may be empty.
    """

    file: str
    line: int
    column: int = 1
    path: str = ""
    value: str = ""
    message: str
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {self.path}: " if self.path else f"{self.file}:{self.line}: "
        value = f"{self.value} " if self.value else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        hint = f" (did you mean {self.hint}?)" if self.hint else ""
        return f"{where}{value}{self.message}{allowed}{hint}"


def place(path: Iterable[str | int]) -> str:
    """`("nodes", 1, "role")` as `nodes[1].role`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _KEY.fullmatch(key) else "?")
    return text


def did_you_mean(value: object, choices: Iterable[str]) -> str:
    """The choice nearest to a misspelt value, in quotes; empty when none is near."""
    by_fold = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).casefold(), by_fold, n=1, cutoff=0.6)
    return f'"{by_fold[near[0]]}"' if near else ""


def explain(file: str, document: Document, errors: Iterable[ErrorDetails]) -> Iterator[Problem]:
    """The schema's complaints in words, one for each key: a union complains once for each of its members.

    Errors of the cluster as a whole are left out: `inventory` checks those itself, knowing the lines.
    """
    placed = [(_path(document, error), error) for error in errors]
    deeper = {path[:length] for path, _ in placed for length in range(len(path))}
    seen: set[Path] = set()
    for path, error in placed:
        if path not in seen | deeper or (path not in seen and error["type"] in _OF_KEYS):
            seen.add(path)
            yield _explained(file, document, path, error)


def _path(document: Document, error: ErrorDetails) -> Path:
    """Where in the file: the error's location without the names that pydantic gives to members of a union."""
    if error["type"] in _OF_KEYS:
        return tuple(error["loc"])
    path: Path = ()
    for key in error["loc"]:
        if len(document.find((*path, key))[1]) > len(path):
            path = (*path, key)
    return path


def _explained(file: str, document: Document, path: Path, error: ErrorDetails) -> Problem:
    if error["type"] == "extra_forbidden":
        return _unknown_key(file, document, path)
    if error["type"] == "missing":
        return _missing(file, document, path)
    node, _ = document.find(path)
    value = "" if _is_secret(path) else _shown(node)
    mark = (node if node.value else document.key(path)).start_mark  # nothing at all stands where the next thing starts
    return Problem(
        file=file,
        line=mark.line + 1,
        column=mark.column + 1,
        path=place(path),
        value=value,
        message=_said(error, node, value),
        allowed=_allowed(path, error),
        hint=did_you_mean(document.text(path), _choices(error)) if value else "",
    )


def _missing(file: str, document: Document, path: Path) -> Problem:
    parent = path[:-1]
    mark = (document.key(parent) if parent and isinstance(parent[-1], str) else document.find(parent)[0]).start_mark
    return Problem(
        file=file,
        line=mark.line + 1,
        column=mark.column + 1,
        path=place(path),
        message="is missing",
        allowed=ALLOWED.get(_without_indices(path), ""),
    )


def _allowed(path: Path, error: ErrorDetails) -> str:
    if error["type"].startswith("model_"):
        return ", ".join(_fields(path))
    return ALLOWED.get(_without_indices(path), "")


def _unknown_key(file: str, document: Document, path: Path) -> Problem:
    mark = document.key(path).start_mark
    fields = _fields(path[:-1])
    last = str(path[-1])
    readable = bool(_KEY.fullmatch(last))
    return Problem(
        file=file,
        line=mark.line + 1,
        column=mark.column + 1,
        path=place(path),
        message="unknown key" if readable else "unknown key (is a blank missing after a colon?)",
        allowed=", ".join(fields),
        hint=_meant(last, fields) if readable else "",
    )


def _meant(key: str, fields: list[str]) -> str:
    return '"secret"' if "secret" in fields and _SECRETIVE.search(key) else did_you_mean(key, fields)


def _said(error: ErrorDetails, node: Node, value: str) -> str:
    by_kind = {
        "too_short": "is empty",
        "too_long": "has too many entries",
        "model_type": "must be a mapping of keys and values",
        "model_attributes_type": "must be a mapping of keys and values",
        "tuple_type": "must be a list",
        "value_error": str(error["msg"]).removeprefix("Value error, "),
    }
    if error["type"] in by_kind:
        return by_kind[error["type"]]
    if isinstance(node, MappingNode | SequenceNode):
        return f"a {'mapping' if isinstance(node, MappingNode) else 'list'} does not belong here"
    if not node.value:
        return "is empty"
    return "is not allowed" if value else "what stands here is not allowed"


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))


def _is_secret(path: Path) -> bool:
    return any(isinstance(key, str) and _SECRETIVE.search(key) for key in path)


def _shown(node: Node) -> str:
    """A scalar for a message. What spans lines or hides a colon may be a password that slipped in: not shown."""
    if not isinstance(node, ScalarNode) or node.start_mark.line != node.end_mark.line:
        return ""
    text = str(node.value)
    if node.style is None and _NUMBER.fullmatch(text) and len(text) <= _SHOWN:
        return text
    if not text or _SECRETIVE.search(text) or not text.isprintable():
        return ""
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[:_SHOWN]}..."'


def _without_indices(path: Path) -> str:
    keys = [str(key) for key in path if isinstance(key, str)]
    if keys[:2] == ["nodes", "connection"]:
        keys = keys[1:]
    return ".".join(keys)


def _fields(path: Path) -> list[str]:
    model: type[BaseModel] | None = ClusterFile
    for key in path:
        if model is not None and isinstance(key, str) and key in model.model_fields:
            model = _model_in(model.model_fields[key].annotation)
    return list(model.model_fields) if model else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
