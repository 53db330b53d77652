"""What travels between a session and the agent: command line, script line, requests, replies. No input or output.

docs/agent-protocol.md, version 1.
"""

import base64
import json
import re
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from workers.errors import SessionLost
from workers.texts import cleaned, cleaned_all
from workers.winrm.operations import Guard, Op

__all__ = [
    "COMMAND_LIMIT",
    "ReplyReader",
    "agent_script",
    "command_line",
    "encoded_request",
    "readable",
    "script_line",
]

VERSION = 1
COMMAND_LIMIT = 8191 - len("cmd.exe /c ")  #: characters; cmd.exe fails silently at a longer line
REPLY_LIMIT = 12 * 2**20  #: bytes of one reply, also uncompressed: twice the largest file that is read
PRINTED_LIMIT = 65_536  #: characters of the output of a program on the node
_POWERSHELL = "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand"
_GZIP = 16 + zlib.MAX_WBITS  #: selects the gzip format in zlib
_BLANK = b"\xef\xbb\xbf \t"  #: allowed before a reply
_MARKS = (b",", b"[", b"{", b":")  #: one of these precedes every JSON value
_MEMBERS = 400_000  #: values in one reply; 10,000 folder entries have 100,000
_BYTES = frozenset({"data", "body"})  #: fields that contain bytes, in base64
_PRINTED = frozenset({"stdout", "stderr"})  #: fields that contain the output of a program
_TAGS = re.compile(r"<[^>]*>|_x[0-9A-F]{4}_|#< CLIXML|\x1b\[[0-9;]*m")


@cache
def command_line(*, batch: bool = False) -> str:
    """The command that starts the agent on a node: PowerShell with a fixed bootstrap. It contains no secret.

    Raises:
        ValueError: the bootstrap is too long for cmd.exe.
    """
    bootstrap = _stripped(files("workers.winrm") / ("batch.ps1" if batch else "bootstrap.ps1"))
    line = f"{_POWERSHELL} {base64.b64encode(bootstrap.encode('utf-16-le')).decode()}"
    if len(line) > COMMAND_LIMIT:
        raise ValueError(f"the command line has {len(line)} characters; cmd.exe accepts {COMMAND_LIMIT}")
    return line


@cache
def agent_script() -> str:
    """The agent: the parts in `agent/`, joined in the order of their names."""
    parts = [part for part in (files("workers.winrm") / "agent").iterdir() if part.name.endswith(".ps1")]
    return "\n".join(_stripped(part) for part in sorted(parts, key=lambda part: part.name))


@cache
def script_line() -> bytes:
    """The first line of stdin: the agent, in base64."""
    return base64.b64encode(agent_script().encode("ascii")) + b"\n"


def _stripped(script: Traversable) -> str:
    """A script without comments and indentation, which a node does not need."""
    lines = (line.strip() for line in script.read_text("ascii").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def encoded_request(request_id: str, ops: Sequence[Op], *, keep_going: bool, guard: Guard | None = None) -> bytes:
    """One request as one ASCII line. The guard is included only if an operation changes the node."""
    request: dict[str, object] = {"v": VERSION, "id": request_id, "gzip": True, "ops": [op.as_json() for op in ops]}
    if keep_going:
        request["keep_going"] = True
    if guard is not None and any(op.changes for op in ops):
        request["guard"] = guard.as_json()
    return json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"


class ReplyReader:
    """Finds replies in the output of a node. Other lines, such as warnings of a profile, are skipped."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0

    def clear(self) -> None:
        """Drops an incomplete line: the process that printed it has ended."""
        self._pending.clear()
        self._scanned = 0

    def feed(self, data: bytes, request_id: str) -> list[dict[str, object]] | None:
        """Accepts output. Returns the results of the request once its reply is complete, until then None.

        Texts in the results are cleaned: see `workers.texts`.

        Raises:
            SessionLost: an endless line, an invalid reply, or a reply that exceeds the limits.
        """
        self._pending += data
        while (end := self._pending.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            self._scanned = 0
            results = _results(line, request_id)
            if results is not None:
                return results
        self._scanned = len(self._pending)
        if self._scanned > REPLY_LIMIT:
            raise SessionLost(f"the node sent {self._scanned} bytes without a line end")
        return None


def _results(line: bytes, request_id: str) -> list[dict[str, object]] | None:
    """The results in the line if it is the reply to the request, else None."""
    if not line.lstrip(_BLANK).startswith(b"{"):
        return None
    try:
        reply = _parsed(line.lstrip(_BLANK))
    except ValueError:
        return None
    if not isinstance(reply, dict) or reply.get("id") != request_id:
        return None
    results = _decompressed(reply["gzip"]) if "gzip" in reply else reply.get("results")
    if reply.get("v") != VERSION or not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise SessionLost("the agent on the node sent a reply that does not follow version 1 of the protocol")
    return [cleaned_all(result, _text) for result in results]


def _parsed(text: bytes) -> object:
    """Parses JSON within bounded memory.

    Raises:
        SessionLost: too many values. Small values cost the most memory for their size.
        ValueError: not JSON.
    """
    if sum(text.count(mark) for mark in _MARKS) > _MEMBERS:
        raise SessionLost("the node sent a reply with too many values")
    try:
        return json.loads(text.decode("ascii"), parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _decompressed(compressed: object) -> object:
    """The results of a compressed reply; None if they are damaged or exceed the limits."""
    try:
        decompressor = zlib.decompressobj(wbits=_GZIP)
        text = decompressor.decompress(base64.b64decode(str(compressed), validate=True), REPLY_LIMIT)
        return _parsed(text) if decompressor.eof else None
    except (ValueError, zlib.error):
        return None


def _text(name: str, value: str) -> str:
    """Base64 stays as it is, the output of a program keeps its lines; any other text becomes one line."""
    if name in _BYTES and value.isascii() and value.isprintable():
        return value
    if name not in _PRINTED:
        return cleaned(value)
    return "\n".join(cleaned(line) for line in value[:PRINTED_LIMIT].split("\n"))


def readable(stderr: bytes) -> str:
    """The end of the stderr of PowerShell, as one short line for people."""
    text = _TAGS.sub(" ", stderr.decode("utf-8", "replace"))
    return " ".join(cleaned(text, 2 * len(text) + 1).split())[-300:]
