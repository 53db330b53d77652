"""Logon to a node over HTTP: by a header of every request, or bound to the connection by tokens of `pyspnego`."""

import base64
import hashlib
import hmac
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import spnego
from cryptography import x509
from cryptography.x509.oid import NameOID
from spnego._ntlm_raw.crypto import ntowfv1
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from lab.machine.condition import Counters
from lab.winrm.envelope import Unreadable, decrypted, encrypted
from lab.winrm.ways import DEFAULT, Method, Ways

__all__ = ["Account", "Connection", "LogonAnswer"]

_STORE = "NTLM_USER_FILE"
_MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_OFFERS: Mapping[Method, str] = {
    "negotiate": "Negotiate",
    "kerberos": "Kerberos",
    "credssp": "CredSSP",
    "basic": 'Basic realm="WSMAN"',
    "certificate": _MUTUAL,
}
#: Methods with an encryption of their own; NTLM has that of SPNEGO.
_PROTECTED = {"kerberos": "kerberos", "credssp": "credssp"}


@dataclass(frozen=True, slots=True)
class LogonAnswer:
    """The result of a request's Authorization header.

    Attributes:
        user: the user who is logged on; empty if the answer must be 401.
        challenges: the WWW-Authenticate headers of the answer; with a user, the last token of a negotiation.
    """

    user: str = ""
    challenges: tuple[str, ...] = ()


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
    """The logon state of one TCP connection.

    Args:
        account: the account that may log on.
        counters: of the node.
        ways: what the listener offers.
        certificate: of the listener, DER; empty over http. A logon is bound to it.
        shown: the client's certificate, DER, if TLS has verified one.
    """

    def __init__(
        self,
        account: Account,
        counters: Counters,
        ways: Ways = DEFAULT,
        *,
        certificate: bytes = b"",
        shown: bytes = b"",
    ) -> None:
        self._account = account
        self._counters = counters
        self._ways = ways
        self._bindings = _bindings(certificate) if certificate else None
        self._shown = shown
        self._user = ""
        self._context: spnego.ContextProxy | None = None
        self._header = ""
        self._session: tuple[spnego.ContextProxy, str] | None = None

    def judge(self, header: str) -> LogonAnswer:
        """The user of a request. A negotiated connection stays logged on without a header; others do not."""
        if not header:
            return LogonAnswer(self._user, ()) if self._user and not self._header else self._nobody()
        scheme, _, token = header.partition(" ")
        match scheme.lower():
            case "basic" if "basic" in self._ways.offers:
                return self._judge_basic(header, token)
            case "negotiate" | "ntlm" if "negotiate" in self._ways.offers:
                return self._judge_tokens(scheme, token)
            case "kerberos" | "credssp" as method if method in self._ways.offers:
                return self._judge_tokens(scheme, token)
            case _ if header == _MUTUAL and "certificate" in self._ways.offers:
                return self._judge_certificate()
        return self._nobody()

    def turn_away(self) -> LogonAnswer:
        """Refuses the user that `judge` accepted."""
        self._user, self._header, self._session = "", "", None
        self._counters.logons_refused += 1
        return self._nobody()

    def decrypted(self, body: bytes) -> bytes:
        """The message of an encrypted request.

        Raises:
            Unreadable: it was not encrypted in the logon of this connection.
        """
        if self._session is None:
            raise Unreadable("there is no logon on this connection")
        return decrypted(self._session[0], body)

    def encrypted(self, message: bytes) -> tuple[bytes, str]:
        """The body of an answer on a connection whose request was decrypted, and its content type."""
        if self._session is None:
            raise Unreadable("there is no logon on this connection")
        return encrypted(*self._session, message)

    def _nobody(self) -> LogonAnswer:
        return LogonAnswer("", tuple(_OFFERS[method] for method in self._ways.offers))

    def _judge_basic(self, header: str, token: str) -> LogonAnswer:
        if self._header and header == self._header:
            return LogonAnswer(self._user, ())
        self._counters.logons_tried += 1
        if not self._account.accepts_basic(token.strip().encode("ascii", "replace")):
            self._counters.logons_refused += 1
            return self._nobody()
        self._user, self._header = self._account.user, header
        return LogonAnswer(self._user, ())

    def _judge_certificate(self) -> LogonAnswer:
        """Maps a client certificate to the account: the common name is the user."""
        self._counters.logons_tried += 1
        names = x509.load_der_x509_certificate(self._shown).subject if self._shown else x509.Name([])
        if self._account.user not in {name.value for name in names.get_attributes_for_oid(NameOID.COMMON_NAME)}:
            return self.turn_away()
        self._user, self._header = self._account.user, _MUTUAL
        return LogonAnswer(self._user, ())

    def _judge_tokens(self, scheme: str, token: str) -> LogonAnswer:
        try:
            message = base64.b64decode(token, validate=True)
        except ValueError:
            return self._nobody()
        if self._context is None:
            self._user, self._header, self._session = "", "", None
            self._context = self._begun(scheme.lower(), message)
        context = self._context
        try:
            with _accounts(self._account.store):
                answer = context.step(message)
            if context.get_extra_info("auth_stage") == "Authentication failure":  # of CredSSP: the token says so
                self._refused()
                return LogonAnswer("", (_token(scheme, answer),))
            if not context.complete:
                return LogonAnswer("", (_token(scheme, answer),))
            if not self._acceptable(context, message):
                return self._refused()
        except (SpnegoError, ValueError, struct.error):
            return self._refused()
        self._context, self._session = None, (context, _PROTECTED.get(scheme.lower(), "spnego"))
        self._counters.logons_tried += 1
        self._user, self._header = self._account.user, ""
        return LogonAnswer(self._user, (_token(scheme, answer),) if answer else ())

    def _acceptable(self, context: spnego.ContextProxy, message: bytes) -> bool:
        """Whether the client is the account, and its logon is bound to this listener where that is required."""
        principal = (context.client_principal or "").casefold()
        if self._account.user.casefold() not in {principal.partition("@")[0], principal.rpartition("\\")[2]}:
            return False
        return not self._ways.strict_binding or self._bindings is None or not _unbound(message)

    def _begun(self, scheme: str, message: bytes) -> spnego.ContextProxy:
        """The server side; for NTLM: plain, or in SPNEGO."""
        bare = message.startswith(b"NTLMSSP\0")
        protocol = scheme if scheme in _PROTECTED else "ntlm" if bare else "negotiate"
        options = spnego.NegotiateOptions.none
        if scheme not in _PROTECTED:
            options = spnego.NegotiateOptions.use_ntlm if bare else spnego.NegotiateOptions.use_negotiate
        # Relaxed, as Windows is by default: a binding is compared if the client sent one, except where it is required.
        bindings = self._bindings if self._ways.strict_binding or protocol == "kerberos" else None
        with _accounts(self._account.store):
            return spnego.server(protocol=protocol, options=options, channel_bindings=bindings)

    def _refused(self) -> LogonAnswer:
        self._context = None
        self._counters.logons_tried += 1
        self._counters.logons_refused += 1
        return self._nobody()


def _bindings(certificate: bytes) -> GssChannelBindings:
    """RFC 5929: the hash of the certificate, by the hash of its signature. The lab's authority signs with SHA-256."""
    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.sha256(certificate).digest())


def _unbound(message: bytes) -> bool:
    """Whether the last message of NTLM has no channel binding, or an empty one, which `pyspnego` accepts."""
    start = message.find(b"NTLMSSP\0\3\0\0\0")
    if start < 0:
        return False
    response = Authenticate.unpack(message[start:]).nt_challenge_response or b""
    pairs = NTClientChallengeV2.unpack(response[16:]).av_pairs
    return not pairs.get(AvId.channel_bindings, b"").strip(b"\0")


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
