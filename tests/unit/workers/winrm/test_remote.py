"""The channel over WinRM: shells, commands and their limits, over a transport in this process."""

import logging
from dataclasses import dataclass, field

import pytest
from winrm.exceptions import WinRMOperationTimeoutError

from lab.winrm.wsman import (
    Chunk as Piece,
)
from lab.winrm.wsman import Message, command_response, create_response, empty_response, read, receive_response
from tests.unit.workers.winrm.clocks import Clock, clock_in
from workers.errors import DeadlineExceeded, NodeRefused, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import remote
from workers.winrm.channel import Chunk, Counters, Limit
from workers.winrm.remote import WinRMChannel

AT = Endpoint(node="S1", host="h", user="u", secret="env:X")


@dataclass
class FakeTransport:
    """Answers messages of WinRM as a node does.

    Attributes:
        errors: raised instead of an answer, by action. shells, commands: the names it gives. output: of the command.
        messages: what was sent. allowed: the seconds for each answer, with the limit's.
    """

    errors: dict[str, Exception] = field(default_factory=dict)
    shell: str = "SHELL"
    command: str = "COMMAND"
    output: list[Piece] = field(default_factory=list)
    status: int | None = None
    messages: list[Message] = field(default_factory=list)
    allowed: list[tuple[str, float, float]] = field(default_factory=list)
    closed: int = 0
    round_trips: int = 7
    bytes_sent: int = 8
    bytes_received: int = 9
    _seconds: tuple[float, float] = (0, 0)

    def allow(self, limit: Limit, seconds: float) -> None:
        """Keeps the limits for the next message."""
        self._seconds = (limit.left, seconds)

    def send_message(self, text: str) -> bytes:
        """One answer."""
        message = read(text.encode())
        action = message.action.rpartition("/")[2]
        self.messages.append(message)
        self.allowed.append((action, message.timeout, self._seconds[1]))
        if action in self.errors:
            raise self.errors[action]
        if action == "Create":
            return create_response(message, self.shell, "u", 180)
        if action == "Command":
            return command_response(message, self.command)
        if action == "Receive":
            return receive_response(message, self.command, self.output, self.status)
        return empty_response(message)

    def close_session(self) -> None:
        """Counts the call."""
        self.closed += 1

    @property
    def actions(self) -> list[str]:
        """The actions in order."""
        return [action for action, _, _ in self.allowed]


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> FakeTransport:
    """The transport of the next channel."""
    found = FakeTransport()
    monkeypatch.setattr(
        remote, "HttpsTransport", lambda at, secret, _gate: found if (at, secret.reveal()) == (AT, "s") else None
    )
    return found


@pytest.fixture
def channel(transport: FakeTransport) -> WinRMChannel:
    """A channel over it."""
    assert transport is not None
    return WinRMChannel(AT, Secret("s"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the limits."""
    return clock_in(monkeypatch, "channel")


def limit(seconds: float = 100) -> Limit:
    """A limit from now."""
    return Limit("S1", seconds)


def test_the_first_command_opens_a_shell_and_the_next_one_uses_it(
    channel: WinRMChannel, transport: FakeTransport
) -> None:
    """In UTF-8, with the user's profile, and an idle timeout that ends a forgotten shell."""
    channel.start("powershell.exe -X", limit())
    channel.start("powershell.exe -Y", limit())
    create, first, second = transport.messages
    assert ["Create", "Command", "Command"] == transport.actions
    assert ("65001", "FALSE") == (create.options["WINRS_CODEPAGE"], create.options["WINRS_NOPROFILE"].upper())
    assert (900, 180) == (create.idle_timeout(), channel.keeps_for)  # as asked, and as the node has granted
    assert ("powershell.exe -X", "SHELL") == (first.command_line()[0], first.shell)
    assert "powershell.exe -Y" == second.command_line()[0]
    assert ("FALSE", "FALSE") == (
        first.options["WINRS_CONSOLEMODE_STDIN"].upper(),
        first.options["WINRS_SKIP_CMD_SHELL"].upper(),
    )
    assert Counters(7, 2, 8, 9) == channel.counters


def test_a_shell_is_replaced_after_twelve_commands(channel: WinRMChannel, transport: FakeTransport) -> None:
    """WinRS never frees the slot of a command."""
    for _ in range(25):
        channel.start("x", limit())
    once = ["Create"] + ["Command"] * 12
    assert [*once, "Delete", *once, "Delete", "Create", "Command"] == transport.actions


@pytest.mark.parametrize(
    ("left", "promised", "waited"), [(1000, 60, 75), (60, 60, 75), (59.2, 60, 75), (58.1, 59, 74), (0.2, 1, 16)]
)
def test_the_node_has_whole_seconds_and_we_wait_longer(
    left: float, promised: float, waited: float, channel: WinRMChannel, transport: FakeTransport, clock: Clock
) -> None:
    """Sixty at most, and no more than the caller has left."""
    assert clock.now
    channel.start("x", limit(left))
    assert [("Create", promised, waited), ("Command", promised, waited)] == transport.allowed


def test_input_is_sent_and_its_end_marked(channel: WinRMChannel, transport: FakeTransport, clock: Clock) -> None:
    """A Send that times out on the node was accepted."""
    assert clock.now
    channel.start("x", limit())
    channel.send(b"one", limit())
    transport.errors["Send"] = WinRMOperationTimeoutError()
    channel.send(b"two", limit(), end=True)
    pieces = [message.inputs() for message in transport.messages[2:]]
    assert [[("COMMAND", b"one", False)], [("COMMAND", b"two", True)]] == [
        [(piece.command, piece.data, piece.end) for piece in one] for one in pieces
    ]
    assert [("Send", 60, 75)] == transport.allowed[-1:]


def test_output_arrives_with_the_exit_status_at_the_end(
    channel: WinRMChannel, transport: FakeTransport, clock: Clock
) -> None:
    """A Receive waits as long as the turn; its timeout is an empty chunk."""
    assert clock.now
    channel.start("x", limit())
    transport.output = [Piece("", "stdout", b"out"), Piece("", "stderr", b"err")]
    assert Chunk(b"out", b"err", None) == channel.receive(limit(), turn=3)
    assert [("Receive", 3, 18)] == transport.allowed[-1:]
    transport.output.clear()
    transport.status = 0
    assert Chunk(b"", b"", 0) == channel.receive(limit())
    assert [("Receive", 5, 20)] == transport.allowed[-1:]
    transport.errors["Receive"] = WinRMOperationTimeoutError()
    assert Chunk() == channel.receive(limit())


def test_a_stopped_command_is_signalled_once(channel: WinRMChannel, transport: FakeTransport, clock: Clock) -> None:
    """Within two seconds; the shell stays."""
    assert clock.now
    channel.stop()
    channel.start("x", limit())
    channel.stop()
    channel.stop()
    assert ["Create", "Command", "Signal"] == transport.actions
    assert [("Signal", 2, 2)] == transport.allowed[-1:]
    assert ("COMMAND", "terminate") == transport.messages[-1].signal()


def test_closing_ends_command_shell_and_connection_with_one_message(
    channel: WinRMChannel, transport: FakeTransport, clock: Clock
) -> None:
    """Without its shell a command ends. Also if the node does not answer; closing again only closes the connection."""
    assert clock.now
    channel.start("x", limit())
    transport.errors = {"Delete": ConnectionResetError()}
    channel.close()
    channel.close()
    assert ["Create", "Command", "Delete"] == transport.actions
    assert [("Delete", 2, 2)] == transport.allowed[-1:]
    assert ("SHELL", 2) == (transport.messages[-1].shell, transport.closed)


def test_an_error_before_the_shell_is_open_is_a_refusal_and_later_unclear(
    channel: WinRMChannel, transport: FakeTransport
) -> None:
    """One attempt each; the phase decides."""
    transport.errors = {"Create": KeyError("x")}
    with pytest.raises(NodeRefused):
        channel.start("x", limit())
    transport.errors = {"Create": WinRMOperationTimeoutError()}
    with pytest.raises(DeadlineExceeded):
        channel.start("x", limit())
    transport.errors = {"Command": KeyError("x"), "Send": KeyError("x"), "Receive": KeyError("x")}
    with pytest.raises(SessionLost):
        channel.start("x", limit())
    with pytest.raises(SessionLost):
        channel.send(b"", limit())
    with pytest.raises(SessionLost):
        channel.receive(limit())
    assert ["Create", "Create", "Create", "Command", "Send", "Receive"] == transport.actions
    assert 0 == channel.counters.shells


@pytest.mark.parametrize("name", ["", "a\x85b", "a\u200b", "x" * 201])
def test_an_invalid_name_of_a_shell_or_command_is_rejected(
    name: str, channel: WinRMChannel, transport: FakeTransport
) -> None:
    """It would be sent back to the node."""
    transport.shell = name
    with pytest.raises(NodeRefused, match=r"without a valid shell or command name|not WS-Management"):
        channel.start("x", limit())
    transport.shell, transport.command = "x" * 200, name
    with pytest.raises(SessionLost, match=r"without a valid shell or command name|not WS-Management"):
        channel.start("x", limit())
    transport.command = "y" * 200
    channel.start("x", limit())


@pytest.mark.parametrize(("level", "wanted"), [(logging.DEBUG, logging.WARNING), (logging.ERROR, logging.ERROR)])
@pytest.mark.usefixtures("transport")
def test_libraries_that_log_secrets_on_debug_are_silenced(level: int, wanted: int) -> None:
    """A higher level stays."""
    loggers = [logging.getLogger(name) for name in ("spnego", "winrm")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(level)
        WinRMChannel(AT, Secret("s"))
        assert [wanted, wanted] == [logger.level for logger in loggers]
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)
