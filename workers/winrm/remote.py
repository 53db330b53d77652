"""The channel over WinRM: pywinrm's messages over our transport, with explicit limits."""

import contextlib
import logging
import math

from winrm.exceptions import WinRMOperationTimeoutError
from winrm.protocol import Protocol as WinRMProtocol

from workers.errors import EsyncError
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.channel import TURN, Chunk, Counters, Limit
from workers.winrm.faults import Phase, mapped
from workers.winrm.transport import HttpsTransport, Unusable

__all__ = ["WinRMChannel"]

STARTING = 60  #: seconds for Create, Command and Send on a busy server
GRACE = 15  #: seconds that an answer may be late
CLOSING = 2.0  #: seconds to close everything; otherwise the idle timeout of the shell does it
IDLE = "PT180S"  #: idle time after which the node ends an abandoned shell
COMMANDS_PER_SHELL = 12  #: WinRS never frees a slot; the smallest known quota is 15
CODE_PAGE_UTF8 = 65001
_LONGEST_NAME = 200


def _silence() -> None:
    """Raises the log level of libraries that log tokens and bodies at level `debug`."""
    for name in ("spnego", "winrm"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))


class _Messages(WinRMProtocol):
    """pywinrm's messages over our transport. pywinrm's own transport is created, but never used."""

    def __init__(self, transport: HttpsTransport) -> None:
        super().__init__("https://node/wsman", transport="certificate", cert_pem=__file__, cert_key_pem=__file__)
        self.transport = transport  # type: ignore[assignment]  # implements the part of a transport that Protocol uses


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

    Raises:
        InputRefused: the endpoint cannot be used: a missing CA file, an invalid certificate.
    """

    def __init__(self, endpoint: Endpoint, secret: Secret) -> None:
        _silence()
        self._endpoint = endpoint
        self._shells = 0
        self._shell = ""
        self._command = ""
        self._commands = 0
        self._transport = HttpsTransport(endpoint, secret)
        self._winrm = _Messages(self._transport)

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
        with mapped(self._endpoint, Phase.TALKING):
            self._commands += 1
            self._command = _identifier(
                self._winrm.run_command(self._shell, command, console_mode_stdin=False, skip_cmd_shell=False)
            )
        self._shells += 1

    def _open_shell(self, limit: Limit) -> None:
        """One attempt: the caller of the session retries by the policy of the run."""
        self._allow(limit, STARTING)
        with mapped(self._endpoint, Phase.OPENING):
            self._shell = _identifier(
                self._winrm.open_shell(codepage=CODE_PAGE_UTF8, noprofile=False, idle_timeout=IDLE)
            )
        self._commands = 0

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Sends input to the command."""
        self._allow(limit, STARTING)
        # The node accepts a Send even if it reports a timeout: the next Receive shows the result.
        with mapped(self._endpoint, Phase.TALKING), contextlib.suppress(WinRMOperationTimeoutError):
            self._winrm.send_command_input(self._shell, self._command, data, end=end)

    def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
        """Waits for output."""
        self._allow(limit, turn)
        with mapped(self._endpoint, Phase.TALKING):
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
        """Signals the command, deletes the shell, closes the connection."""
        limit = Limit(self._endpoint.node, CLOSING)
        self._end_command(limit)
        self._delete_shell(limit)
        self._transport.close_session()

    def _end_command(self, limit: Limit) -> None:
        if not self._command:
            return
        self._allow(limit, CLOSING, grace=0)
        with contextlib.suppress(EsyncError), mapped(self._endpoint, Phase.TALKING):
            self._winrm.cleanup_command(self._shell, self._command)
        self._command = ""

    def _delete_shell(self, limit: Limit) -> None:
        if not self._shell:
            return
        self._allow(limit, CLOSING, grace=0)
        with contextlib.suppress(EsyncError), mapped(self._endpoint, Phase.TALKING):
            self._winrm.close_shell(self._shell, close_session=False)
        self._shell = ""

    def _allow(self, limit: Limit, seconds: float, grace: float = GRACE) -> None:
        """Sets the node's operation timeout, in whole seconds; we wait a little longer than that."""
        timeout = max(1, math.ceil(min(seconds, limit.left)))
        self._winrm.operation_timeout_sec = timeout
        self._transport.allow(limit, timeout + grace)
