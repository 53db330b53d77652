"""The channel over WinRM: pywinrm's messages over our transport, with explicit limits."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator

from winrm.exceptions import WinRMOperationTimeoutError

from workers.errors import EsyncError
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.answers import Unusable
from workers.winrm.channel import OPEN, TURN, Chunk, Counters, Gate, Limit
from workers.winrm.encodable import refuse_unencodable
from workers.winrm.faults import Phase, mapped
from workers.winrm.messages import Answering, Messages
from workers.winrm.not_connected import NotConnected
from workers.winrm.probe import other_protocol
from workers.winrm.transport import HttpsTransport

__all__ = ["WinRMChannel"]

STARTING = 60  #: seconds for Create, Command and Send on a busy server
GRACE = 15  #: seconds that an answer may be late
CLOSING = 2.0  #: seconds to close everything; otherwise the idle timeout of the shell does it
#: Seconds without a message after which the node should end a shell; it may have a lower limit, and says so. A node of
#: a large cluster waits for minutes between two stages; what a killed worker leaves stays as long.
IDLE = 900
_IDLE = re.compile(rb"IdleTimeOut>PT(\d{1,9})(?:\.\d*)?S<")
_UNKNOWN_IDLE = 180.0  #: what a node is taken to allow if it does not say: the default of WinRM 2.0
COMMANDS_PER_SHELL = 12  #: WinRS never frees a slot; the smallest known quota is 15
CODE_PAGE_UTF8 = 65001
_LONGEST_NAME = 200


def _silence() -> None:
    """Raises the log level of libraries that log tokens and bodies at level `debug`."""
    for name in ("spnego", "winrm"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)


def _identifier(text: object) -> str:
    """The checked name of a shell or command. We send it back to the node, so it must be a valid name."""
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_NAME or not text.isprintable():
        raise Unusable("sent an answer without a valid shell or command name")
    return text


class WinRMChannel:
    """One WinRM shell on one node. Not for two threads at a time.

    Args:
        endpoint: the node.
        secret: the password; with transport `certificate` a PEM of certificate and key.
        gate: of the first logon.

    Raises:
        InputRefused: the endpoint cannot be used: a missing CA file, an invalid certificate, a user or password that
            the logon method cannot send.
    """

    def __init__(self, endpoint: Endpoint, secret: Secret, gate: Gate = OPEN) -> None:
        _silence()
        refuse_unencodable(endpoint, secret)
        self._endpoint = endpoint
        self._shells = 0
        self._shell = ""
        self._command = ""
        self._commands = 0
        self.keeps_for = _UNKNOWN_IDLE
        self._transport = HttpsTransport(endpoint, secret, gate)
        self._winrm = Messages(Answering(self._transport))

    @property
    def counters(self) -> Counters:
        """The cost so far."""
        seen = self._transport
        return Counters(seen.round_trips, self._shells, seen.bytes_sent, seen.bytes_received)

    def start(self, command: str, limit: Limit) -> None:
        """Starts the command line, in a new shell if none is open."""
        if self._commands >= COMMANDS_PER_SHELL:
            self._delete_shell(limit)
        if not self._shell:
            self._open_shell(limit)
        self._allow(limit, STARTING)
        with self._mapped("to start PowerShell"):
            self._commands += 1
            self._command = _identifier(
                self._winrm.run_command(self._shell, command, console_mode_stdin=False, skip_cmd_shell=False)
            )
        self._shells += 1

    def _open_shell(self, limit: Limit) -> None:
        """One attempt: the caller of the session retries by the policy of the run."""
        self._allow(limit, STARTING)
        with self._mapped("to open a shell", Phase.OPENING), self._told_apart(limit):
            self._shell = _identifier(
                self._winrm.open_shell(codepage=CODE_PAGE_UTF8, noprofile=False, idle_timeout=f"PT{IDLE}S")
            )
            said = _IDLE.search(self._winrm.came)
        self.keeps_for = float(said[1]) if said else _UNKNOWN_IDLE
        self._commands = 0

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Sends input to the command."""
        self._allow(limit, STARTING)
        # The node accepts a Send even if it reports a timeout: the next Receive shows the result.
        with self._mapped("to take input"), contextlib.suppress(WinRMOperationTimeoutError):
            self._winrm.send_command_input(self._shell, self._command, data, end=end)

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Waits for output."""
        self._allow(limit, turn)
        with self._mapped("for output"):
            try:
                found = self._winrm.get_command_output_raw(self._shell, self._command)
            except WinRMOperationTimeoutError:
                return Chunk()
        stdout, stderr, status, done = found
        return Chunk(stdout, stderr, status if done else None)

    def stop(self) -> None:
        """Signals the command to end."""
        self._end_command(Limit(self._endpoint.node, CLOSING))

    def close(self) -> None:
        """Deletes the shell, which ends its command (MS-WSMV 3.1.4.4), and closes the connection."""
        self._delete_shell(Limit(self._endpoint.node, CLOSING))
        self._command = ""
        self._transport.close_session()

    def _end_command(self, limit: Limit) -> None:
        if not self._command:
            return
        self._allow(limit, CLOSING, grace=0)
        with contextlib.suppress(EsyncError), self._mapped("to end PowerShell"):
            self._winrm.cleanup_command(self._shell, self._command)
        self._command = ""

    def _delete_shell(self, limit: Limit) -> None:
        if not self._shell:
            return
        self._allow(limit, CLOSING, grace=0)
        with contextlib.suppress(EsyncError), self._mapped("to close the shell"):
            self._winrm.close_shell(self._shell, close_session=False)
        self._shell = ""

    @contextlib.contextmanager
    def _mapped(self, what: str, phase: Phase = Phase.TALKING) -> Iterator[None]:
        with mapped(self._endpoint, phase, what, lambda: self._winrm.came):
            yield
        self._winrm.came = b""  # understood: it is as large as what the node has said

    @contextlib.contextmanager
    def _told_apart(self, limit: Limit) -> Iterator[None]:
        """After a failed TLS handshake: tells which other protocol the port speaks."""
        try:
            yield
        except NotConnected as error:
            other = other_protocol(self._endpoint, limit, error.reason) if error.tls else None
            raise other or error from error.reason

    def _allow(self, limit: Limit, seconds: float, grace: float = GRACE) -> None:
        """Sets the node's operation timeout, in whole seconds; we wait a little longer than that."""
        timeout = max(1, math.ceil(min(seconds, limit.left)))
        self._winrm.operation_timeout_sec = timeout
        self._transport.allow(limit, timeout + grace)
