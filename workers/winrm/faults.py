"""Translates the exceptions of pywinrm and of our transport into the errors of `workers.errors`. Nothing else does."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import singledispatch

from spnego.exceptions import SpnegoError
from winrm.exceptions import (
    AuthenticationError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from workers.errors import (
    AccessDenied,
    DeadlineExceeded,
    EsyncError,
    InputRefused,
    LogonRefused,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.records import Endpoint
from workers.texts import cleaned
from workers.winrm.bounded import NoAnswer, TooMuch
from workers.winrm.logon import LogonBroken
from workers.winrm.transport import NotConnected, Unusable

__all__ = ["Phase", "mapped"]

_BUSY = 170
_ACCESS_DENIED = 5
_UNKNOWN_SHELL = 2150858843
_QUOTAS = {2150859173, 2150859174, 2150859175, 2150859176, 2150859179, 2150859241}
_FORBIDDEN, _NOT_FOUND, _UNAVAILABLE = 403, 404, 503
_QUOTED = 200  #: characters of a foreign text that go into a message
_NOT_WINRM = "check that the port is an https listener of WinRM (5986)"


class Phase(StrEnum):
    """Whether a shell is open. Before that, nothing has run on the node; afterwards, anything may have."""

    OPENING = "opening"
    TALKING = "talking"


@contextmanager
def mapped(endpoint: Endpoint, phase: Phase) -> Iterator[None]:
    """Translates every exception, also unexpected ones: bytes from a node can make a parser fail in many ways.

    Raises:
        EsyncError: instead of any exception of the libraries below.
    """
    try:
        yield
    except EsyncError:
        raise
    except Exception as error:
        raise _translated(error, endpoint, phase) from error


@singledispatch
def _translated(error: Exception, at: Endpoint, phase: Phase) -> EsyncError:
    """The error for an exception, chosen by its class; this one is for all classes without a function of their own."""
    return _broken(at, phase, f"sent an answer that is not WS-Management ({type(error).__name__})", _NOT_WINRM)


def _where(at: Endpoint) -> str:
    return f"{at.node} ({at.host}:{at.port})"


def _broken(at: Endpoint, phase: Phase, problem: str, remedy: str = "") -> EsyncError:
    """A broken conversation. Before a shell is open nothing has run; later it is unknown what has run."""
    if phase is Phase.OPENING:
        return NodeRefused(f"{_where(at)} {problem}", remedy=remedy or _NOT_WINRM)
    return SessionLost(f"{_where(at)} {problem}; the request may or may not have been carried out", remedy=remedy)


def _unreachable(at: Endpoint, phase: Phase, problem: str, remedy: str) -> EsyncError:
    """A node that does not answer. Only before a shell is open is it safe to send everything again."""
    if phase is Phase.OPENING:
        return Unreachable(f"{_where(at)} {problem}", remedy=remedy)
    return _broken(at, phase, problem, remedy)


def _quoted(text: object) -> str:
    """A foreign text as part of one line. The libraries put no credentials into their messages."""
    return " ".join(cleaned(str(text), 4 * _QUOTED).split())[:_QUOTED]


@_translated.register
def _not_connected(error: NotConnected, at: Endpoint, phase: Phase) -> EsyncError:
    problem, remedy = _tls_problem(error.reason, at) if error.tls else _tcp_problem(error.reason, at)
    return _unreachable(at, phase, problem, remedy)


def _tls_problem(reason: Exception, at: Endpoint) -> tuple[str, str]:
    """The TLS problem, and the remedy."""
    if not isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "check that the port is the https listener's (5986, not 5985)"
        return f"failed the TLS handshake: {_quoted(reason)}", remedy
    why = reason.verify_message
    if "match" in why:
        remedy = "use the name in the certificate as `host`, or issue a new certificate"
        return f"has a TLS certificate for another name: {why}", remedy
    if "expired" in why or "not yet valid" in why:
        return f"has a TLS certificate that is out of date: {why}", "renew the certificate of the WinRM listener"
    trusted = at.ca_file or "the certificate authorities of this system"
    remedy = "set `ca_file` to the authority that issued the WinRM listener's certificate"
    return f"has a TLS certificate that is not trusted by {trusted}: {why}", remedy


def _tcp_problem(reason: Exception, at: Endpoint) -> tuple[str, str]:
    """Why there is no TCP connection, and the remedy."""
    if isinstance(reason, NoAnswer):
        remedy = "check that the server is up and that no firewall blocks the port"
        return f"did not answer within {at.connect_timeout:g} s", remedy
    if isinstance(reason, (socket.gaierror, UnicodeError)):
        return "has a host name that cannot be resolved", "correct `host`, or the DNS entry"
    if isinstance(reason, ConnectionRefusedError):
        remedy = "start WinRM there with an https listener (winrm quickconfig -transport:https), or correct `port`"
        return "refused the connection", remedy
    return f"cannot be reached: {_quoted(reason)}", "check network and firewall"


@_translated.register(OSError)
@_translated.register(http.client.RemoteDisconnected)
@_translated.register(http.client.IncompleteRead)
def _interrupted(_error: Exception, at: Endpoint, phase: Phase) -> EsyncError:
    remedy = "check the WinRM service there, and that the port is https"
    return _unreachable(at, phase, "closed the connection during a request", remedy)


@_translated.register
def _no_answer(_error: NoAnswer, at: Endpoint, phase: Phase) -> EsyncError:
    remedy = "check the WinRM service there, and that the port is https"
    return _unreachable(at, phase, "accepted the connection but did not complete an answer in time", remedy)


@_translated.register
def _too_large(_error: TooMuch, at: Endpoint, phase: Phase) -> EsyncError:
    return _broken(at, phase, "sent an answer that is too large", _NOT_WINRM)


@_translated.register(Unusable)
@_translated.register(WinRMError)
def _unusable(error: Exception, at: Endpoint, phase: Phase) -> EsyncError:
    return _broken(at, phase, _quoted(error) or "sent an answer that is not HTTP", _NOT_WINRM)


@_translated.register
def _invalid_http(error: http.client.HTTPException, at: Endpoint, phase: Phase) -> EsyncError:
    return _broken(at, phase, f"sent an invalid HTTP answer ({type(error).__name__})", _NOT_WINRM)


@_translated.register
def _logon_refused(_error: AuthenticationError, at: Endpoint, _phase: Phase) -> EsyncError:
    return LogonRefused(
        f"{_where(at)} refused the logon of {at.user} with {at.transport}",
        remedy=f"check the user, the {at.secret.partition(':')[0]} secret and that WinRM there allows {at.transport} "
        "(a policy may restrict NTLM); there was only one attempt, so that no account is locked",
    )


@_translated.register
def _logon_broken(error: LogonBroken, at: Endpoint, phase: Phase) -> EsyncError:
    return _broken(at, phase, _quoted(error), f"allow {at.transport} there (winrm get winrm/config/service/auth)")


@_translated.register(SpnegoError)
@_translated.register(ImportError)
def _logon_not_possible(error: Exception, at: Endpoint, _phase: Phase) -> EsyncError:
    return InputRefused(
        f"{at.node}: logon with {at.transport} is not possible from this machine: {_quoted(error)}",
        remedy=f"install the packages for {at.transport}, or use ntlm",
    )


@_translated.register
def _fault(error: WSManFaultError, at: Endpoint, phase: Phase) -> EsyncError:
    code, reason = error.wsman_fault_code, _quoted(error.reason)
    if code == _ACCESS_DENIED:
        return AccessDenied(
            f"{_where(at)}: {at.user} logged on, but is not allowed to use WinRM: {reason}",
            remedy="make the account an administrator there (a local one needs LocalAccountTokenFilterPolicy)",
        )
    if code == _BUSY:
        return _busy(at, phase)
    if code in _QUOTAS:
        remedy = "close shells that are left over, or raise the quota: winrm get winrm/config/winrs"
        return _broken(at, phase, f"reached a quota of WinRM: {reason}", remedy)
    if code == _UNKNOWN_SHELL:
        return SessionLost(f"{_where(at)} has closed the shell: {reason}")
    return _broken(at, phase, f"sent a fault: {reason} (code {code})")


def _busy(at: Endpoint, phase: Phase) -> EsyncError:
    remedy = "wait, or restart the WinRM service there"
    return _unreachable(at, phase, "is too busy to accept a request", remedy)


@_translated.register
def _http_status(error: WinRMTransportError, at: Endpoint, phase: Phase) -> EsyncError:
    if error.code == _FORBIDDEN:
        return AccessDenied(f"{_where(at)} does not allow {at.user} to use WinRM (HTTP 403)")
    if error.code == _UNAVAILABLE:
        return _busy(at, phase)
    remedy = "check that the port is WinRM's: /wsman does not exist" if error.code == _NOT_FOUND else ""
    return _broken(at, phase, f"answered with HTTP status {error.code}", remedy)


@_translated.register
def _slow(_error: WinRMOperationTimeoutError, at: Endpoint, phase: Phase) -> EsyncError:
    if phase is Phase.OPENING:
        remedy = "find out what keeps the server busy"
        return DeadlineExceeded(f"{_where(at)} did not open a shell in time", remedy=remedy)
    return _broken(at, phase, "did not complete a request in time")
