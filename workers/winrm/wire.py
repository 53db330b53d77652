"""What travels between a session and the agent: command line, script line, requests, replies. No input or output.

docs/agent-protocol.md, version 1.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import cast

from workers.errors import SessionLost
from workers.texts import LIMIT, cleaned, cleaned_all, long_texts
from workers.winrm.decoding import decoded
from workers.winrm.operations import Guard, Op

__all__ = [
    "COMMAND_LIMIT",
    "ReplyReader",
    "agent_script",
    "command_line",
    "encoded_request",
    "json_line",
    "readable",
    "script_line",
]

VERSION = 1
COMMAND_LIMIT = 8191 - len("cmd.exe /c ")  #: characters; cmd.exe fails silently at a longer line
REPLY_LIMIT = 12 * 2**20  #: bytes of one reply, also uncompressed: twice the largest file that is read
PRINTED_LIMIT = 65_536  #: characters of the output of a program on the node
_POWERSHELL = "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand"
_PACKED_FROM = 8000  #: bytes of a request; the agent packs its replies from the same length
_GZIP = 16 + zlib.MAX_WBITS  #: selects the gzip format in zlib
_BLANK = b"\xef\xbb\xbf \t"  #: allowed before a reply
_REPLY = b'{"v":'  #: how both agents begin a reply; within a text the quotes would be escaped
_NOISE = 4096  #: bytes of other output that are kept for messages
_MARKS = (b",", b"[", b"{", b":")  #: one of these precedes every JSON value
_MEMBERS = 400_000  #: values in one reply; 10,000 folder entries have 100,000
_BYTES = frozenset({"data", "body"})  #: fields that contain bytes, in base64
_PRINTED = frozenset({"stdout", "stderr"})  #: fields that contain the output of a program
_TAGS = re.compile(r"<[^<>]*>|_x[0-9A-F]{4}_|#< CLIXML|\x1b\[[0-9;]*m")


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


def encoded_request(
    request_id: str,
    ops: Sequence[Op],
    *,
    keep_going: bool,
    guard: Guard | None = None,
    look: Sequence[Op] = (),
) -> bytes:
    """One request as one ASCII line; a large one is compressed. The guard is included only for changes of the node."""
    request: dict[str, object] = {"v": VERSION, "id": request_id, "gzip": True}
    if keep_going:
        request["keep_going"] = True
    content: dict[str, object] = {"ops": [op.as_json() for op in ops]}
    if look:
        content["look"] = [op.as_json() for op in look]
    if guard is not None and any(op.changes for op in ops):
        content["guard"] = guard.as_json()
    inner = json_line(content)
    if len(inner) >= _PACKED_FROM:
        packer = zlib.compressobj(1, wbits=_GZIP)
        packed = base64.b64encode(packer.compress(inner) + packer.flush())
        return json_line({**request, "packed": packed.decode("ascii")}) + b"\n"
    return json_line(request)[:-1] + b"," + inner[1:] + b"\n"


class ReplyReader:
    """Finds replies in the output of a node. Other lines, such as warnings of a profile, are skipped.

    A reply may follow other text on its line: what cmd.exe runs at each start (AutoRun) may print no line end.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0
        self._noise = b""

    @property
    def noise(self) -> bytes:
        """The end of what was printed since `clear` and is no reply."""
        return (self._noise + self._pending[-_NOISE:])[-_NOISE:]

    def clear(self) -> None:
        """Drops an incomplete line: the process that printed it has ended."""
        self._pending.clear()
        self._scanned = 0
        self._noise = b""

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
            self._noise = (self._noise + line[-_NOISE:] + b"\n")[-_NOISE:]
        self._scanned = len(self._pending)
        if self._scanned > REPLY_LIMIT:
            raise SessionLost(f"the node sent {self._scanned} bytes without a line end")
        return None


def _results(line: bytes, request_id: str) -> list[dict[str, object]] | None:
    """The results in the line if it is the reply to the request, else None."""
    text = line.lstrip(_BLANK)
    if not text.startswith(b"{"):
        text = text[max(text.rfind(_REPLY), 0) :]
    if not text.startswith(b"{"):
        return None
    try:
        reply = _parsed(text)
    except ValueError:
        return None
    if not isinstance(reply, dict) or reply.get("id") != request_id:
        return None
    if "gzip" in reply:
        text = _decompressed(reply["gzip"])
        results = _parsed_or_none(text)
    else:
        results = reply.get("results")
    if reply.get("v") != VERSION or not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise SessionLost("the agent on the node sent a reply that does not follow version 1 of the protocol")
    if long_texts(text.decode("ascii")) == _long_bytes(results):
        return results
    return [cleaned_all(result, _text) for result in results]


def _long_bytes(results: Sequence[Mapping[str, object]]) -> int:
    """How many long texts of the results are bytes in base64."""
    values = [result[name] for result in results for name in _BYTES if name in result]
    return sum(isinstance(value, str) and len(value) > LIMIT for value in values)


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


def _decompressed(compressed: object) -> bytes:
    """The JSON text of the results in a compressed reply; empty if it is damaged.

    Raises:
        SessionLost: it exceeds the limit.
    """
    try:
        decompressor = zlib.decompressobj(wbits=_GZIP)
        text = decompressor.decompress(base64.b64decode(str(compressed), validate=True), REPLY_LIMIT)
    except (ValueError, zlib.error):
        return b""
    if not decompressor.eof and len(text) >= REPLY_LIMIT:
        raise SessionLost(f"the node sent a reply of more than {REPLY_LIMIT} bytes")
    return text if decompressor.eof else b""


def _parsed_or_none(text: bytes) -> object:
    try:
        return _parsed(text)
    except ValueError:
        return None


def _text(name: str, value: str) -> str:
    """Base64 stays as it is, the output of a program keeps its lines; any other text becomes one line."""
    if name in _BYTES and value.isascii() and value.isprintable():
        return value
    if name not in _PRINTED:
        return cleaned(value)
    return "\n".join(cleaned(line) for line in value[:PRINTED_LIMIT].split("\n"))


def readable(printed: bytes, code_page: int = 0) -> str:
    """The end of what cmd.exe or PowerShell printed, as one short line for people.

    Args:
        printed: bytes of stdout or stderr.
        code_page: what the node reported; 0 if it has not answered yet.
    """
    text = _TAGS.sub(" ", decoded(printed, code_page))
    return " ".join(cleaned(text, 2 * len(text) + 1).split())[-300:]


def json_line(value: Mapping[str, object]) -> bytes:
    """A value as the agent reads it. Bytes become base64 only here, because it takes more memory than they do."""
    return json.dumps(value, separators=(",", ":"), default=_in_json).encode("ascii")


def _in_json(value: object) -> object:
    """What JSON has no form for: bytes, and mappings that are no dictionaries."""
    return dict(value) if isinstance(value, Mapping) else base64.b64encode(cast("bytes", value)).decode("ascii")
