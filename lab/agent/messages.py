"""Requests of the agent's protocol as the lab reads them, and replies as it writes them."""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath

__all__ = ["Fields", "Request", "Unreadable", "as_time", "encode_reply", "failure"]

_VERSION = 1
_PACKED_FROM = 8000
_LARGEST = 2**63 - 1
_MISSING = object()


class Unreadable(Exception):
    """A line that is no request. `id` is the request's, where it could be seen."""

    def __init__(self, request_id: object, message: str) -> None:
        super().__init__(message)
        self.id = request_id
        self.message = message


class Fields:
    """The fields of one operation, each read with the type it must have."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    @property
    def op(self) -> str:
        """Which operation it is."""
        return str(self._values["op"])

    def replaced(self, **values: object) -> "Fields":
        """The same operation with some fields changed."""
        return Fields({**self._values, **values})

    def place(self) -> str | None:
        """The file or folder it is about, as written, or None."""
        return next((v for n in ("path", "folder", "program") if isinstance(v := self._values.get(n), str)), None)

    def about(self) -> str:
        """What it is about, as written: a place, a service, a registry key, a host; else empty."""
        names = ("key", "name", "host", "url")
        return self.place() or next((v for n in names if isinstance(v := self._values.get(n), str)), "")

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
        """Whether the field is there and not null."""
        return self._values.get(name) is not None

    def asks_for(self, name: str, *texts: str) -> bool:
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
    """One line that could be read. `fields` are its own, for what else it holds."""

    id: object
    ops: tuple[Fields, ...]
    fields: Fields
    keep_going: bool = False
    stop: bool = False
    packs: bool = False  #: whether a large reply may come packed

    @classmethod
    def of(cls, line: str) -> "Request":
        """Reads a line.

        Raises:
            Unreadable: it is no request of this version.
        """
        try:
            value = json.loads(line, parse_constant=_no_number)
        except ValueError:
            raise Unreadable(None, "the line is not JSON") from None
        if not isinstance(value, dict):
            raise Unreadable(None, "the request is not an object")
        request_id = value.get("id")
        if not isinstance(request_id, str):
            raise Unreadable(None, "the request has no id")
        if type(value.get("v")) is not int or value["v"] != _VERSION:
            raise Unreadable(request_id, "the request is of another version than 1")
        fields = Fields({**value, "op": "request"})
        if value.get("stop") is True:
            return cls(request_id, (), fields, stop=True)
        operations = _operations(request_id, value.get("ops"))
        going, packs = value.get("keep_going") is True, value.get("gzip") is True
        return cls(request_id, operations, fields, keep_going=going, packs=packs)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _operations(request_id: object, ops: object) -> tuple[Fields, ...]:
    if not isinstance(ops, list):
        raise Unreadable(request_id, "the request has no list of operations")
    for op in ops:
        if not isinstance(op, dict) or not isinstance(op.get("op"), str):
            raise Unreadable(request_id, "an operation has no op")
    return tuple(Fields(op) for op in ops)


def failure(refusal: Refusal, place: str | None = None) -> dict[str, object]:
    """The result of an operation that was refused; `place` stands in where the refusal names no path."""
    result: dict[str, object] = {"ok": False, "error": refusal.slug.value, "message": " ".join(refusal.message.split())}
    if path := refusal.path or place:
        result["path"] = path
    return result


def encode_reply(request_id: object, results: list[dict[str, object]], *, packs: bool = False) -> str:
    """One line of ASCII, without its end; a large one packed where that is allowed."""
    text, name = json.dumps(results, separators=(",", ":")), "results"
    if packs and len(text) >= _PACKED_FROM:
        packed = base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=1)).decode("ascii")
        text, name = f'"{packed}"', "gzip"
    return f'{{"v":{_VERSION},"id":{json.dumps(request_id)},"{name}":{text}}}'


def as_time(nanoseconds: int) -> str:
    """UTC text with seven fraction digits, the grain of Windows."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 100:07d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
