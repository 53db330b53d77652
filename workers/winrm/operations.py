"""The agent's operations and results as values (docs/agent-protocol.md, version 1). No input or output.

from workers.winrm import operations as ops
config, clock = session.ask([ops.read(path), ops.clock()], deadline=60)
ops.data_of(config), ops.time_of(clock["now"])
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast

from workers.errors import AccessDenied, AgentFailed, Conflict, DeadlineExceeded, NodeError
from workers.winrm.file_sets import FileSet
from workers.winrm.service_errors import service_remedy

__all__ = [
    "ABSENT",
    "ANY",
    "Guard",
    "Op",
    "Reply",
    "access",
    "clock",
    "data_of",
    "digest",
    "error_of",
    "hash_of",
    "hello",
    "http",
    "list_folder",
    "mkdir",
    "outdating",
    "read",
    "registry",
    "remove",
    "resolve",
    "run",
    "service",
    "spread",
    "start",
    "stat",
    "tcp",
    "time_of",
    "touch",
    "version",
    "write",
]

ABSENT = "absent"  #: `write` only if there is no file
ANY = "any"  #: `write` or `remove` any current content

_CHANGING = frozenset({"write", "spread", "mkdir", "remove", "touch"})
#: Operations that errors for people name otherwise.
_SPOKEN = {"mkdir": "make the folder", "spread": "copy files to", "stat": "look at"}
READ_LIMIT = 4_194_304
LIST_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a request. Its fields may be secret, so only name and target are shown."""

    name: str
    fields: Mapping[str, object] = field(repr=False)
    remembered: bool = False  #: of `read`: see there

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
        if isinstance(data, bytes):
            return len(data)
        if isinstance(blobs, Mapping) and isinstance(files, Mapping):
            owners = self.fields.get("owners")
            each = len(owners) if isinstance(owners, Sequence) else 1
            return sum(len(blobs[blob]) for blob in files.values()) * each
        return 0

    def __str__(self) -> str:
        return f"{_SPOKEN.get(self.name, self.name)} {self.target}".rstrip()


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


def hello() -> Op:
    """Versions, language mode, administrator or not, drives."""
    return Op("hello", {})


def stat(path: str, *, hashes: bool = False, change_times: bool = False) -> Op:
    """Describes a file or folder: `exists`, `kind`, `size`, `mtime`, `readonly`; `hash` and `ctime` if requested."""
    return Op("stat", {"path": path, "hash": hashes, **({"ctime": True} if change_times else {})})


def list_folder(
    path: str,
    *,
    hashes: bool = False,
    change_times: bool = False,
    limit: int = LIST_LIMIT,
    file_set: FileSet | None = None,
) -> Op:
    """Lists a folder: `entries` sorted by name, `truncated` if there are more than `limit`; else as `stat`.

    With a `file_set`, the reply has `set` if the folder holds that set; its entries are then without those files.
    """
    more = {"ctime": True} if change_times else {}
    rule = {"set": file_set.as_json()} if file_set else {}
    return Op("list", {"path": path, "hash": hashes, "limit": limit, **more, **rule})


def read(path: str, *, limit: int = READ_LIMIT, remembered: bool = False) -> Op:
    """Reads a file: its bytes (`data_of`), `size`, `mtime` and `hash`. A file larger than `limit` bytes is an error.

    Args:
        path: the file.
        limit: in bytes.
        remembered: the session need not transfer the bytes again if it has seen this content of the file before.
    """
    return Op("read", {"path": path, "limit": limit}, remembered=remembered)


def hash_of(path: str) -> Op:
    """Computes the `hash` and `size` of a file."""
    return Op("hash", {"path": path})


def write(path: str, data: bytes, *, expect: str, backup: str | None = None) -> Op:
    """Replaces a file atomically if its hash is `expect` (or `ABSENT`, `ANY`); the old bytes go to folder `backup`."""
    return Op("write", {"path": path, "data": data, "expect": expect, "backup": backup})


def spread(
    folder: str,
    blobs: Mapping[str, bytes],
    files: Mapping[str, str],
    *,
    owners: Sequence[str] | None = None,
    backup: str | None = None,
) -> Op:
    """Writes a few blobs to many files of one folder and skips equal files: `changed` and `unchanged` are counts.

    Args:
        folder: an existing folder.
        blobs: id -> bytes.
        files: name -> id; with owners, the ending of a name -> id, and each owner gets one file of each ending.
        owners: the beginnings of the names.
        backup: folder for the old files.
    """
    more = {} if owners is None else {"owners": list(owners)}
    return Op("spread", {"folder": folder, "blobs": dict(blobs), "files": dict(files), "backup": backup, **more})


def mkdir(path: str, *, backup: str | None = None) -> Op:
    """Creates a folder and its parents."""
    return Op("mkdir", {"path": path, "backup": backup})


def remove(path: str, *, expect: str = ANY, backup: str | None = None) -> Op:
    """Removes a file if its hash is `expect` (or `ANY`), or an empty folder (`ANY`). A missing file is no error."""
    return Op("remove", {"path": path, "expect": expect, "backup": backup})


def outdating(op: Op, file: str, service_name: str) -> Op:
    """The same change of files, which first notes in the start record that the service's process has not loaded it.

    Args:
        op: `write`, `spread` or `remove`.
        file: the start record.
        service_name: the service that reads what is changed.
    """
    return replace(op, fields={**op.fields, "start_record": {"file": file, "service": service_name}})


def start(name: str, file: str, loaded: Mapping[str, str], *, deadline: float = 60) -> Op:
    """Starts a service as `service` does, and then notes in the start record what its process has loaded."""
    record = {"file": file, "loaded": dict(loaded)}
    return Op("service", {"name": name, "action": "start", "deadline": deadline, "start_record": record})


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


def resolve(host: str, *, timeout: float = 5) -> Op:
    """Looks up the `addresses` of a host name on the node; of an empty name, those of the node itself."""
    return Op("resolve", {"host": host, "timeout": timeout})


def http(url: str, *, timeout: float = 10, limit: int = 65_536) -> Op:
    """Sends a GET request (http or https) from the node: `status`, and `body` (base64) up to `limit` bytes."""
    return Op("http", {"url": url, "timeout": timeout, "limit": limit})


def clock() -> Op:
    """Reads the node's time `now` and its start time `boot`."""
    return Op("clock", {})


def touch(path: str) -> Op:
    """Sets the last-write time of a file to now."""
    return Op("touch", {"path": path})


def access(path: str, *, containing: str = "") -> Op:
    """Whether this account may write to a file, or create files in a folder: `exists`, `kind`, `writable` or None.

    Args:
        path: of a file or folder; where there is nothing, `nearest` is the folder that it would be created in.
        containing: asks also for the files of the folder with this in their names that it may not replace: `refused`
            (100 names at most) and `refused_count`.
    """
    return Op("access", {"path": path, **({"containing": containing} if containing else {})})


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


def data_of(reply: Reply, name: str = "data") -> bytes:
    """The bytes in a reply.

    Raises:
        AgentFailed: there are none, or they are not base64.
    """
    found = reply[name]
    try:
        return found if isinstance(found, bytes) else base64.b64decode(found, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise AgentFailed(f"{reply.op}: the bytes in the reply are not base64", file=reply.path) from None


def entries_of(reply: Reply, node: str) -> Sequence[Mapping[str, Any]]:
    """The entries of a folder; none if it does not exist.

    Raises:
        NodeError: it cannot be listed.
    """
    if reply.error == "not_found":
        return ()
    if not reply.ok:
        raise error_of(reply, node)
    return cast("Sequence[Mapping[str, Any]]", reply["entries"])


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
    named = str(reply.op) in reply.message  # a message about a service says which one
    message = f"{node}: {reply.message}" if named else f"{node}: {reply.op}: {reply.message}"
    known = service_remedy(reply.get("code")) if reply.op.name == "service" else ""
    if reply.error not in _ERRORS:
        return AgentFailed(message, file=reply.path, reason=reply.error, remedy=known)
    kind, remedy = _ERRORS[reply.error]
    return kind(message, remedy=known or remedy, file=reply.path)


_ERRORS: Mapping[str, tuple[type[NodeError], str]] = {
    "conflict": (Conflict, "the step reads the file again; if this repeats, find out what else writes the file"),
    # Virus scanners and editors hold a file for a moment, and nothing was written: the same handling as a conflict.
    "busy": (Conflict, "close the program that holds the file open, then retry"),
    "access_denied": (AccessDenied, "remove the read-only attribute, or give the account the right, then retry"),
    "timeout": (DeadlineExceeded, ""),
}
