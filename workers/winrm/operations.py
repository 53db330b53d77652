"""The agent's operations and results as values (docs/agent-protocol.md, version 1). No input or output.

from workers.winrm import operations as ops
config, clock = session.ask([ops.read(path), ops.clock()], deadline=60)
ops.data_of(config), ops.time_of(clock["now"])
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
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

ABSENT = "absent"  #: `write` only if there is no file
ANY = "any"  #: `write` or `remove` any current content

_CHANGING = frozenset({"write", "spread", "mkdir", "remove", "touch"})
LARGEST_NUMBER = 2**63 - 1  #: largest number in a fence file
_WRITER = re.compile(rb"([0-9]{1,20})(?: [0-9]{1,10} ([A-Za-z0-9._-]{1,64}))?")
READ_LIMIT = 4_194_304
LIST_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a request. Its fields may be secret, so only name and target are shown."""

    name: str
    fields: Mapping[str, object] = field(repr=False)

    def as_json(self) -> dict[str, object]:
        """The operation in a request."""
        return {"op": self.name, **self.fields}

    @property
    def target(self) -> str:
        """The path, service, host or URL of the operation; empty if it concerns the node itself."""
        for key in ("path", "folder", "name", "url", "host", "program"):
            if key in self.fields:
                return str(self.fields[key])
        return ""

    @property
    def changes(self) -> bool:
        """Whether the guard applies: it changes files or services. `run` is the responsibility of the caller."""
        return self.name in _CHANGING or (self.name == "service" and self.fields.get("action", "query") != "query")

    @property
    def size(self) -> int:
        """How many bytes it writes to the disk at most, without backups; 0 if it writes no file."""
        data, blobs, files = (self.fields.get(name) for name in ("data", "blobs", "files"))
        if isinstance(data, str):
            return len(data) * 3 // 4  # base64
        if isinstance(blobs, Mapping) and isinstance(files, Mapping):
            return sum(len(blobs[blob]) * 3 // 4 for blob in files.values())
        return 0

    def __str__(self) -> str:
        return f"{self.name} {self.target}".rstrip()


@dataclass(frozen=True, slots=True)
class Guard:
    """The conditions that the node checks before an operation changes it.

    Attributes:
        fence: the number of this writer's run on the node. If the node has seen a larger number, or this number from
            another run, nothing changes and the result is a conflict.
        file: the file on the node that names the newest writer; its folder is created if missing.
        folders: changes are allowed in these folders and below, and not through a junction below them.
        run: this writer's run; empty for a writer without a run.
        claim: of that run on the node; the latest claim wins.
    """

    fence: int
    file: str
    folders: tuple[str, ...]
    run: str = ""
    claim: int = 0

    def as_json(self) -> dict[str, object]:
        """The guard in a request."""
        who = {"run": self.run, "claim": self.claim} if self.run else {}
        return {"fence": {"file": self.file, "number": self.fence, **who}, "folders": list(self.folders)}


@dataclass(frozen=True, slots=True)
class Writer:
    """The newest writer that a node has seen: number and run. The run is empty if an older agent wrote the file."""

    number: int
    run: str = ""


def hello() -> Op:
    """Versions, language mode, administrator or not, drives."""
    return Op("hello", {})


def stat(path: str, *, hashes: bool = False) -> Op:
    """Describes a file or folder: `exists`, `kind`, `size`, `mtime`, `readonly`, and `hash` if requested."""
    return Op("stat", {"path": path, "hash": hashes})


def list_folder(path: str, *, hashes: bool = False, limit: int = LIST_LIMIT) -> Op:
    """Lists a folder: `entries` sorted by name, `truncated` if there are more than `limit`."""
    return Op("list", {"path": path, "hash": hashes, "limit": limit})


def read(path: str, *, limit: int = READ_LIMIT) -> Op:
    """Reads a file: its bytes (`data_of`), `size`, `mtime` and `hash`. A file larger than `limit` bytes is an error."""
    return Op("read", {"path": path, "limit": limit})


def hash_of(path: str) -> Op:
    """Computes the `hash` and `size` of a file."""
    return Op("hash", {"path": path})


def write(path: str, data: bytes, *, expect: str, backup: str | None = None) -> Op:
    """Replaces a file atomically if its hash is `expect` (or `ABSENT`, `ANY`); the old bytes go to folder `backup`."""
    return Op("write", {"path": path, "data": _base64(data), "expect": expect, "backup": backup})


def spread(folder: str, blobs: Mapping[str, bytes], files: Mapping[str, str], *, backup: str | None = None) -> Op:
    """Writes a few blobs to many files of one folder (`files`: name -> blob) and skips equal files."""
    encoded = {name: _base64(data) for name, data in blobs.items()}
    return Op("spread", {"folder": folder, "blobs": encoded, "files": dict(files), "backup": backup})


def mkdir(path: str, *, backup: str | None = None) -> Op:
    """Creates a folder and its parents."""
    return Op("mkdir", {"path": path, "backup": backup})


def remove(path: str, *, expect: str = ANY, backup: str | None = None) -> Op:
    """Removes a file if its hash is `expect` (or `ANY`), or an empty folder (`ANY`). A missing file is no error."""
    return Op("remove", {"path": path, "expect": expect, "backup": backup})


def service(name: str, *, action: Literal["query", "stop", "start"] = "query", deadline: float = 60) -> Op:
    """Queries, stops or starts a Windows service; stop and start wait up to `deadline` seconds."""
    return Op("service", {"name": name, "action": action, "deadline": deadline})


def version(path: str) -> Op:
    """Reads the file `version`, `size` and `hash` of a binary."""
    return Op("version", {"path": path})


def registry(key: str, name: str) -> Op:
    r"""Reads one registry value as text; `key` is for example `HKLM\SYSTEM\...`."""
    return Op("registry", {"key": key, "name": name})


def tcp(host: str, port: int, *, timeout: float = 5) -> Op:
    """Tests whether the node can connect to host:port within `timeout` seconds."""
    return Op("tcp", {"host": host, "port": port, "timeout": timeout})


def http(url: str, *, timeout: float = 10, limit: int = 65_536) -> Op:
    """Sends a GET request from the node: `status`, and `body` (base64) up to `limit` bytes."""
    return Op("http", {"url": url, "timeout": timeout, "limit": limit})


def clock() -> Op:
    """Reads the node's time `now` and its start time `boot`."""
    return Op("clock", {})


def touch(path: str) -> Op:
    """Sets the last-write time of a file to now."""
    return Op("touch", {"path": path})


def run(program: str, args: Sequence[str] = (), *, deadline: float = 60) -> Op:
    """Runs a program: `exit`, `stdout`, `stderr`. After `deadline` seconds its process tree is stopped."""
    return Op("run", {"program": program, "args": list(args), "deadline": deadline})


class Reply(Mapping[str, Any]):
    """The result of one operation: its fields by name.

    Attributes:
        op: the operation.
        ok: whether it succeeded.
        error: the agent's error code, empty if `ok`.
        message: one line for people, empty if `ok`.
        path: the affected file; may be empty.
    """

    __slots__ = ("_fields", "error", "message", "ok", "op", "path")

    def __init__(self, op: Op, result: Mapping[str, Any]) -> None:
        self.op = op
        self._fields = result
        self.ok = result.get("ok") is True
        self.error = "" if self.ok else str(result.get("error") or "failed")
        self.message = "" if self.ok else str(result.get("message") or "no reason was given")
        self.path = str(result.get("path") or "")

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - JSON values
        """A field of the result.

        Raises:
            AgentFailed: the result has no such field.
        """
        try:
            return self._fields[key]
        except KeyError:
            why = self.message or f"the reply has no {key!r}"
            raise AgentFailed(f"{self.op}: {why}", file=self.path, reason=self.error or "failed") from None

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - JSON values
        """A field of the result, or the default if the result has no such field."""
        return self._fields.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Reply({self.op}: {'ok' if self.ok else self.error})"


class _Reported(Record):
    """What a node reports; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Drive(_Reported):
    """A fixed drive of a node; `free` in bytes."""

    name: str
    free: NonNegativeInt


class Hello(_Reported):
    """What a node reports about itself in its first answer.

    Attributes:
        winrm: WinRM's quotas by the names in its configuration; empty if they cannot be read.
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
        rights = "administrator" if self.admin else "not administrator"
        free = ", ".join(f"{drive.name} {drive.free // 2**20} MiB free at logon" for drive in self.drives)
        quotas = ", ".join(f"{name} {self.winrm[name]}" for name in sorted(self.winrm))
        return (
            f"{self.computer}, {self.os}, PowerShell {self.powershell} {self.edition} {self.language_mode}, "
            f".NET {self.clr}, code page {self.code_page}, {rights}, {free}, WinRM {quotas or 'quotas not readable'}"
        )


def hello_of(reply: Reply) -> Hello:
    """The report of a node about itself.

    Raises:
        AgentFailed: a field is missing or has the wrong type.
    """
    fields = {name: value for name, value in reply.items() if value is not None}
    try:
        return Hello.model_validate(fields)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise AgentFailed(f"the reply to {reply.op} has no valid {wrong}", reason=reply.error or "failed") from None


def data_of(reply: Reply, name: str = "data") -> bytes:
    """The bytes in a reply.

    Raises:
        AgentFailed: there are none, or they are not base64.
    """
    try:
        return base64.b64decode(reply[name], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise AgentFailed(f"{reply.op}: the bytes in the reply are not base64", file=reply.path) from None


def writer_of(reply: Reply) -> Writer:
    """The newest writer in the fence file that was read; number 0 without a run if there is none yet.

    Raises:
        AgentFailed: the file has other content.
        NodeError: the file cannot be read.
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
        raise AgentFailed("the fence file does not contain a fence number", file=reply.path)
    return Writer(int(match[1]), (match[2] or b"").decode())


def time_of(text: str) -> datetime:
    """A time from the agent, UTC; digits beyond microseconds are dropped.

    Raises:
        AgentFailed: the text is not a time.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        raise AgentFailed(f"{text!r} is not a time") from None


def digest(data: bytes) -> str:
    """The hash of the bytes as the agent computes it: SHA-256, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def error_of(reply: Reply, node: str) -> NodeError:
    """The failure of an operation as an error of `workers.errors`."""
    message = f"{node}: {reply.op}: {reply.message}"
    if reply.error not in _ERRORS:
        return AgentFailed(message, file=reply.path, reason=reply.error)
    kind, remedy = _ERRORS[reply.error]
    return kind(message, remedy=remedy, file=reply.path)


_ERRORS: Mapping[str, tuple[type[NodeError], str]] = {
    "conflict": (Conflict, "the step reads the file again; if this repeats, find out what else writes the file"),
    # Virus scanners and editors hold a file for a moment, and nothing was written: the same handling as a conflict.
    "busy": (Conflict, "close the program that holds the file open, then retry"),
    "access_denied": (AccessDenied, "remove the read-only attribute, or give the account the right, then retry"),
    "timeout": (DeadlineExceeded, ""),
}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
