"""The agent's operations as values, and its results as values (docs/agent-protocol.md, version 1). No input or output.

from workers.winrm import agent as ops
config, clock = session.ask([ops.read(path), ops.clock()], deadline=60)
ops.data_of(config), ops.time_of(clock["now"])
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError

from workers.errors import AccessDenied, AgentFailed, Conflict, DeadlineExceeded, NodeError
from workers.records import Record

__all__ = [
    "ABSENT",
    "ANY",
    "LARGEST_NUMBER",
    "Drive",
    "Guard",
    "Hello",
    "Op",
    "Reply",
    "Writer",
    "clock",
    "data_of",
    "digest",
    "error_of",
    "hash_of",
    "hello",
    "hello_of",
    "http",
    "list_folder",
    "mkdir",
    "read",
    "registry",
    "remove",
    "run",
    "service",
    "spread",
    "stat",
    "tcp",
    "time_of",
    "touch",
    "version",
    "write",
    "writer_of",
]

ABSENT = "absent"  #: `write` only where no file is
ANY = "any"  #: `write` or `remove` whatever is there

_CHANGING = frozenset({"write", "spread", "mkdir", "remove", "touch"})
LARGEST_NUMBER = 2**63 - 1  #: that a fence file can hold
_WRITER = re.compile(rb"([0-9]{1,20})(?: [0-9]{1,10} ([A-Za-z0-9._-]{1,64}))?")
READ_LIMIT = 4_194_304
LIST_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a request. What it carries may be secret, so it shows only its name and its target."""

    name: str
    fields: Mapping[str, Any] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The operation as it travels."""
        return {"op": self.name, **self.fields}

    @property
    def target(self) -> str:
        """What it is about: a path, a service, a host, an address; empty when it is about the node itself."""
        for key in ("path", "folder", "name", "url", "host", "program"):
            if key in self.fields:
                return str(self.fields[key])
        return ""

    @property
    def changes(self) -> bool:
        """Whether it changes the node, so that a guard is about it; running a program is judged by who runs it."""
        return self.name in _CHANGING or (self.name == "service" and self.fields.get("action", "query") != "query")

    def __str__(self) -> str:
        return f"{self.name} {self.target}".rstrip()


@dataclass(frozen=True, slots=True)
class Guard:
    """What the operations of a request that change something are held to by the node itself.

    Attributes:
        fence: the number of this writer's run there; where the node has seen a larger one, or this one of another
            run, nothing changes and the result is a conflict.
        file: where the node keeps the newest writer it has seen; its folder is made when missing.
        folders: changes go to these folders or below, and through no junction on the way down from them.
        run: this writer's run; empty for a writer that says no more than its number.
        claim: of that run on the node; a later one wins.
    """

    fence: int
    file: str
    folders: tuple[str, ...]
    run: str = ""
    claim: int = 0

    def as_json(self) -> dict[str, Any]:
        """The guard as it travels."""
        who = {"run": self.run, "claim": self.claim} if self.run else {}
        return {"fence": {"file": self.file, "number": self.fence, **who}, "folders": list(self.folders)}


@dataclass(frozen=True, slots=True)
class Writer:
    """The newest writer that a node has seen: a run's number, and the run; none is named where an older agent wrote."""

    number: int
    run: str = ""


def hello() -> Op:
    """Who answers: versions, language mode, administrator or not, drives."""
    return Op("hello", {})


def stat(path: str, *, hashes: bool = False) -> Op:
    """Whether something is there, and what: `exists`, `kind`, `size`, `mtime`, `readonly`, `hash` if asked."""
    return Op("stat", {"path": path, "hash": hashes})


def list_folder(path: str, *, hashes: bool = False, limit: int = LIST_LIMIT) -> Op:
    """What a folder holds: `entries` sorted by name, `truncated` when there are more than `limit`."""
    return Op("list", {"path": path, "hash": hashes, "limit": limit})


def read(path: str, *, limit: int = READ_LIMIT) -> Op:
    """A file's bytes (`data_of`), `size`, `mtime` and `hash`; a file larger than `limit` bytes is refused."""
    return Op("read", {"path": path, "limit": limit})


def hash_of(path: str) -> Op:
    """A file's `hash` and `size`."""
    return Op("hash", {"path": path})


def write(path: str, data: bytes, *, expect: str, backup: str | None = None) -> Op:
    """Replaces a file in one go if its hash is `expect` (or `ABSENT`, `ANY`), keeping the old bytes under `backup`."""
    return Op("write", {"path": path, "data": _base64(data), "expect": expect, "backup": backup})


def spread(folder: str, blobs: Mapping[str, bytes], files: Mapping[str, str], *, backup: str | None = None) -> Op:
    """Writes a few blobs under many names of one folder (`files`: name -> blob), skipping equal files."""
    encoded = {name: _base64(data) for name, data in blobs.items()}
    return Op("spread", {"folder": folder, "blobs": encoded, "files": dict(files), "backup": backup})


def mkdir(path: str, *, backup: str | None = None) -> Op:
    """Makes a folder and its parents."""
    return Op("mkdir", {"path": path, "backup": backup})


def remove(path: str, *, expect: str = ANY, backup: str | None = None) -> Op:
    """Removes a file if its hash is `expect` (or `ANY`), or an empty folder (`ANY`); nothing there is fine."""
    return Op("remove", {"path": path, "expect": expect, "backup": backup})


def service(name: str, *, action: Literal["query", "stop", "start"] = "query", deadline: float = 60) -> Op:
    """Asks about a Windows service, or stops or starts it and waits up to `deadline` seconds."""
    return Op("service", {"name": name, "action": action, "deadline": deadline})


def version(path: str) -> Op:
    """A binary's file `version`, `size` and `hash`."""
    return Op("version", {"path": path})


def registry(key: str, name: str) -> Op:
    r"""One value of the registry as text; `key` is such as `HKLM\SYSTEM\...`."""
    return Op("registry", {"key": key, "name": name})


def tcp(host: str, port: int, *, timeout: float = 5) -> Op:
    """Whether the node can connect to host:port within `timeout` seconds."""
    return Op("tcp", {"host": host, "port": port, "timeout": timeout})


def http(url: str, *, timeout: float = 10, limit: int = 65_536) -> Op:
    """GETs a URL from the node: `status`, and `body` (base64) up to `limit` bytes."""
    return Op("http", {"url": url, "timeout": timeout, "limit": limit})


def clock() -> Op:
    """The node's time `now` and when it was started, `boot`."""
    return Op("clock", {})


def touch(path: str) -> Op:
    """Sets a file's last-write time to now."""
    return Op("touch", {"path": path})


def run(program: str, args: Sequence[str] = (), *, deadline: float = 60) -> Op:
    """Runs a program: `exit`, `stdout`, `stderr`; past `deadline` seconds its process tree is ended."""
    return Op("run", {"program": program, "args": list(args), "deadline": deadline})


class Reply(Mapping[str, Any]):
    """The result of one operation: its fields by name.

    Attributes:
        op: the operation it answers.
        ok: whether it was done.
        error: the agent's word for what went wrong, empty when `ok`.
        message: one line for people, empty when `ok`.
        path: the file concerned; may be empty.
    """

    __slots__ = ("_fields", "error", "message", "ok", "op", "path")

    def __init__(self, op: Op, result: Mapping[str, Any]) -> None:
        self.op = op
        self._fields = result
        self.ok = result.get("ok") is True
        self.error = "" if self.ok else str(result.get("error") or "failed")
        self.message = "" if self.ok else str(result.get("message") or "no reason given")
        self.path = str(result.get("path") or "")

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - JSON values
        """A field of the result.

        Raises:
            AgentFailed: the result has no such field.
        """
        try:
            return self._fields[key]
        except KeyError:
            why = self.message or f"the reply lacks {key!r}"
            raise AgentFailed(f"{self.op}: {why}", file=self.path, reason=self.error or "failed") from None

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON values
        """A field of the result, or the default where it has none."""
        return self._fields.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Reply({self.op}: {'ok' if self.ok else self.error})"


class _Said(Record):
    """What a node says; fields that nobody knows are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Drive(_Said):
    """A fixed drive of a node; `free` in bytes."""

    name: str
    free: NonNegativeInt


class Hello(_Said):
    """What a node says of itself first.

    Attributes:
        winrm: WinRM's quotas by the names of its configuration, as it writes them; empty when they cannot be read.
    """

    agent: int
    powershell: str
    edition: str
    language_mode: str
    clr: str
    os: str
    computer: str
    admin: bool
    code_page: int
    program_data: str
    system_drive: str
    drives: tuple[Drive, ...] = ()
    winrm: Mapping[str, str] = Field(default_factory=dict)

    def __str__(self) -> str:
        rights = "administrator" if self.admin else "no administrator"
        free = ", ".join(f"{drive.name} {drive.free // 2**20} MiB free when greeted" for drive in self.drives)
        quotas = ", ".join(f"{name} {self.winrm[name]}" for name in sorted(self.winrm))
        return (
            f"{self.computer}, {self.os}, PowerShell {self.powershell} {self.edition} {self.language_mode}, "
            f".NET {self.clr}, code page {self.code_page}, {rights}, {free}, WinRM {quotas or 'quotas not readable'}"
        )


def hello_of(reply: Reply) -> Hello:
    """A node's own words as a value.

    Raises:
        AgentFailed: a field is missing, or is of another type.
    """
    said = {name: value for name, value in reply.items() if value is not None}
    try:
        return Hello.model_validate(said)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise AgentFailed(f"the reply to {reply.op} has no usable {wrong}", reason=reply.error or "failed") from None


def data_of(reply: Reply, name: str = "data") -> bytes:
    """The bytes a reply carries.

    Raises:
        AgentFailed: it carries none, or they are not base64.
    """
    try:
        return base64.b64decode(reply[name], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise AgentFailed(f"{reply.op}: the bytes in the reply are not base64", file=reply.path) from None


def writer_of(reply: Reply) -> Writer:
    """The newest writer by the fence file that was read; number 0 of no run when there is none yet.

    Raises:
        AgentFailed: the file holds something else.
        NodeError: it cannot be read.
    """
    if reply.error == "not_found":
        return Writer(0)
    if not reply.ok:
        raise error_of(reply, "the fence file")
    text = data_of(reply).strip(b"\0\r\n ")
    match = _WRITER.fullmatch(text)
    if match is None or int(match[1]) > LARGEST_NUMBER:
        if not text:
            return Writer(0)
        raise AgentFailed("the fence file holds something else than a number", file=reply.path)
    return Writer(int(match[1]), (match[2] or b"").decode())


def time_of(text: str) -> datetime:
    """A time of the agent, UTC; digits beyond microseconds are cut.

    Raises:
        AgentFailed: it is no such time.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        raise AgentFailed(f"{text!r} is no time of the agent") from None


def digest(data: bytes) -> str:
    """The hash the agent would give for these bytes: SHA-256, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def error_of(reply: Reply, node: str) -> NodeError:
    """The failure of an operation as an error of ours."""
    make, remedy = _ERRORS.get(reply.error, (_failed(reply.error), ""))
    return make(f"{node}: {reply.op}: {reply.message}", remedy=remedy, file=reply.path)


def _failed(reason: str) -> Callable[..., NodeError]:
    def make(message: str, *, remedy: str, file: str) -> NodeError:
        return AgentFailed(message, remedy=remedy, file=file, reason=reason)

    return make


_ERRORS: Mapping[str, tuple[Callable[..., NodeError], str]] = {
    "conflict": (Conflict, "the step looks again; if it comes back, find out what else writes this file"),
    # A file is held for moments by scanners and editors, and nothing was written: the same way out as a conflict.
    "busy": (Conflict, "close the program that holds the file open, then retry"),
    "access_denied": (
        AccessDenied,
        "take the read-only attribute off the file, or give the account the right, then retry",
    ),
    "timeout": (DeadlineExceeded, ""),
}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
