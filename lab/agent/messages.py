"""Reads requests of the agent's protocol and writes replies."""

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath

__all__ = ["TICK", "Fields", "Request", "Result", "Unreadable", "as_time", "encode_reply", "failure", "link_refusal"]

Result = dict[str, object]

TICK = 100  #: nanoseconds, the resolution of Windows
_VERSION = 1
_COMPRESSED_FROM = 8000
_LARGEST = 2**63 - 1
_MISSING = object()


class Unreadable(Exception):
    """A line that is not a request. `id` is the request's id if it could be read."""

    def __init__(self, request_id: object, message: str) -> None:
        super().__init__(message)
        self.id = request_id
        self.message = message


class Fields:
    """The fields of one operation, with type checks."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    @property
    def op(self) -> str:
        """The name of the operation."""
        return str(self._values["op"])

    def replaced(self, **values: object) -> "Fields":
        """The same operation with some fields changed."""
        return Fields({**self._values, **values})

    def place(self) -> str | None:
        """The file or folder of the operation, as written, or None."""
        return self._first_text("path", "folder", "program")

    def target(self) -> str:
        """The target of the operation, as written: a path, service, registry key or host; else empty."""
        return self.place() or self._first_text("key", "name", "host", "url") or ""

    def _first_text(self, *names: str) -> str | None:
        for name in names:
            if isinstance(value := self._values.get(name), str):
                return value
        return None

    def _get(self, name: str, default: object) -> object:
        value = self._values.get(name, default)
        if value is _MISSING:
            raise Refusal(Slug.INVALID, f"{self.op} needs the field {name}")
        return value

    def _wrong(self, name: str, wanted: str) -> Refusal:
        return Refusal(Slug.INVALID, f"{self.op}: the field {name} must be {wanted}")

    def text(self, name: str, default: object = _MISSING) -> str:
        """A text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def path(self, name: str = "path") -> WindowsPath:
        """An absolute path of the node."""
        return WindowsPath.of(self.text(name))

    def folder_or_none(self, name: str) -> WindowsPath | None:
        """A path, or None when the field is missing or null."""
        return None if self._get(name, None) is None else self.path(name)

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self._values.get(name) is not None

    def is_one_of(self, name: str, *texts: str) -> bool:
        """Whether the field is one of these texts."""
        return self._values.get(name) in texts

    def object_or_none(self, name: str) -> "Fields | None":
        """Fields within the field, or None when it is missing or null."""
        value = self._get(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields({**value, "op": name})

    def flag(self, name: str) -> bool:
        """True or false; false when missing."""
        value = self._get(name, default=False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def whole(self, name: str, default: object = _MISSING, *, least: int = 0) -> int:
        """A whole number of at least `least`, in 64 bits."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
            raise self._wrong(name, f"a whole number from {least}")
        return value

    def seconds(self, name: str, default: float) -> float:
        """A number of seconds, not negative."""
        value = self._get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
            raise self._wrong(name, "a number of seconds")
        return float(value)

    def data(self, name: str) -> bytes:
        """Bytes, from base64."""
        return self._decoded(name, self.text(name))

    def _decoded(self, name: str, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise self._wrong(name, "base64") from None

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty when missing."""
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        return list(value)

    def names(self, name: str) -> dict[str, str]:
        """An object whose values are texts."""
        value = self._get(name, _MISSING)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(name, "an object of texts")
        return dict(value)

    def blobs(self, name: str) -> dict[str, bytes]:
        """An object whose values are bytes, from base64."""
        return {key: self._decoded(name, text) for key, text in self.names(name).items()}


@dataclass(frozen=True, slots=True)
class Request:
    """A valid request. `fields` are all its fields."""

    id: object
    ops: tuple[Fields, ...]
    fields: Fields
    look: tuple[Fields, ...] = ()  #: what is asked after the operations, if none failed
    keep_going: bool = False
    stop: bool = False
    gzip: bool = False  #: whether a large reply may be compressed

    @classmethod
    def of(cls, line: str) -> "Request":
        """Reads a line.

        Raises:
            Unreadable: the line is not a request of this version.
        """
        try:
            value = json.loads(line, parse_constant=_reject_constant)
        except ValueError:
            raise Unreadable(None, "the line is not JSON") from None
        if not isinstance(value, dict):
            raise Unreadable(None, "the request is not an object")
        request_id = value.get("id")
        if not isinstance(request_id, str):
            raise Unreadable(None, "the request has no id")
        if type(value.get("v")) is not int or value["v"] != _VERSION:
            raise Unreadable(request_id, "the request has a version other than 1")
        if value.get("stop") is True:
            return cls(request_id, (), Fields({**value, "op": "request"}), stop=True)
        value |= _unpacked(request_id, value["packed"]) if "packed" in value else {}
        operations = _operations(request_id, value.get("ops"))
        look = () if value.get("look") is None else _operations(request_id, value["look"])
        keep_going, gzip_allowed = value.get("keep_going") is True, value.get("gzip") is True
        fields = Fields({**value, "op": "request"})
        return cls(request_id, operations, fields, look, keep_going=keep_going, gzip=gzip_allowed)


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _unpacked(request_id: object, packed: object) -> dict[str, object]:
    """The compressed parts of a large request."""
    try:
        content = json.loads(gzip.decompress(base64.b64decode(str(packed), validate=True)))
        return {name: content[name] for name in ("ops", "look", "guard") if name in content}
    except (ValueError, OSError, EOFError, TypeError, zlib.error):
        raise Unreadable(request_id, "the packed part of the request cannot be unpacked") from None


def _operations(request_id: object, ops: object) -> tuple[Fields, ...]:
    if not isinstance(ops, list):
        raise Unreadable(request_id, "the request has no list of operations")
    for op in ops:
        if not isinstance(op, dict) or not isinstance(op.get("op"), str):
            raise Unreadable(request_id, "an operation has no op")
    return tuple(Fields(op) for op in ops)


def failure(refusal: Refusal, place: str | None = None) -> Result:
    """The result of a refused operation; `place` is used if the refusal names no path."""
    result: Result = {"ok": False, "error": refusal.slug.value, "message": " ".join(refusal.message.split())}
    if path := refusal.path or place:
        result["path"] = path
    if refusal.code:
        result["code"] = refusal.code
    return result


def link_refusal(path: WindowsPath, *, folder: bool) -> Refusal:
    """The refusal of a change that would pass through a link."""
    return Refusal(Slug.INVALID, f"the path leaves its folder through a {'junction' if folder else 'link'}", path.text)


def encode_reply(request_id: object, results: list[Result], *, compress: bool = False) -> str:
    """One line of ASCII without a line end; a large one is compressed if `compress` allows it."""
    text, name = json.dumps(results, separators=(",", ":")), "results"
    if compress and len(text) >= _COMPRESSED_FROM:
        compressed = base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=1)).decode("ascii")
        text, name = f'"{compressed}"', "gzip"
    return f'{{"v":{_VERSION},"id":{json.dumps(request_id)},"{name}":{text}}}'


def as_time(nanoseconds: int) -> str:
    """UTC text with seven fraction digits."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // TICK:07d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
