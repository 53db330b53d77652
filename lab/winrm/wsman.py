"""WS-Management for Windows Remote Shell: reads and writes messages. Pure: no socket, no clock.

Shapes and codes follow MS-WSMV, as far as pywinrm and pypsrp read them.
"""

import base64
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from xml.sax.saxutils import escape

from lxml import etree

__all__ = [
    "Action",
    "Chunk",
    "Fault",
    "Malformed",
    "Message",
    "command_response",
    "create_response",
    "empty_response",
    "fault_response",
    "read",
    "receive_response",
    "recorded",
]

_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_CMD = f"{_SHELL}/cmd"
_ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
_NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": _SHELL,
}
_S, _A, _W, _RSP = (f"{{{_NS[prefix]}}}" for prefix in ("s", "a", "w", "rsp"))
_DURATION = re.compile(r"^PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?$")
_DEFAULT_TIMEOUT = 60.0
_DEFAULT_ENVELOPE = 153_600


class Action(StrEnum):
    """The action of a message."""

    CREATE = f"{_TRANSFER}/Create"
    DELETE = f"{_TRANSFER}/Delete"
    COMMAND = f"{_SHELL}/Command"
    SEND = f"{_SHELL}/Send"
    RECEIVE = f"{_SHELL}/Receive"
    SIGNAL = f"{_SHELL}/Signal"


class Malformed(Exception):
    """The bytes are not a SOAP message."""


@dataclass(frozen=True, slots=True)
class _FaultKind:
    code: int
    subcode: str
    sender: bool = True


class Fault(Exception):
    """A fault as the answer. The class methods create it with the codes of wsmerror.h.

    Attributes:
        code: the `wsman_fault_code` of pywinrm.
        reason: one sentence.
    """

    def __init__(self, kind: _FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.code = kind.code
        self.subcode = kind.subcode
        self.sender = kind.sender
        self.reason = reason

    @classmethod
    def timed_out(cls) -> "Fault":
        """No output within the operation timeout."""
        reason = (
            "The WS-Management service cannot complete the operation within the time specified in OperationTimeout."
        )
        return cls(_FaultKind(2150858793, "w:TimedOut", sender=False), reason)

    @classmethod
    def unknown_shell(cls, shell: str) -> "Fault":
        """The shell does not exist."""
        reason = f"The request for the Windows Remote Shell with ShellId {shell} failed: the shell was not found."
        return cls(_FaultKind(2150858843, "w:InvalidSelectors"), reason)

    @classmethod
    def unknown_command(cls, command: str) -> "Fault":
        """The command does not exist in the shell."""
        return cls(_FaultKind(2150858843, "w:InvalidSelectors"), f"The command {command} was not found in the shell.")

    @classmethod
    def too_many_shells(cls, quota: int) -> "Fault":
        """The user's quota of open shells is used up."""
        reason = f"The maximum number of concurrent shells for this user ({quota}) has been exceeded."
        return cls(_FaultKind(2150859173, "w:QuotaLimit"), reason)

    @classmethod
    def too_many_operations(cls, quota: int) -> "Fault":
        """The shell's quota of operations is used up; only a new shell helps."""
        reason = f"This user is allowed a maximum number of {quota} concurrent operations, which has been exceeded."
        return cls(_FaultKind(2150859174, "w:QuotaLimit"), reason)

    @classmethod
    def too_many_processes(cls, quota: int) -> "Fault":
        """The shell has reached its maximum of running commands."""
        reason = f"The maximum number of processes per shell ({quota}) has been exceeded."
        return cls(_FaultKind(2150859241, "w:QuotaLimit"), reason)

    @classmethod
    def receive_in_progress(cls) -> "Fault":
        """Another Receive is waiting for the same command."""
        return cls(_FaultKind(2150859047, "w:Concurrency"), "A Receive is already in progress on this command.")

    @classmethod
    def access_denied(cls) -> "Fault":
        """Logged on, but not allowed."""
        return cls(_FaultKind(5, "w:AccessDenied"), "Access is denied.")

    @classmethod
    def shells_forbidden(cls) -> "Fault":
        """A policy forbids remote shells."""
        reason = "The WS-Management service cannot process the request because remote shell access is not allowed."
        return cls(_FaultKind(2150859180, "w:AccessDenied"), reason)

    @classmethod
    def invalid(cls, what: str) -> "Fault":
        """A part of the message is missing or invalid."""
        return cls(_FaultKind(87, "w:InvalidParameter"), f"The parameter is incorrect: {what}.")

    @classmethod
    def unsupported(cls, action: str) -> "Fault":
        """An unknown action."""
        return cls(_FaultKind(2150858753, "a:ActionNotSupported"), f"The action {action} is not supported.")

    @classmethod
    def too_large(cls, limit: int) -> "Fault":
        """The message is larger than MaxEnvelopeSizekb."""
        reason = f"The request is larger than the maximum envelope size of {limit} bytes."
        return cls(_FaultKind(2150858790, "w:EncodingLimit"), reason)


@dataclass(frozen=True, slots=True)
class Message:
    """A request. `timeout` is its operation timeout in seconds, `envelope` the largest answer it takes, in bytes."""

    action: str
    id: str
    shell: str
    timeout: float
    envelope: int
    body: etree._Element
    options: dict[str, str] = field(default_factory=dict)

    def flag(self, option: str) -> bool:
        """Whether an option is true."""
        return self.options.get(option, "").upper() == "TRUE"

    def _part(self, tag: str) -> etree._Element:
        part = self.body.find(f"{_RSP}{tag}")
        if part is None:
            raise Fault.invalid(f"the message has no {tag}")
        return part

    def command_line(self) -> tuple[str, tuple[str, ...]]:
        """Of a Command: the command and its arguments."""
        part = self._part("CommandLine")
        command = part.findtext(f"{_RSP}Command") or ""
        if not command.strip():
            raise Fault.invalid("the command is empty")
        return command, tuple(item.text or "" for item in part.iterfind(f"{_RSP}Arguments"))

    def idle_timeout(self) -> float | None:
        """Of a Create: the requested idle timeout in seconds."""
        text = self._part("Shell").findtext(f"{_RSP}IdleTimeOut")
        return _seconds(text) if text else None

    def inputs(self) -> list["Chunk"]:
        """Of a Send: the chunks of input, in order."""
        return [_chunk(item) for item in self._part("Send").iterfind(f"{_RSP}Stream")]

    def received_command(self) -> str:
        """Of a Receive: the id of the command."""
        stream = self._part("Receive").find(f"{_RSP}DesiredStream")
        return stream.get("CommandId", "") if stream is not None else ""

    def signal(self) -> tuple[str, str]:
        """Of a Signal: the id of the command, and the last part of the code (`terminate`, `ctrl_c`)."""
        part = self._part("Signal")
        return part.get("CommandId", ""), (part.findtext(f"{_RSP}Code") or "").rpartition("/")[2].lower()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a stream. `end` marks the last one."""

    command: str
    stream: str
    data: bytes
    end: bool = False


def _chunk(item: etree._Element) -> Chunk:
    try:
        data = base64.b64decode(item.text or "", validate=True)
    except ValueError:
        raise Fault.invalid("a stream is not base64") from None
    return Chunk(item.get("CommandId", ""), item.get("Name", ""), data, item.get("End", "").lower() == "true")


# One parser is shared: the server has one thread. Entities, DTDs and the network stay off.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)


def read(data: bytes) -> Message:
    """Reads a request.

    Raises:
        Malformed: not a SOAP envelope with an action and a message id.
    """
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        raise Malformed(str(error)) from None
    header, body = root.find(f"{_S}Header"), root.find(f"{_S}Body")
    if header is None or body is None or root.getroottree().docinfo.doctype:
        raise Malformed("no header or no body, or a document type")
    action, message_id = header.findtext(f"{_A}Action"), header.findtext(f"{_A}MessageID")
    if not action or not message_id:
        raise Malformed("no action or no message id")
    return Message(
        action=action.strip(),
        id=message_id.strip(),
        shell=_shell_of(header),
        timeout=_seconds(header.findtext(f"{_W}OperationTimeout") or "") or _DEFAULT_TIMEOUT,
        envelope=int(header.findtext(f"{_W}MaxEnvelopeSize") or _DEFAULT_ENVELOPE),
        body=body,
        options={
            item.get("Name", "").upper(): item.text or "" for item in header.iterfind(f"{_W}OptionSet/{_W}Option")
        },
    )


def recorded(message: Message) -> dict[str, object]:
    """A request as JSON, from which another client can make it again. Ids are those of the first conversation."""
    said: dict[str, object] = {"action": message.action.rpartition("/")[2], "shell": message.shell}
    said["envelope"], said["command"] = message.envelope, ""
    match message.action:
        case Action.CREATE:
            said["options"] = message.options
        case Action.COMMAND:
            said["line"], said["arguments"] = message.command_line()
            said["skip"] = message.flag("WINRS_SKIP_CMD_SHELL")
        case Action.SEND:
            chunks = message.inputs()
            said["command"] = chunks[0].command if chunks else ""
            said["data"] = base64.b64encode(b"".join(chunk.data for chunk in chunks)).decode()
            said["end"] = any(chunk.end for chunk in chunks)
        case Action.RECEIVE:
            said["command"] = message.received_command()
        case Action.SIGNAL:
            said["command"], said["code"] = message.signal()
    return said


def _shell_of(header: etree._Element) -> str:
    for selector in header.iterfind(f"{_W}SelectorSet/{_W}Selector"):
        if selector.get("Name", "").lower() == "shellid":
            return (selector.text or "").strip().upper()
    return ""


def _seconds(text: str) -> float:
    """The seconds of an xs:duration with hours, minutes and seconds; 0 for any other text."""
    found = _DURATION.match(text.strip())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds


# -- answers ---------------------------------------------------------------------------------------------------


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    return (
        f'<s:Envelope xml:lang="en-US" xmlns:s="{_NS["s"]}" xmlns:a="{_NS["a"]}" xmlns:x="{_TRANSFER}" '
        f'xmlns:w="{_NS["w"]}" xmlns:rsp="{_SHELL}"><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{_ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def create_response(message: Message, shell: str, owner: str, idle_seconds: float) -> bytes:
    """The answer to Create."""
    body = (
        f"<x:ResourceCreated><a:Address>{_ANONYMOUS}</a:Address><a:ReferenceParameters>"
        f'<w:ResourceURI>{_CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector>'
        f"</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId>"
        f"<rsp:ResourceUri>{_CMD}</rsp:ResourceUri><rsp:Owner>{escape(owner)}</rsp:Owner>"
        f"<rsp:IdleTimeOut>PT{idle_seconds:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>"
        "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
    )
    return _envelope(f"{Action.CREATE.value}Response", message.id, body)


def command_response(message: Message, command: str) -> bytes:
    """The answer to Command."""
    body = f"<rsp:CommandResponse><rsp:CommandId>{command}</rsp:CommandId></rsp:CommandResponse>"
    return _envelope(f"{Action.COMMAND.value}Response", message.id, body)


def receive_response(message: Message, command: str, chunks: Iterable[Chunk], exit_code: int | None) -> bytes:
    """The answer to Receive: output, and the exit code once the command has ended and all output was sent."""
    parts = [
        f'<rsp:Stream Name="{c.stream}" CommandId="{command}">{base64.b64encode(c.data).decode()}</rsp:Stream>'
        for c in chunks
    ]
    state = f'<rsp:CommandState CommandId="{command}" State="{_SHELL}/CommandState/'
    if exit_code is None:
        parts.append(f'{state}Running"/>')
    else:
        parts += [f'<rsp:Stream Name="{name}" CommandId="{command}" End="true"/>' for name in ("stdout", "stderr")]
        parts.append(f'{state}Done"><rsp:ExitCode>{exit_code}</rsp:ExitCode></rsp:CommandState>')
    body = f"<rsp:ReceiveResponse>{''.join(parts)}</rsp:ReceiveResponse>"
    return _envelope(f"{Action.RECEIVE.value}Response", message.id, body)


def empty_response(message: Message) -> bytes:
    """The answer to Send, Signal and Delete."""
    bodies = {Action.SEND.value: "<rsp:SendResponse/>", Action.SIGNAL.value: "<rsp:SignalResponse/>"}
    return _envelope(f"{message.action}Response", message.id, bodies.get(message.action, ""))


def fault_response(relates_to: str, fault: Fault, machine: str) -> bytes:
    """A fault, to be sent with HTTP status 500."""
    reason = escape(fault.reason)
    body = (
        f"<s:Fault><s:Code><s:Value>s:{'Sender' if fault.sender else 'Receiver'}</s:Value><s:Subcode>"
        f"<s:Value>{fault.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{reason}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{fault.code}" '
        f'Machine="{escape(machine)}"><f:Message>{reason}</f:Message></f:WSManFault></s:Detail></s:Fault>'
    )
    return _envelope("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", relates_to, body)
