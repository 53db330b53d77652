r"""The case files of the agent's protocol: loading, adapting to a machine, comparing.

A case is one JSON file in `tests/cases/agent`:

    description   one sentence
    given         folders, files {path: content}, many {folder: count}, links {path: target}, readonly, hidden,
                  locked [paths], services [..], values [..]
    request       one request; or `line`, the raw text of one
    reply         the expected reply; other fields may have any value
    again         the expected reply to the same request a second time
    then          files {path: content, or null}, folders [..], names {folder: [..]}, manifest {folder: [lines]},
                  hidden [paths], if files have such an attribute
    platforms     {platform: {reason, ...}}: the same parts for a platform that differs, or `skip: true`

Content is {"text": ..}, {"base64": ..}, {"hex": ..} or {"size": n} (that many bytes). Paths are below `C:\case`, which
is replaced by a folder of the machine. In a reply, {"$is": "time"} and similar mean a kind of value, {"$is": "absent"}
a missing field; {"$first": "pid"} gives a value a name, {"$same": "pid"} and {"$other": "pid"} mean the same value, or
a different one.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CASES", "Case", "Json", "content_of", "differences", "manifest_differences"]

Json = Any
FOLDER = Path(__file__).parent.parent / "cases" / "agent"
ABSENT = {"$is": "absent"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Case:
    """One case file."""

    name: str
    body: dict[str, Json]
    root: str = "C:\\case"

    def on(self, platform: str) -> dict[str, Json]:
        """The case for one platform."""
        return {**self.body, **self.body.get("platforms", {}).get(platform, {})}

    def numbered(self, number: int) -> "Case":
        """The same case with its own folder, services and programs, so that several cases fit on one machine."""
        text = re.sub(r"(?i)(C:\\+)(case|svc\d?)(?=[\\\"])", rf"\g<1>\g<2>{number}", json.dumps(self.body))
        text = re.sub(r"(?i)(Esync ?Practice|EsyncNeeds|EsyncCase)", rf"\g<1>{number}", text)
        return Case(self.name, json.loads(text), f"{self.root}{number}")


def _load() -> list[Case]:
    return [Case(path.stem, json.loads(path.read_text("ascii"))) for path in sorted(FOLDER.glob("*.json"))]


CASES = _load()


def content_of(content: dict[str, Json]) -> bytes:
    """The bytes of a content."""
    match content:
        case {"text": str(text)}:
            return text.encode("utf-8")
        case {"base64": str(text)}:
            return base64.b64decode(text)
        case {"hex": str(text)}:
            return bytes.fromhex(text)
        case {"size": int(size)}:
            return (b"0123456789abcdef" * (size // 16 + 1))[:size]
    raise ValueError(f"no content: {content}")


_KINDS: dict[str, Callable[[Json], bool]] = {
    "anything": lambda _: True,
    "time": lambda value: isinstance(value, str) and bool(_TIME.fullmatch(value)),
    "time or null": lambda value: value is None or (isinstance(value, str) and bool(_TIME.fullmatch(value))),
    "hash": lambda value: isinstance(value, str) and bool(_HASH.fullmatch(value)),
    "text": lambda value: isinstance(value, str) and bool(value),
    "texts": lambda value: isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value),
    "bool": lambda value: isinstance(value, bool),
    "whole": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "pid": lambda value: isinstance(value, int) and value > 0,
    "list": lambda value: isinstance(value, list),
}


def _matcher(wanted: dict[str, Json]) -> Callable[[Json], bool] | None:
    match wanted:
        case {"$is": str(kind)}:
            return _KINDS[kind]
        case {"$hash_of": content}:
            return lambda value: bool(value == hashlib.sha256(content_of(content)).hexdigest())
        case {"$bytes": content}:
            return lambda value: bool(value == base64.b64encode(content_of(content)).decode())
        case {"$matches": str(pattern)}:
            return lambda value: isinstance(value, str) and bool(re.search(pattern, value))
        case {"$length": int(length)}:
            return lambda value: len(value) == length
    return None


def _relation(wanted: dict[str, Json], named: dict[str, Json]) -> Callable[[Json], bool] | None:
    """A check of a value against another value of the same reply."""
    match wanted:
        case {"$first": str(name)}:
            return lambda value: named.setdefault(name, value) is value
        case {"$same": str(name)}:
            return lambda value: bool(value == named[name])
        case {"$other": str(name)}:
            return lambda value: bool(value and value != named[name])
    return None


def differences(wanted: Json, found: Json, place: str = "reply", named: dict[str, Json] | None = None) -> list[str]:
    """The differences between the expected and the actual value; empty if there are none."""
    named = {} if named is None else named
    if isinstance(wanted, dict):
        matcher = _matcher(wanted) or _relation(wanted, named)
        if matcher is not None:
            return [] if matcher(found) else [f"{place}: expected {wanted}, found {_short(found)}"]
        if not isinstance(found, dict):
            return [f"{place}: expected an object, found {_short(found)}"]
        unwanted = {key for key, value in wanted.items() if value == ABSENT}
        missing = [f"{place} has no {key}" for key in wanted.keys() - found.keys() - unwanted]
        missing += [f"{place} has {key}" for key in unwanted & found.keys()]
        return missing + [line for key in (wanted.keys() & found.keys()) - unwanted
                          for line in differences(wanted[key], found[key], f"{place}.{key}", named)]  # fmt: skip
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return [f"{place}: expected {len(wanted)} items, found {_short(found)}"]
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{place}[{i}]", named)]
    same = type(wanted) is type(found) and wanted == found
    return [] if same else [f"{place}: expected {wanted!r}, found {_short(found)}"]


def manifest_differences(wanted: list[Json], text: bytes) -> list[str]:
    """The differences between the expected and the actual lines of a backup's manifest."""
    return differences(wanted, [json.loads(line) for line in text.decode("ascii").splitlines()], "manifest")


def _short(value: Json) -> str:
    return repr(value)[:300]
