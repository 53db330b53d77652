"""Logon to a node over HTTP: basic, and NTLM bound to the connection. `pyspnego` is the server side of NTLM."""

import base64
import hmac
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import spnego
from spnego._ntlm_raw.crypto import ntowfv1
from spnego.exceptions import SpnegoError

from lab.machine.condition import Counters

__all__ = ["Account", "Connection", "LogonAnswer"]

_STORE = "NTLM_USER_FILE"
_OFFERS = ("Negotiate", 'Basic realm="WSMAN"')


@dataclass(frozen=True, slots=True)
class LogonAnswer:
    """The result of a request's Authorization header.

    Attributes:
        user: the user who is logged on; empty if the answer must be 401.
        challenges: the WWW-Authenticate headers of the answer; with a user, the last token of a negotiation.
    """

    user: str = ""
    challenges: tuple[str, ...] = _OFFERS


class Account:
    """The account of a node. The password itself is kept only for comparison with basic.

    NTLM needs a file of accounts. It has the NT hash for every form of the domain that a client may send. The file is
    in memory and open only in this process, so a crash cannot leave it behind.
    """

    def __init__(self, user: str, password: str, machine: str) -> None:
        self.user = user
        self._basic = base64.b64encode(f"{user}:{password}".encode())
        self._basic_local = base64.b64encode(f"{machine}\\{user}:{password}".encode())
        digest = ntowfv1(password).hex().upper()
        names = [user, *(f"{domain}\\{user}" for domain in (machine, ".", "WORKSTATION"))]
        # The smbpasswd format allows any password; the other format of this file ends at a colon.
        lines = "".join(f"{name}:1000:{'0' * 32}:{digest}:[U]:LCT-00000000\n" for name in names)
        self._descriptor = os.memfd_create("lab-accounts", os.MFD_CLOEXEC)
        os.write(self._descriptor, lines.encode())
        self.store = Path(f"/proc/self/fd/{self._descriptor}")

    def accepts_basic(self, token: bytes) -> bool:
        """Whether a basic token is valid for this account."""
        return hmac.compare_digest(token, self._basic) or hmac.compare_digest(token, self._basic_local)

    def close(self) -> None:
        """Closes the file of accounts."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class Connection:
    """The logon state of one TCP connection."""

    def __init__(self, account: Account, counters: Counters) -> None:
        self._account = account
        self._counters = counters
        self._user = ""
        self._context: spnego.ContextProxy | None = None
        self._header = ""

    def judge(self, header: str) -> LogonAnswer:
        """The user of a request. An NTLM connection stays logged on without a header; basic needs it every time."""
        if not header:
            return LogonAnswer(self._user, ()) if self._user and not self._header else LogonAnswer()
        scheme, _, token = header.partition(" ")
        match scheme.lower():
            case "basic":
                return self._judge_basic(header, token)
            case "negotiate" | "ntlm":
                return self._judge_ntlm(scheme, token)
        return LogonAnswer()

    def turn_away(self) -> LogonAnswer:
        """Refuses the user that `judge` accepted."""
        self._user, self._header = "", ""
        self._counters.logons_refused += 1
        return LogonAnswer()

    def _judge_basic(self, header: str, token: str) -> LogonAnswer:
        if self._header and header == self._header:
            return LogonAnswer(self._user, ())
        self._counters.logons_tried += 1
        if not self._account.accepts_basic(token.strip().encode("ascii", "replace")):
            self._counters.logons_refused += 1
            return LogonAnswer()
        self._user, self._header = self._account.user, header
        return LogonAnswer(self._user, ())

    def _judge_ntlm(self, scheme: str, token: str) -> LogonAnswer:
        try:
            message = base64.b64decode(token, validate=True)
        except ValueError:
            return LogonAnswer()
        if self._context is None:
            self._user = self._header = ""
            self._context = _context(message, self._account.store)
        context = self._context
        try:
            with _accounts(self._account.store):
                answer = context.step(message)
        except (SpnegoError, ValueError, struct.error):
            return self._refused()
        if not context.complete:
            return LogonAnswer("", (_token(scheme, answer),))
        self._context = None
        self._counters.logons_tried += 1
        self._user, self._header = self._account.user, ""
        return LogonAnswer(self._user, (_token(scheme, answer),) if answer else ())

    def _refused(self) -> LogonAnswer:
        self._context = None
        self._counters.logons_tried += 1
        self._counters.logons_refused += 1
        return LogonAnswer()


def _context(message: bytes, store: Path) -> spnego.ContextProxy:
    """The server side for a client with plain NTLM, or NTLM in SPNEGO."""
    bare = message.startswith(b"NTLMSSP\0")
    options = spnego.NegotiateOptions.use_ntlm if bare else spnego.NegotiateOptions.use_negotiate
    with _accounts(store):
        return spnego.server(protocol="ntlm" if bare else "negotiate", options=options)


def _token(scheme: str, answer: bytes | None) -> str:
    return f"{scheme} {base64.b64encode(answer or b'').decode()}"


@contextmanager
def _accounts(store: Path) -> Iterator[None]:
    """Names a node's file of accounts in the environment, from which `pyspnego` reads it, during one call.

    There is no await during the call, so nodes in one process do not affect each other.
    """
    os.environ[_STORE] = str(store)
    try:
        yield
    finally:
        os.environ.pop(_STORE, None)
