"""The one border to pywinrm and our transport below it: their exceptions become ours, in an operator's words."""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

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
_WORDS = 200  #: characters of what others say that go into a message
_NOT_WINRM = "check that this port is WinRM's (https, 5986)"


class Phase(StrEnum):
    """Whether a shell is open: before, nothing of ours has run on the node; after, anything may have."""

    OPENING = "opening"
    TALKING = "talking"


@contextmanager
def mapped(endpoint: Endpoint, phase: Phase) -> Iterator[None]:
    """The border itself.

    Raises:
        EsyncError: instead of any exception from below, the unforeseen included: what a node sends can make a parser
            fail in more ways than anybody can list.
    """
    try:
        yield
    except EsyncError:
        raise
    except Exception as error:
        raise _meaning(error, endpoint, phase) from error


def _meaning(error: Exception, at: Endpoint, phase: Phase) -> EsyncError:
    for kinds, meaning in _MEANINGS:
        if isinstance(error, kinds):
            return meaning(error, at, phase)
    return _broken(at, phase, f"answered something that is no WS-Management ({type(error).__name__})", _NOT_WINRM)


def _where(at: Endpoint) -> str:
    return f"{at.node} ({at.host}:{at.port})"


def _broken(at: Endpoint, phase: Phase, what: str, remedy: str = "") -> EsyncError:
    """Something is wrong with the conversation; before it began that is the node's state, later it is doubt."""
    if phase is Phase.OPENING:
        return NodeRefused(f"{_where(at)} {what}", remedy=remedy or _NOT_WINRM)
    return SessionLost(f"{_where(at)} {what}; what was asked may or may not have happened", remedy=remedy)


def _words(what: object) -> str:
    """What others say, as a part of one line; no library puts credentials there."""
    return " ".join(cleaned(str(what), 4 * _WORDS).split())[:_WORDS]


# -- one function for each kind of trouble ---------------------------------------------------------------------


def _not_connected(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - each knows its kind
    """A connection that was never made. In mid-conversation that still leaves the shell in doubt."""
    found = _tls(error.reason, at) if error.tls else _tcp(error.reason, at)
    return found if phase is Phase.OPENING else _broken(at, phase, found.message.partition(") ")[2], found.remedy)


def _tls(reason: Exception, at: Endpoint) -> EsyncError:
    trusted = at.ca_file or "the authorities of this system"
    if isinstance(reason, ssl.SSLCertVerificationError):
        why = reason.verify_message
        if "match" in why:
            message = f"{_where(at)} shows a TLS certificate for another name: {why}"
            return Unreachable(message, remedy="use the name in the certificate as `host`, or issue a new certificate")
        if "expired" in why or "not yet valid" in why:
            message = f"{_where(at)} shows a TLS certificate that is out of date: {why}"
            return Unreachable(message, remedy="renew the certificate of the WinRM listener")
        message = f"{_where(at)} shows a TLS certificate not vouched for by {trusted}: {why}"
        return Unreachable(
            message, remedy="set `ca_file` to the authority that issued the WinRM listener's certificate"
        )
    message = f"{_where(at)} does not speak TLS as it should: {_words(reason)}"
    return Unreachable(message, remedy="check that the port is the https listener's (5986, not 5985)")


def _tcp(reason: Exception, at: Endpoint) -> EsyncError:
    if isinstance(reason, NoAnswer):
        what = f"does not answer within {at.connect_timeout:g} s"
        remedy = "check that the server is up and that no firewall swallows the port"
    elif isinstance(reason, (socket.gaierror, UnicodeError)):
        what, remedy = "has a host name that cannot be resolved", "correct `host`, or the name service"
    elif isinstance(reason, ConnectionRefusedError):
        what = "refuses connections"
        remedy = "start WinRM there with an https listener (winrm quickconfig -transport:https), or correct `port`"
    else:
        what, remedy = f"cannot be reached: {_words(reason)}", "check network and firewall"
    return Unreachable(f"{_where(at)} {what}", remedy=remedy)


def _cut_off(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    if isinstance(error, NoAnswer):
        what = "took the connection and then gave no whole answer in time"
    else:
        what = "closed the connection in mid-request"
    if phase is Phase.OPENING:
        return Unreachable(f"{_where(at)} {what}", remedy="check the WinRM service there, and that the port is https")
    return _broken(at, phase, what)


def _no_answer_of_ours(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    what = "answered with more than any answer needs" if isinstance(error, TooMuch) else _words(error)
    return _broken(at, phase, what or "answered with something that is no HTTP", _NOT_WINRM)


def _no_http(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    return _broken(at, phase, f"does not speak HTTP as it should ({type(error).__name__})", _NOT_WINRM)


def _logon(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    del error, phase
    return LogonRefused(
        f"{_where(at)} refused the logon of {at.user} by {at.transport}",
        remedy=f"check user, {at.secret.partition(':')[0]} secret and that WinRM there allows {at.transport} "
        "(a policy may restrict NTLM); it was tried once only, so that no account gets locked",
    )


def _logon_broken(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    return _broken(at, phase, _words(error), f"allow {at.transport} there (winrm get winrm/config/service/auth)")


def _logon_unprepared(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    del phase
    return InputRefused(
        f"{at.node}: a logon by {at.transport} cannot be prepared here: {_words(error)}",
        remedy=f"install what {at.transport} needs, or use ntlm",
    )


def _fault(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    code, reason = error.wsman_fault_code, _words(error.reason)
    if code == _ACCESS_DENIED:
        return AccessDenied(
            f"{_where(at)}: {at.user} is logged on but may not use WinRM: {reason}",
            remedy="make the account an administrator there (a local one needs LocalAccountTokenFilterPolicy)",
        )
    if code == _BUSY:
        return _busy(at, phase)
    if code in _QUOTAS:
        remedy = "close shells that are left over, or raise the limit: winrm get winrm/config/winrs"
        return _broken(at, phase, f"is at a limit of WinRM: {reason}", remedy)
    if code == _UNKNOWN_SHELL:
        return SessionLost(f"{_where(at)} no longer knows our shell: {reason}")
    return _broken(at, phase, f"answered with a fault: {reason} (code {code})")


def _busy(at: Endpoint, phase: Phase) -> EsyncError:
    what, remedy = "is too busy to take a request", "wait, or restart the WinRM service there"
    if phase is Phase.OPENING:
        return Unreachable(f"{_where(at)} {what}", remedy=remedy)
    return _broken(at, phase, what, remedy)


def _http_status(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    code = error.code
    if code == _FORBIDDEN:
        return AccessDenied(f"{_where(at)} forbids {at.user} to use WinRM (HTTP 403)")
    if code == _UNAVAILABLE:
        return _busy(at, phase)
    remedies = {_NOT_FOUND: "check that this port is WinRM's: there is nothing at /wsman"}
    return _broken(at, phase, f"answered with HTTP status {code}", remedies.get(code, ""))


def _slow(error: Any, at: Endpoint, phase: Phase) -> EsyncError:  # noqa: ANN401 - the same
    del error
    if phase is Phase.OPENING:
        return DeadlineExceeded(f"{_where(at)} did not open a shell in time", remedy="see what keeps the server busy")
    return _broken(at, phase, "did not finish a request in time")


Meaning = Callable[[Any, Endpoint, Phase], EsyncError]
_MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Meaning], ...] = (
    (NotConnected, _not_connected),
    (AuthenticationError, _logon),
    (LogonBroken, _logon_broken),
    ((SpnegoError, ImportError), _logon_unprepared),
    ((Unusable, TooMuch), _no_answer_of_ours),
    ((NoAnswer, http.client.RemoteDisconnected, http.client.IncompleteRead, OSError), _cut_off),
    (http.client.HTTPException, _no_http),
    (WSManFaultError, _fault),
    (WinRMTransportError, _http_status),
    (WinRMOperationTimeoutError, _slow),
    (WinRMError, _no_answer_of_ours),
)
