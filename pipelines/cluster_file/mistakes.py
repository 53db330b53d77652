"""Mistakes in a cluster file: where each one is, what is wrong, what would be right. Pure.

Pydantic finds what breaks the schema; this turns its errors into sentences for the person who edits the file. What a
key may contain comes from the schema itself: the descriptions in `tasks.cluster`.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Literal, TypeGuard, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipelines.cluster_file.positions import Document, Path, position
from tasks.cluster import ClusterFile
from workers.masks import scrubbed
from workers.records import Record

__all__ = ["FILL_IN", "Mistake", "allowed_values", "did_you_mean", "explain", "mistake_at"]

FILL_IN = "FILL-IN"  #: stands in a cluster file for a value that only the operator knows
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_SECRETIVE = re.compile(r"secret|passw|pwd|token|credential", re.IGNORECASE)
_SHOWN = 60
_OF_KEYS = {"missing", "extra_forbidden"}
#: A host with what belongs elsewhere: a scheme, brackets, a port, a path.
_ADDRESS = re.compile(r"(?:https?://)?(?:\[([0-9A-Fa-f:.%\w-]+)\]|([\w.-]+))(?::([0-9]{1,5}))?(?:/.*)?", re.ASCII)
_NUMBER = re.compile(r"[-+.]?[0-9][0-9_.]*")


class Mistake(Record):
    """One mistake. `line` and `column` count from 1; `value` is as written, shortened, empty where it may be a secret.

    Attributes:
        file: the cluster file, as it was named on the command line.
        path: the key, such as `nodes[1].role`; empty for the file as a whole.
        message: what is wrong, without the value.
        allowed: what is allowed there; may be empty.
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


def mistake_at(
    file: str, node: Node, path: Path, message: str, *, value: str = "", allowed: str = "", hint: str = ""
) -> Mistake:
    """A mistake at the position of a YAML node."""
    line, column = position(node)
    return Mistake(
        file=file, line=line, column=column, path=_key_text(path), value=value, message=message, allowed=allowed,
        hint=hint,
    )  # fmt: skip


def _key_text(path: Path) -> str:
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


def explain(file: str, document: Document, errors: Iterable[ErrorDetails]) -> Iterator[Mistake]:
    """The errors of the schema in words, one for each key: a union has an error for each of its members.

    Errors of the cluster as a whole are left out: `loader` checks those itself, because it knows the lines.
    """
    located = [(_path(document, error), error) for error in errors]
    deeper = {path[:length] for path, _ in located for length in range(len(path))}
    seen: set[Path] = set()
    for path, error in located:
        if path not in seen | deeper or (path not in seen and error["type"] in _OF_KEYS):
            seen.add(path)
            yield _explained(file, document, path, error)


def _path(document: Document, error: ErrorDetails) -> Path:
    """The location in the file: that of the error without the names that pydantic gives to members of a union."""
    if error["type"] in _OF_KEYS:
        return tuple(error["loc"])
    path: Path = ()
    for key in error["loc"]:
        if len(document.find((*path, key))[1]) > len(path):
            path = (*path, key)
    return path


def _explained(file: str, document: Document, path: Path, error: ErrorDetails) -> Mistake:
    if error["type"] == "extra_forbidden":
        return _unknown_key(file, document, path)
    if error["type"] == "missing":
        parent = path[:-1]
        node = document.key(parent) if parent and isinstance(parent[-1], str) else document.find(parent)[0]
        return mistake_at(file, node, path, "is missing", allowed=allowed_values(path))
    node, _ = document.find(path)
    value = "" if _is_secret(path) else _shown(node)
    is_mapping = error["type"].startswith("model_")
    return mistake_at(
        file,
        node if node.value else document.key(path),  # an empty value has the position of whatever follows it
        path,
        _message(error, node, value),
        value=value,
        allowed=", ".join(_fields(path)) if is_mapping else allowed_values(path),
        hint=_near(document.text(path), path, error) if value else "",
    )


def _near(text: str | None, path: Path, error: ErrorDetails) -> str:
    """What was probably meant by a value."""
    address = _ADDRESS.fullmatch(text or "") if path[-1] == "host" else None
    if address is None:
        return did_you_mean(text, _choices(error))
    port = f" and `connection: {{port: {address[3]}}}`" if address[3] else ""
    found = address[1] or address[2]
    return f"`host: {found}`{port}" if found != text else ""


def _unknown_key(file: str, document: Document, path: Path) -> Mistake:
    fields = list(_fields(path[:-1]))
    last = str(path[-1])
    readable = bool(_KEY.fullmatch(last))
    message = "unknown key" if readable else "unknown key (is a space missing after the colon?)"
    hint = _meant(last, fields) if readable else ""
    return mistake_at(file, document.key(path), path, message, allowed=", ".join(fields), hint=hint)


def _meant(key: str, fields: list[str]) -> str:
    return '"secret"' if "secret" in fields and _SECRETIVE.search(key) else did_you_mean(key, fields)


def _message(error: ErrorDetails, node: Node, value: str) -> str:
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
        return f"a {'mapping' if isinstance(node, MappingNode) else 'list'} is not allowed here"
    if not node.value:
        return "is empty"
    return "is not allowed" if value else "this value is not allowed"


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))


def _is_secret(path: Path) -> bool:
    return any(isinstance(key, str) and _SECRETIVE.search(key) for key in path)


def _shown(node: Node) -> str:
    """A scalar for a message. Text of several lines or with a colon may be a misplaced password: it is not shown."""
    if not isinstance(node, ScalarNode) or node.start_mark.line != node.end_mark.line:
        return ""
    text = scrubbed(str(node.value))
    if not node.style and _NUMBER.fullmatch(text) and len(text) <= _SHOWN:
        return text
    if not text or _SECRETIVE.search(text) or not text.isprintable():
        return ""
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[:_SHOWN]}..."'


def allowed_values(path: Path) -> str:
    """What a cluster file may contain at a path, by the schema; empty for a mapping and for an unknown key."""
    keys = tuple(key for key in path if isinstance(key, str))
    field = _fields(keys[:-1]).get(keys[-1]) if keys else None
    if field is None and len(keys) > 1:
        parent = _fields(keys[:-2]).get(keys[-2])  # the keys of some mappings are names
        field = (
            parent if parent and get_origin(parent.annotation) is dict and not _model_in(parent.annotation) else None
        )
    return (field.description or _described(field.annotation)) if field else ""


def _described(annotation: object) -> str:
    """The description of a type, or of the first described part of it; choices describe themselves."""
    if annotation is bool:
        return "true, false"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(annotation)
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(parts)
    if get_origin(annotation) is Annotated:
        return next(part.description or "" for part in parts if isinstance(part, FieldInfo))
    return next(filter(None, map(_described, parts)), "")


def _fields(path: Path) -> dict[str, FieldInfo]:
    """The keys of the mapping at a path; none where the schema has no mapping, or one whose keys are names."""
    fields: dict[str, FieldInfo] = ClusterFile.model_fields
    keys = iter(key for key in path if isinstance(key, str))
    for key in keys:
        annotation = fields[key].annotation if key in fields else None
        model = _model_in(annotation)
        named = get_origin(annotation) is dict
        fields = model.model_fields if model and (not named or next(keys, "")) else {}
    return fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    if _is_model(annotation):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
