"""Translates the exceptions of pywinrm and of our transport into the errors of `workers.errors`. Nothing else does.

What an answer means is data: `known_answers`. An answer that is in no row is shown as it came, and nothing is assumed
about its cause.
"""

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatch

from spnego.exceptions import SpnegoError
from winrm.exceptions import (
    AuthenticationError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from workers.errors import EsyncError
from workers.records import Endpoint
from workers.texts import escaped, page_title
from workers.winrm.answered import QUOTED, Asked, Phase, failed, quoted, unknown
from workers.winrm.answers import Answer, LogonBroken, Unusable, text_of
from workers.winrm.bounded import NoAnswer, TooMuch
from workers.winrm.encryption import NotEncrypted
from workers.winrm.known_answers import Kind, Known, known
from workers.winrm.listener import tls_problem
from workers.winrm.logon_faults import logon_broken, logon_not_possible, logon_refused
from workers.winrm.not_connected import NotConnected
from workers.winrm.probe import OtherProtocol

__all__ = ["Phase", "mapped"]

_OK = 200
_NETWORK = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENETRESET, errno.ENOTCONN}
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
_PAGE = re.compile(r"<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_SERVICE = "check the WinRM service there, and what answers on this port: curl -v {url}"
_ELSEWHERE = (
    "another web server, a proxy or a login page answers on this port: see it with curl -v {url}; "
    "correct `host` or `port`, and let this machine reach the server directly"
)


@contextmanager
def mapped(
    endpoint: Endpoint, phase: Phase, what: str = "for something", came: Callable[[], bytes] = bytes
) -> Iterator[None]:
    """Translates every exception, also unexpected ones: bytes from a node can make a parser fail in many ways.

    Args:
        endpoint: the node.
        phase: whether a shell is open.
        what: what is asked of the node, such as "to open a shell".
        came: returns the latest answer of the node, for messages.

    Raises:
        EsyncError: instead of any exception of the libraries below.
    """
    try:
        yield
    except EsyncError:
        raise
    except Exception as error:
        raise _translated(error, Asked(endpoint, phase, what, came)) from error


@singledispatch
def _translated(error: Exception, asked: Asked) -> EsyncError:
    """The error for an exception, chosen by its class; this one is for all classes without a function of their own."""
    if type(error).__module__.partition(".")[0] in {"gssapi", "krb5"}:
        return logon_not_possible(error, asked)
    before = error.__context__  # an answer that is no fault although it looks like one
    came = before.response_text if isinstance(before, WinRMTransportError) else text_of(asked.came())
    return failed(_page(came), asked) if _PAGE.search(came) else unknown(asked, error, came=came)


def _busy(says: str, remedy: str) -> Known:
    """A failure that may be over soon."""
    return Known(kind=Kind.BUSY, says=says, remedy=remedy)


# -- No connection, or one that broke ---------------------------------------------------------------------------------


@_translated.register
def _not_connected(error: NotConnected, asked: Asked) -> EsyncError:
    reason, at = error.reason, asked.at
    tls = error.tls and getattr(reason, "errno", None) not in _NETWORK
    return failed(_busy(*(tls_problem(reason, at, error.certificate) if tls else _tcp_problem(reason, at))), asked)


def _tcp_problem(reason: Exception, at: Endpoint) -> tuple[str, str]:
    """Why there is no TCP connection, and the remedy."""
    if isinstance(reason, NoAnswer):
        remedy = "check that the server is up and that no firewall blocks the port"
        return f"did not answer within {at.connect_timeout:g} s", remedy
    if isinstance(reason, (socket.gaierror, UnicodeError)):
        return "has a host name that cannot be resolved", "correct `host`, or the DNS entry"
    if isinstance(reason, ConnectionRefusedError):
        first = "winrm quickconfig -transport:https" if at.scheme == "https" else "winrm quickconfig"
        remedy = f"start WinRM there ({first} sets it up), or correct `port`"
        return "refused the connection", remedy
    if getattr(reason, "errno", None) in _LOCAL:
        return f"cannot be reached: this machine opens no connection: {quoted(reason)}", "raise its limits (ulimit -n)"
    return f"cannot be reached: {quoted(reason)}", "check network and firewall"


@_translated.register
def _of_the_system(error: OSError, asked: Asked) -> EsyncError:
    if row := known().of_alert(getattr(error, "reason", None) or ""):  # TLS 1.3: after the handshake
        return failed(_busy(f"ended the TLS connection: it {row.says}", row.remedy), asked)
    network = isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)) or error.errno in _NETWORK
    return _interrupted(error, asked) if network else unknown(asked, error, came=asked.came())


@_translated.register(http.client.IncompleteRead)
def _incomplete(_error: http.client.IncompleteRead, asked: Asked) -> EsyncError:
    says = f"sent an answer that ends too early, or with an invalid length, when asked {asked.what}"
    return failed(_busy(says, _SERVICE), asked)


@_translated.register(http.client.RemoteDisconnected)
def _interrupted(_error: Exception, asked: Asked) -> EsyncError:
    return failed(_busy(f"closed the connection when asked {asked.what}", _SERVICE), asked)


@_translated.register
def _no_answer(_error: NoAnswer, asked: Asked) -> EsyncError:
    says = f"accepted the connection but did not complete an answer in time, when asked {asked.what}"
    return failed(_busy(says, _SERVICE), asked)


@_translated.register
def _slow(_error: WinRMOperationTimeoutError, asked: Asked) -> EsyncError:
    says = f"did not finish in time, when asked {asked.what}"
    return failed(Known(kind=Kind.LATE, says=says, remedy="find out what keeps the server busy"), asked)


# -- Another protocol, or HTTP without WS-Management ------------------------------------------------------------------


@_translated.register
def _other_protocol(error: OtherProtocol, asked: Asked) -> EsyncError:
    return _of_banner(error.sent, error, asked, "failed the TLS handshake: it ")


@_translated.register
def _invalid_http(error: http.client.HTTPException, asked: Asked) -> EsyncError:
    line = getattr(error, "line", None)
    if isinstance(line, str) and not line.startswith("HTTP/"):
        return _of_banner(line.encode("latin-1", "replace"), error, asked, "")
    return unknown(asked, error, f"sent an invalid HTTP answer ({type(error).__name__})", line)


def _of_banner(sent: bytes, error: Exception, asked: Asked, before: str) -> EsyncError:
    """By the first bytes of an answer that is not what was asked for."""
    row = known().of_banner(sent)
    if row is None:
        return unknown(asked, error, f"{before or 'sent an answer that '}is not HTTP", sent)
    return failed(row.model_copy(update={"says": f"{before}{row.says}"}), asked, f": {escaped(text_of(sent), QUOTED)}")


@_translated.register
def _too_large(error: TooMuch, asked: Asked) -> EsyncError:
    return unknown(asked, error, "sent an answer that is too large")


@_translated.register
def _unusable(error: Unusable, asked: Asked) -> EsyncError:
    answer = error.answer
    if answer is None:
        return unknown(asked, error, quoted(error), asked.came())
    redirect = answer.status in range(300, 400)
    if answer.status != _OK and not redirect:
        return _of_status(answer, error, asked)
    text = text_of(answer.body)
    if _PAGE.search(text):
        return failed(_page(text), asked)
    if redirect:
        return failed(Known(kind=Kind.UNFIT, says=f"{quoted(error)}, which WinRM never does", remedy=_ELSEWHERE), asked)
    return unknown(asked, error, quoted(error), text)


def _page(text: str) -> Known:
    """A web page instead of an answer of WinRM."""
    return Known(kind=Kind.UNFIT, says=f"sent {_called(text)} instead of an answer of WinRM", remedy=_ELSEWHERE)


def _called(text: str) -> str:
    title = page_title(text)
    return f"the web page {escaped(quoted(title), QUOTED)}" if title else f"a web page ({escaped(text, QUOTED)})"


@_translated.register
def _http_status(error: WinRMTransportError, asked: Asked) -> EsyncError:
    server = str(error.args[3]) if len(error.args) > 3 else ""  # noqa: PLR2004 - our transport adds it
    return _of_status(Answer(error.code, error.response_text.encode(), server=server), error, asked)


def _of_status(answer: Answer, error: Exception, asked: Asked) -> EsyncError:
    """An HTTP status without a fault of WinRM."""
    text = text_of(answer.body)
    row = known().of_status(answer.status, text, answer.server)
    if row is None:
        return unknown(asked, error, f"answered with HTTP status {answer.status} and no fault of WinRM", text)
    sent = _called(text) if _PAGE.search(text) else escaped(text, QUOTED)
    by = f" (server: {escaped(answer.server, 40)})" if answer.server else ""
    return failed(row, asked, f"; it sent {sent}{by}" if text or by else "")


@_translated.register
def _not_encrypted(error: NotEncrypted, asked: Asked) -> EsyncError:
    remedy = "nothing that is not encrypted is used over http: another machine may answer in its place; use https"
    return failed(Known(kind=Kind.BROKEN, says=quoted(error), remedy=remedy), asked)


# -- Faults of WinRM --------------------------------------------------------------------------------------


@_translated.register
def _fault(error: WSManFaultError, asked: Asked) -> EsyncError:
    code, reason = error.wsman_fault_code, quoted(error.reason)
    row = known().of_fault(code, error.fault_subcode or "")
    if row is None:
        number = "without a code" if code is None else f"{code % 2**32} (0x{code % 2**32:08X})"
        return unknown(asked, error, f"sent the fault {number}, which esync does not know", error.reason)
    return failed(row, asked, f": {reason} (fault {row.code}, {row.name})")


_translated.register(AuthenticationError)(logon_refused)
_translated.register(LogonBroken)(logon_broken)
_translated.register(SpnegoError)(logon_not_possible)
_translated.register(ImportError)(logon_not_possible)
