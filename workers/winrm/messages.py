"""pywinrm's messages over our transport. All but that of the end of a command are built once and then filled in.

pywinrm builds each message as a tree of dictionaries and then as XML, which took as long as everything else that an
exchange costs. What is filled in is checked or escaped.
"""

import base64
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from typing_extensions import override
from winrm.protocol import Protocol as WinRMProtocol

from workers.winrm.answers import Answer, Unusable

__all__ = ["Answering", "Messages", "Sender"]

_SHELL, _COMMAND, _MESSAGE, _DATA = (
    "in-place-of-shell",
    "in-place-of-command",
    "in-place-of-message",
    b"in place of data",
)
_OK = 200
_ENVELOPE = re.compile(rb"<(?:[\w.-]+:)?Envelope[\s/>]")
_HEAD = 65_536  #: bytes of a message in which its headers are
_ID = re.compile(rb"MessageID[^<>]{0,1000}>\s*(?:uuid:)?([^<\s]*)")
_RELATED = re.compile(rb"RelatesTo[^<>]{0,1000}>\s*(?:uuid:)?([^<\s]*)")
_SECONDS = 1_000_001  #: in place of the operation timeout


class Sender(Protocol):
    """The part of a transport that pywinrm uses."""

    def send_message(self, message: str) -> bytes:
        """Sends a message and returns the answer."""


@dataclass(frozen=True, slots=True)
class Answering:
    """A sender whose answers are those to the messages: a proxy may send a page in place of one, or an earlier one."""

    sender: Sender

    def send_message(self, message: str) -> bytes:
        """Sends a message and returns the answer.

        Raises:
            Unusable: it is no message of WS-Management, or the answer to another one.
        """
        answer = self.sender.send_message(message)
        if not _ENVELOPE.search(answer):
            raise Unusable("sent an answer that is no message of WS-Management", Answer(_OK, answer))
        asked, related = _ID.search(message.encode()), _RELATED.search(answer, 0, _HEAD)
        if asked and related and asked[1].lower() != related[1].lower():
            raise Unusable("sent the answer to another message", Answer(_OK, answer))
        return answer


class Messages(WinRMProtocol):
    """The messages of one session. pywinrm's own transport is created, but never used.

    Attributes:
        came: the latest answer.
    """

    def __init__(self, transport: Sender) -> None:
        super().__init__("https://node/wsman", transport="certificate", cert_pem=__file__, cert_key_pem=__file__)
        self.transport = transport  # type: ignore[assignment]  # pywinrm declares its own
        self.came = b""

    @override
    def send_message(self, message: str) -> bytes:
        self.came = b""
        self.came = super().send_message(message)
        return self.came

    @override
    def open_shell(self, *more: Any, **options: Any) -> str:
        answer = self.send_message(_form("open_shell", *more, **options).filled(self.operation_timeout_sec))
        return _text_of(answer, lambda node: node.get("Name") == "ShellId")

    @override
    def run_command(self, shell_id: str, command: str, *more: Any, **options: Any) -> str:
        form = _form("run_command", _SHELL, command, *more, **options)
        answer = self.send_message(form.filled(self.operation_timeout_sec, shell_id))
        return _text_of(answer, lambda node: node.tag.endswith("CommandId"))

    @override
    def send_command_input(self, shell_id: str, command_id: str, stdin_input: str | bytes, end: bool = False) -> None:
        data = stdin_input.encode() if isinstance(stdin_input, str) else stdin_input
        form = _form("send_command_input", _SHELL, _COMMAND, _DATA, end=end)
        self.send_message(form.filled(self.operation_timeout_sec, shell_id, command_id, data))

    @override
    def close_shell(self, shell_id: str, close_session: bool = False) -> None:
        del close_session  # our transport ends its connection itself
        form = _form("close_shell", _SHELL, close_session=False)
        self.send_message(form.filled(self.operation_timeout_sec, shell_id))

    @override
    def get_command_output_raw(self, shell_id: str, command_id: str) -> tuple[bytes, bytes, int, bool]:
        form = _form("get_command_output_raw", _SHELL, _COMMAND)
        message = form.filled(self.operation_timeout_sec, shell_id, command_id)
        root = ET.fromstring(self.send_message(message))  # noqa: S314 - the transport has refused one with a DTD
        nodes = list(root.iter())
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for node in nodes:
            if node.tag.endswith("Stream") and node.get("CommandId", command_id).upper() != command_id.upper():
                raise Unusable("sent the output of another command")
            if node.tag.endswith("Stream") and node.text:
                streams.get(node.attrib["Name"], []).append(base64.b64decode(node.text.encode("ascii")))
        done = sum(node.get("State", "").endswith("CommandState/Done") for node in nodes) == 1
        status = int(next(node for node in nodes if node.tag.endswith("ExitCode")).text or -1) if done else -1
        return b"".join(streams["stdout"]), b"".join(streams["stderr"]), status, done


def _text_of(answer: bytes, wanted: Callable[[ET.Element], bool]) -> str:
    """The text of the first such element; raises StopIteration without one, as pywinrm does."""
    root = ET.fromstring(answer)  # noqa: S314 - the transport has refused one with a DTD
    return next(node for node in root.iter() if wanted(node)).text or ""


@dataclass(frozen=True, slots=True)
class _Form:
    """A message of pywinrm in two parts; the data goes between them."""

    before: str
    after: str = ""

    def filled(self, seconds: float, shell: str = "", command: str = "", data: bytes = b"") -> str:
        """The message."""
        places = (
            (_SHELL, escape(shell, {'"': "&quot;"})),
            (_COMMAND, escape(command, {'"': "&quot;"})),
            (_MESSAGE, str(uuid.uuid4())),
            (f"PT{_SECONDS}S", f"PT{int(seconds)}S"),
        )
        before = self.before
        for place, value in places:
            before = before.replace(place, value)
        return before + base64.b64encode(data).decode("ascii") + self.after


class _Written(Exception):
    """The message that pywinrm would send."""


class _Forms(WinRMProtocol):
    """Builds messages and sends none."""

    def __init__(self) -> None:
        super().__init__("https://node/wsman", transport="certificate", cert_pem=__file__, cert_key_pem=__file__)
        self.operation_timeout_sec = _SECONDS

    @override
    def build_wsman_header(
        self, action: str, resource_uri: str, shell_id: str | None = None, message_id: str | uuid.UUID | None = None
    ) -> dict[str, object]:
        return super().build_wsman_header(action, resource_uri, shell_id, message_id or _MESSAGE)

    @override
    def send_message(self, message: str) -> bytes:
        raise _Written(message)


@cache
def _form(method: str, *arguments: object, **options: object) -> _Form:
    """The form of the message that a method of pywinrm sends."""
    try:
        getattr(_Forms(), method)(*arguments, **options)
    except _Written as written:
        return _Form(*str(written).split(base64.b64encode(_DATA).decode("ascii")))
    raise AssertionError("unreachable: pywinrm sends a message")
