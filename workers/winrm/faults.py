"""The one border to pywinrm, requests and what lies below: their exceptions become ours, in an operator's words."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from xml.etree.ElementTree import ParseError

import requests
import urllib3
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
from workers.records import Endpoint, Transport

__all__ = ["Phase", "mapped", "nothing_ran"]

_BUSY = 170
_ACCESS_DENIED = 5
_UNKNOWN_SHELL = 2150858843
_QUOTAS = {2150859173, 2150859174, 2150859175, 2150859176, 2150859179, 2150859241}
_FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    WinRMError,
    WinRMTransportError,
    WinRMOperationTimeoutError,
    SpnegoError,
    ParseError,
    AssertionError,  # pywinrm's answer to a reply that belongs to another request
    StopIteration,  # and to a reply without the id it looks for
    ValueError,
    TypeError,
)


class Phase(StrEnum):
    """Whether a shell is open: before, nothing of ours has run on the node; after, anything may have."""

    OPENING = "opening"
    TALKING = "talking"


@contextmanager
def mapped(endpoint: Endpoint, phase: Phase) -> Iterator[None]:
    """The border itself.

    Raises:
        EsyncError: instead of any exception of the libraries below.
    """
    try:
        yield
    except EsyncError:
        raise
    except _FOREIGN as error:
        raise _meaning(error, endpoint, phase) from error


def nothing_ran(error: BaseException) -> bool:
    """Whether a request failed before the node took it: no connection, or a service too busy to listen."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    if isinstance(error, requests.exceptions.SSLError):
        return False
    if isinstance(error, requests.ConnectionError):
        return _find(error, urllib3.exceptions.NewConnectionError) is not None
    if isinstance(error, WinRMTransportError):
        return bool(error.code == requests.codes.unavailable)
    return isinstance(error, WSManFaultError) and error.wsman_fault_code == _BUSY


def _meaning(error: Exception, at: Endpoint, phase: Phase) -> EsyncError:
    for kinds, meaning in _MEANINGS:
        if isinstance(error, kinds):
            found = meaning(error, at, phase)
            if found is not None:
                return found
    return _broken(at, phase, f"answered something that is no WS-Management ({type(error).__name__})")


def _where(at: Endpoint) -> str:
    return f"{at.node} ({at.host}:{at.port})"


def _broken(at: Endpoint, phase: Phase, what: str, remedy: str = "") -> EsyncError:
    """Something is wrong with the conversation; before it began that is the node's state, later it is doubt."""
    if phase is Phase.OPENING:
        return NodeRefused(f"{_where(at)} {what}", remedy=remedy or "check that this port is WinRM's (https, 5986)")
    return SessionLost(f"{_where(at)} {what}; what was asked may or may not have happened", remedy=remedy)


def _find(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first of a kind among an exception and what it wraps: causes, contexts, `reason`, arguments."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, kind):
            return one
        if id(one) in seen:
            continue
        seen.add(id(one))
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += [item for item in inner if isinstance(item, BaseException)]
    return None


# -- one function for each kind of trouble ---------------------------------------------------------------------


def _tls(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    del phase
    refused = _find(error, ssl.SSLCertVerificationError)
    trusted = at.ca_file or "the authorities of this system"
    if isinstance(refused, ssl.SSLCertVerificationError):
        why = refused.verify_message
        if "match" in why:
            message = f"{_where(at)} shows a TLS certificate for another name: {why}"
            return Unreachable(message, remedy="use the name in the certificate as `host`, or issue a new certificate")
        if "expired" in why or "not yet valid" in why:
            return Unreachable(f"{_where(at)}: {why}", remedy="renew the certificate of the WinRM listener")
        message = f"{_where(at)} shows a TLS certificate not vouched for by {trusted}: {why}"
        return Unreachable(
            message, remedy="set `ca_file` to the authority that issued the WinRM listener's certificate"
        )
    if at.transport is Transport.CERTIFICATE and "PEM" in str(error):
        return InputRefused(f"{at.node}: the secret is no PEM of certificate and key", remedy="correct `secret`")
    if at.ca_file and "X509" in str(error):
        return InputRefused(f"{at.ca_file} holds no certificates", remedy="give a PEM file as `ca_file`")
    message = f"{_where(at)} does not speak TLS as it should: {_short(_find(error, ssl.SSLError) or error)}"
    return Unreachable(message, remedy="check that the port is the https listener's (5986, not 5985)")


def _no_connection(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    """A connection that was never made. In mid-conversation that still leaves the shell in doubt."""
    if not nothing_ran(error):
        return None
    if isinstance(error, requests.ConnectTimeout):
        what = f"does not answer within {at.connect_timeout:g} s"
        remedy = "check that the server is up and that no firewall swallows the port"
    elif _find(error, urllib3.exceptions.NameResolutionError) or _find(error, socket.gaierror):
        what, remedy = "has a host name that cannot be resolved", "correct `host`, or the name service"
    elif _find(error, ConnectionRefusedError):
        what = "refuses connections"
        remedy = "start WinRM there with an https listener (winrm quickconfig -transport:https), or correct `port`"
    elif isinstance(error, (WinRMTransportError, WSManFaultError)):
        what, remedy = "is too busy to take a request", "wait, or restart the WinRM service there"
    else:
        what, remedy = f"cannot be reached: {_short(_find(error, OSError) or error)}", "check network and firewall"
    if phase is Phase.TALKING:
        return _broken(at, phase, what, remedy)
    return Unreachable(f"{_where(at)} {what}", remedy=remedy)


def _cut_off(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    if isinstance(error, requests.ReadTimeout):
        what = "took the connection and then did not answer"
    else:
        what = "closed the connection in mid-request"
    if phase is Phase.OPENING:
        return Unreachable(f"{_where(at)} {what}", remedy="check the WinRM service there, and that the port is https")
    return _broken(at, phase, what)


def _logon(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    del error, phase
    return LogonRefused(
        f"{_where(at)} refused the logon of {at.user} by {at.transport}",
        remedy=f"check user, {at.secret.partition(':')[0]} secret and that WinRM there allows {at.transport}; "
        "it was tried once only, so that no account gets locked",
    )


def _fault(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    if not isinstance(error, WSManFaultError):
        return None
    code, reason = error.wsman_fault_code, _short(error.reason)
    if code == _ACCESS_DENIED:
        return AccessDenied(
            f"{_where(at)}: {at.user} is logged on but may not use WinRM: {reason}",
            remedy="make the account an administrator there (a local one needs LocalAccountTokenFilterPolicy)",
        )
    if code in _QUOTAS:
        remedy = "close shells that are left over, or raise the limit: winrm get winrm/config/winrs"
        return _broken(at, phase, f"is at a limit of WinRM: {reason}", remedy)
    if code == _UNKNOWN_SHELL:
        return SessionLost(f"{_where(at)} no longer knows our shell: {reason}")
    return _broken(at, phase, f"answered with a fault: {reason} (code {code})")


def _http_status(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    code = error.code if isinstance(error, WinRMTransportError) else 0
    if code == requests.codes.forbidden:
        return AccessDenied(f"{_where(at)} forbids {at.user} to use WinRM (HTTP 403)")
    remedies = {requests.codes.not_found: "check that this port is WinRM's: there is nothing at /wsman"}
    return _broken(at, phase, f"answered with HTTP status {code}", remedies.get(code, ""))


def _slow(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    del error
    if phase is Phase.OPENING:
        return DeadlineExceeded(f"{_where(at)} did not open a shell in time", remedy="see what keeps the server busy")
    return _broken(at, phase, "did not finish a request in time")


def _setting(error: Exception, at: Endpoint, phase: Phase) -> EsyncError | None:
    """What pywinrm and requests refuse before they contact anybody: a method not installed, a file not there."""
    if phase is Phase.OPENING and "CA certificate bundle" in str(error):
        return InputRefused(
            f"the CA file {at.ca_file} does not exist", remedy="correct `ca_file`", file=str(at.ca_file)
        )
    if phase is Phase.OPENING and type(error) is WinRMError:
        return InputRefused(f"{at.node}: {_short(error)}", remedy=f"install what {at.transport} needs, or use ntlm")
    return None


def _short(what: object) -> str:
    """An error's own words as one line; pywinrm and requests put no credentials there."""
    return " ".join(str(what).split())[:200]


Meaning = Callable[[Exception, Endpoint, Phase], EsyncError | None]
_MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Meaning], ...] = (
    ((AuthenticationError, SpnegoError), _logon),
    (requests.exceptions.SSLError, _tls),
    ((requests.RequestException, WinRMTransportError, WSManFaultError), _no_connection),
    (requests.RequestException, _cut_off),
    (WSManFaultError, _fault),
    (WinRMTransportError, _http_status),
    (WinRMOperationTimeoutError, _slow),
    ((WinRMError, OSError), _setting),
)
