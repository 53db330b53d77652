"""The words on the wire between us and the agent: command line, script line, requests, replies. No input or output."""

import base64
import json
import re
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from workers.errors import SessionLost
from workers.texts import cleaned, cleaned_all
from workers.winrm.agent import Guard, Op

__all__ = ["COMMAND_LIMIT", "ReplyReader", "command_line", "encoded_request", "readable", "script_line"]

VERSION = 1
COMMAND_LIMIT = 8191 - len("cmd.exe /c ")  #: characters; cmd.exe takes no longer line, and fails silently
REPLY_LIMIT = 12 * 2**20  #: bytes of one reply, and of what it unpacks to: two of the largest files that are read
PRINTED_LIMIT = 65_536  #: characters of what a program on the node printed
_POWERSHELL = "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand"
_GZIP = 16 + zlib.MAX_WBITS  #: what zlib calls that format
_BLANK = b"\xef\xbb\xbf \t"  #: what may stand before a reply
_MARKS = (b",", b"[", b"{", b":")  #: no value of JSON is without one of them before it
_MEMBERS = 400_000  #: of those in one reply: 10,000 entries of a folder have 100,000
_BYTES = frozenset({"data", "body"})  #: fields that hold bytes, in base64
_PRINTED = frozenset({"stdout", "stderr"})  #: fields that hold what a program printed
_TAGS = re.compile(r"<[^>]*>|_x[0-9A-F]{4}_|#< CLIXML|\x1b\[[0-9;]*m")


@cache
def command_line(*, batch: bool = False) -> str:
    """What starts the agent on a node: PowerShell with a fixed bootstrap, nothing that varies and nothing secret.

    Raises:
        ValueError: the bootstrap has grown too long for cmd.exe.
    """
    bootstrap = _packaged("batch.ps1" if batch else "bootstrap.ps1")
    line = f"{_POWERSHELL} {base64.b64encode(bootstrap.encode('utf-16-le')).decode()}"
    if len(line) > COMMAND_LIMIT:
        raise ValueError(f"the bootstrap makes a command line of {len(line)} characters; cmd.exe takes {COMMAND_LIMIT}")
    return line


@cache
def script_line() -> bytes:
    """The first line of stdin: the agent itself."""
    return base64.b64encode(_packaged("agent.ps1").encode("ascii")) + b"\n"


def _packaged(name: str) -> str:
    """A script of the package without its comments and indentation, which no node needs to be sent."""
    lines = (line.strip() for line in (files("workers.winrm") / name).read_text("ascii").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def encoded_request(request_id: str, ops: Sequence[Op], *, keep_going: bool, guard: Guard | None = None) -> bytes:
    """One request as its line, ASCII. The guard goes along when there is something for it to guard."""
    request: dict[str, Any] = {"v": VERSION, "id": request_id, "gzip": True, "ops": [op.as_json() for op in ops]}
    if keep_going:
        request["keep_going"] = True
    if guard is not None and any(op.changes for op in ops):
        request["guard"] = guard.as_json()
    return json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"


class ReplyReader:
    """Finds the replies in what a node prints; anything else is noise and skipped."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0

    def clear(self) -> None:
        """Forgets a line that was begun: the process that printed it is gone."""
        self._pending.clear()
        self._scanned = 0

    def feed(self, data: bytes, request_id: str) -> list[dict[str, Any]] | None:
        """Takes output; gives the results of the request once its reply is complete, before that None.

        Texts in the results are cleaned: see `workers.texts`.

        Raises:
            SessionLost: a line without end, or a reply that is none, or one that is larger than any reply.
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
            raise SessionLost(f"the node printed {self._scanned} bytes without the end of a line")
        return None


def _results(line: bytes, request_id: str) -> list[dict[str, Any]] | None:
    """The results in a line, if it is the reply to that request."""
    if not line.lstrip(_BLANK).startswith(b"{"):
        return None
    try:
        reply = _parsed(line.lstrip(_BLANK))
    except ValueError:
        return None
    if not isinstance(reply, dict) or reply.get("id") != request_id:
        return None
    results = _unpacked(reply["gzip"]) if "gzip" in reply else reply.get("results")
    if reply.get("v") != VERSION or not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise SessionLost("the agent on the node answered in another version of the protocol")
    return [cleaned_all(result, _text) for result in results]


def _parsed(text: bytes) -> Any:  # noqa: ANN401 - JSON
    """JSON that is worth its memory.

    Raises:
        SessionLost: it would take far more memory than any reply: small things cost the most.
        ValueError: it is no JSON.
    """
    if sum(text.count(mark) for mark in _MARKS) > _MEMBERS:
        raise SessionLost("the node answered with far more values than any reply has")
    try:
        return json.loads(text.decode("ascii"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _unpacked(packed: object) -> object:
    """The results of a reply that came packed; nothing where they cannot be had, or are larger than any reply."""
    try:
        unpacking = zlib.decompressobj(wbits=_GZIP)
        text = unpacking.decompress(base64.b64decode(str(packed), validate=True), REPLY_LIMIT)
        return _parsed(text) if unpacking.eof else None
    except (ValueError, zlib.error):
        return None


def _text(name: str, value: str) -> str:
    """Bytes in base64 stay whole, what a program printed keeps its lines; every other text is one line."""
    if name in _BYTES and value.isascii() and value.isprintable():
        return value
    if name not in _PRINTED:
        return cleaned(value)
    return "\n".join(cleaned(line) for line in value[:PRINTED_LIMIT].split("\n"))


def readable(stderr: bytes) -> str:
    """The end of what PowerShell says on stderr, as one short line for people."""
    text = _TAGS.sub(" ", stderr.decode("utf-8", "replace"))
    return " ".join(cleaned(text, 2 * len(text) + 1).split())[-300:]
