"""The channel over WinRM: pywinrm with every default stated, our own connect retries, counters and time limits."""

import contextlib
import logging
import math
import os
import threading
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential
from winrm.exceptions import WinRMOperationTimeoutError
from winrm.protocol import Protocol as WinRMProtocol

from workers.errors import EsyncError
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.channel import Chunk, Counters
from workers.winrm.faults import Phase, mapped, nothing_ran

__all__ = ["WinRMChannel"]

TURN = 5  #: seconds one Receive waits on the node; how long a cancel may go unnoticed
STARTING = 60  #: seconds Create and Command may take on a busy server
GRACE = 15  #: seconds an answer may come later than the node promised
CLOSING = 2  #: seconds a goodbye may take; the shell's idle time does it otherwise
IDLE = "PT180S"  #: the node ends a shell that we have forgotten
COMMANDS_PER_SHELL = 12  #: WinRS never gives slots back; the smallest quota known is 15
CODE_PAGE_UTF8 = 65001

# `proxy=None` makes requests edit the environment for a moment, which threads must not do at once.
_environment = threading.Lock()


def _silence() -> None:
    """These libraries log tokens and bodies on `debug`."""
    for name in ("urllib3", "spnego", "requests_ntlm", "requests_kerberos", "winrm"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))


class _CountingAdapter(HTTPAdapter):
    """Counts what passes, and gives each request its own time limit instead of pywinrm's one for all."""

    def __init__(self, connect_timeout: float) -> None:
        super().__init__(max_retries=0, pool_connections=1, pool_maxsize=1)
        self.connect_timeout = connect_timeout
        self.read_timeout = float(STARTING)
        self.round_trips = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        options["timeout"] = (self.connect_timeout, self.read_timeout)
        response = super().send(request, *args, **options)
        self.round_trips += 1
        self.bytes_sent += int(request.headers.get("Content-Length") or 0)
        self.bytes_received += int(response.headers.get("Content-Length") or 0)
        return response


class WinRMChannel:
    """One WinRM shell on one node. Not for two threads at a time.

    Args:
        endpoint: the node.
        secret: the password; with transport `certificate` a PEM of certificate and key.
        attempts: how often a connection is tried.
    """

    def __init__(self, endpoint: Endpoint, secret: Secret, *, attempts: int = 3) -> None:
        _silence()
        self._endpoint = endpoint
        self._attempts = attempts
        self._shells = 0
        self._shell = ""
        self._command = ""
        self._commands = 0
        self._pem = -1
        self._adapter = _CountingAdapter(endpoint.connect_timeout)
        with mapped(endpoint, Phase.OPENING):
            self._winrm = self._protocol(secret)
            self._limit_to_us(self._winrm)

    def _protocol(self, secret: Secret) -> WinRMProtocol:
        at = self._endpoint
        host = f"[{at.host}]" if ":" in at.host else at.host
        pem = self._pem_in_memory(secret) if at.transport is Transport.CERTIFICATE else None
        return WinRMProtocol(
            endpoint=f"https://{host}:{at.port}/wsman",
            transport=at.transport.value,
            username=at.user,
            password=None if pem else secret.reveal(),
            cert_pem=pem,
            cert_key_pem=pem,
            ca_trust_path=at.ca_file or DEFAULT_CA_BUNDLE_PATH,
            server_cert_validation="validate",
            read_timeout_sec=STARTING + GRACE,
            operation_timeout_sec=TURN,
            message_encryption="auto",
            send_cbt=True,
            proxy=None,
        )

    def _pem_in_memory(self, secret: Secret) -> str:
        """OpenSSL reads certificate and key from files only: from one in memory, that no disk ever sees."""
        self._pem = os.memfd_create("client", os.MFD_CLOEXEC)
        os.write(self._pem, secret.reveal().encode())
        return f"/proc/self/fd/{self._pem}"

    def _limit_to_us(self, protocol: WinRMProtocol) -> None:
        """No proxies, no .netrc and no certificate bundles from the environment."""
        with _environment:
            session = protocol.transport.build_session()
        session.trust_env = False
        session.proxies = {}
        session.mount("https://", self._adapter)

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""
        seen = self._adapter
        return Counters(seen.round_trips, self._shells, seen.bytes_sent, seen.bytes_received)

    def start(self, command: str, *, within: float) -> None:
        """Opens a shell if there is none, and starts the command line in it."""
        if self._commands >= COMMANDS_PER_SHELL:
            self._delete_shell()
        if not self._shell:
            self._open_shell(within)
        self._allow(min(STARTING, within))
        with mapped(self._endpoint, Phase.TALKING):
            self._commands += 1
            self._command = self._winrm.run_command(
                self._shell, command, console_mode_stdin=False, skip_cmd_shell=False
            )
        self._shells += 1

    def _open_shell(self, within: float) -> None:
        """Tries a connection a few times, spread at random; what reached the node, or a refused logon, but once."""
        self._allow(min(STARTING, within))
        with mapped(self._endpoint, Phase.OPENING):
            for attempt in Retrying(
                stop=stop_after_attempt(self._attempts) | stop_after_delay(within),
                wait=wait_random_exponential(multiplier=0.1, max=2),
                retry=retry_if_exception(nothing_ran),
                reraise=True,
            ):
                with attempt:
                    self._shell = self._winrm.open_shell(codepage=CODE_PAGE_UTF8, noprofile=False, idle_timeout=IDLE)
        self._commands = 0

    def send(self, data: bytes, *, end: bool = False, within: float) -> None:
        """Gives the command input."""
        self._allow(min(STARTING, within))
        # A Send that times out on the node was nevertheless taken: the next Receive shows what came of it.
        with mapped(self._endpoint, Phase.TALKING), contextlib.suppress(WinRMOperationTimeoutError):
            self._winrm.send_command_input(self._shell, self._command, data, end=end)

    def receive(self, *, within: float) -> Chunk:
        """Waits one turn for output."""
        self._allow(min(TURN, within))
        with mapped(self._endpoint, Phase.TALKING):
            try:
                found = self._winrm.get_command_output_raw(self._shell, self._command)
            except WinRMOperationTimeoutError:
                return Chunk()
        stdout, stderr, status, done = found
        return Chunk(stdout, stderr, status if done else None)

    def stop(self) -> None:
        """Signals the command to end."""
        if not self._command:
            return
        self._allow(CLOSING, grace=1)
        with contextlib.suppress(EsyncError), mapped(self._endpoint, Phase.TALKING):
            self._winrm.cleanup_command(self._shell, self._command)
        self._command = ""

    def close(self) -> None:
        """Signals the command, deletes the shell, closes the connection."""
        self.stop()
        self._delete_shell()
        self._winrm.transport.close_session()
        if self._pem >= 0:
            os.close(self._pem)
            self._pem = -1

    def _delete_shell(self) -> None:
        if not self._shell:
            return
        self._allow(CLOSING, grace=1)
        with contextlib.suppress(EsyncError), mapped(self._endpoint, Phase.TALKING):
            self._winrm.close_shell(self._shell, close_session=False)
        self._shell = ""

    def _allow(self, seconds: float, grace: float = GRACE) -> None:
        """The node gets whole seconds to answer in; we wait for it a little longer than that."""
        self._winrm.operation_timeout_sec = max(1, math.ceil(seconds))
        self._adapter.read_timeout = self._winrm.operation_timeout_sec + grace
