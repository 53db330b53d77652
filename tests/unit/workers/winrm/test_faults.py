"""The translation of exceptions: which error, with which message and remedy, before and after a shell is open."""

import errno
import http.client
import socket
import ssl

import pytest
from spnego.exceptions import NoCredentialError
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from workers.errors import (
    AccessDenied,
    Conflict,
    DeadlineExceeded,
    EsyncError,
    InputRefused,
    LogonRefused,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.records import Endpoint, Transport
from workers.winrm.bounded import NoAnswer, TooMuch
from workers.winrm.faults import Phase, mapped
from workers.winrm.logon import LogonBroken
from workers.winrm.transport import NotConnected, Unusable

AT = Endpoint(node="S1", host="h", port=5986, user="u", secret="env:X", ca_file="/ca.pem", connect_timeout=7)
UNKNOWN = "; the request may or may not have been carried out"
LISTENER = "check that the port is an https listener of WinRM (5986)"


def translated(error: BaseException, phase: Phase, at: Endpoint = AT) -> EsyncError:
    """The error that leaves the border."""
    with pytest.raises(EsyncError) as caught, mapped(at, phase):
        raise error
    return caught.value


def untrusted(why: str) -> NotConnected:
    """A failed verification of a certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = why
    return NotConnected(error, tls=True)


def fault(code: int, reason: str = "why") -> WSManFaultError:
    """A fault of WinRM."""
    return WSManFaultError(500, "x", "x", reason, wsman_fault_code=code)


UNREACHABLE: dict[str, tuple[Exception, str, str]] = {
    "another name": (
        untrusted("Hostname mismatch"),
        "has a TLS certificate for another name: Hostname mismatch",
        "`host`",
    ),
    "expired": (
        untrusted("certificate has expired"),
        "has a TLS certificate that is out of date: certificate",
        "renew",
    ),
    "too early": (untrusted("is not yet valid"), "has a TLS certificate that is out of date: is not yet", "renew"),
    "untrusted": (untrusted("self-signed"), "has a TLS certificate that is not trusted by /ca.pem: self-", "`ca_file`"),
    "no TLS": (NotConnected(ssl.SSLError(1, "bad"), tls=True), "failed the TLS handshake: ", "5986, not 5985"),
    "silent port": (NotConnected(NoAnswer()), "did not answer within 7 s", "firewall"),
    "no name": (NotConnected(socket.gaierror(-2, "x")), "has a host name that cannot be resolved", "`host`"),
    "no host name": (NotConnected(UnicodeError()), "has a host name that cannot be resolved", "`host`"),
    "closed port": (NotConnected(ConnectionRefusedError()), "refused the connection", "winrm quickconfig"),
    "no route": (NotConnected(OSError(errno.EHOSTUNREACH, "no route")), "cannot be reached: ", "network"),
    "silence": (NoAnswer(), "accepted the connection but did not complete an answer in time", "WinRM service"),
    "reset": (ConnectionResetError(), "closed the connection during a request", "WinRM service"),
    "closed": (http.client.RemoteDisconnected("x"), "closed the connection during a request", "WinRM service"),
    "cut off": (http.client.IncompleteRead(b""), "closed the connection during a request", "WinRM service"),
    "busy": (fault(170), "is too busy to accept a request", "restart the WinRM service"),
    "unavailable": (
        WinRMTransportError("http", 503, ""),
        "is too busy to accept a request",
        "restart the WinRM service",
    ),
}


@pytest.mark.parametrize(("error", "message", "remedy"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_node_that_does_not_answer_is_unreachable_only_before_a_shell_is_open(
    error: Exception, message: str, remedy: str
) -> None:
    """Later, a request must not be sent again: it may have been carried out. So also for a TLS failure."""
    before, later = translated(error, Phase.OPENING), translated(error, Phase.TALKING)
    assert (Unreachable, SessionLost) == (type(before), type(later))
    assert before.message.startswith(f"S1 (h:5986) {message}")
    assert before.message + UNKNOWN == later.message
    assert remedy in before.remedy
    assert before.remedy == later.remedy
    assert error is before.__cause__


QUOTA = "reached a quota of WinRM: why"
QUOTAS = (2150859173, 2150859174, 2150859175, 2150859176, 2150859179, 2150859241)
BROKEN: dict[str, tuple[Exception, str, str]] = {
    "too large": (TooMuch(), "sent an answer that is too large", LISTENER),
    "unusable": (Unusable("sent a\nredirect"), "sent a redirect", LISTENER),
    "no text": (Unusable(""), "sent an answer that is not HTTP", LISTENER),
    "of pywinrm": (WinRMError("odd"), "odd", LISTENER),
    "of HTTP": (http.client.BadStatusLine("x"), "sent an invalid HTTP answer (BadStatusLine)", LISTENER),
    "of a parser": (KeyError("x"), "sent an answer that is not WS-Management (KeyError)", LISTENER),
    "logon": (LogonBroken("no token"), "no token", "allow ntlm there (winrm get winrm/config/service/auth)"),
    **{f"quota {code}": (fault(code), QUOTA, "close shells that are left over") for code in QUOTAS},
    "other fault": (fault(171), "sent a fault: why (code 171)", ""),
    "no /wsman": (WinRMTransportError("http", 404, ""), "answered with HTTP status 404", "/wsman does not exist"),
    "status": (WinRMTransportError("http", 500, ""), "answered with HTTP status 500", ""),
}  # fmt: skip


@pytest.mark.parametrize(("error", "message", "remedy"), BROKEN.values(), ids=BROKEN)
def test_an_invalid_answer_is_a_refusal_before_a_shell_is_open_and_unclear_later(
    error: Exception, message: str, remedy: str
) -> None:
    """A refusal always has a remedy."""
    before, later = translated(error, Phase.OPENING), translated(error, Phase.TALKING)
    assert (NodeRefused, f"S1 (h:5986) {message}") == (type(before), before.message)
    assert (SessionLost, f"S1 (h:5986) {message}{UNKNOWN}") == (type(later), later.message)
    assert later.remedy.startswith(remedy) or remedy in later.remedy
    assert (later.remedy or LISTENER) == before.remedy


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    ("error", "kind", "message", "remedy"),
    [
        (InvalidCredentialsError("x"), LogonRefused, "S1 (h:5986) refused the logon of u with ntlm", "the env secret"),
        (
            NoCredentialError(context_msg="no ticket"),
            InputRefused,
            "S1: logon with ntlm is not possible from",
            "install the packages",
        ),
        (
            ImportError("no krb5"),
            InputRefused,
            "S1: logon with ntlm is not possible from this machine: no krb5",
            "ntlm",
        ),
        (fault(5), AccessDenied, "S1 (h:5986): u logged on, but is not allowed to use WinRM: why", "administrator"),
        (fault(2150858843), SessionLost, "S1 (h:5986) has closed the shell: why", ""),
        (
            WinRMTransportError("http", 403, ""),
            AccessDenied,
            "S1 (h:5986) does not allow u to use WinRM (HTTP 403)",
            "",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_some_errors_are_the_same_in_both_phases(
    error: Exception, kind: type[EsyncError], message: str, remedy: str, phase: Phase
) -> None:
    """They have a clear cause."""
    found = translated(error, phase)
    assert kind is type(found)
    assert found.message.startswith(message)
    assert remedy in found.remedy


def test_a_shell_that_does_not_open_in_time_is_a_deadline() -> None:
    """With an open shell, a request may have been carried out."""
    before = translated(WinRMOperationTimeoutError(), Phase.OPENING)
    assert (DeadlineExceeded, "S1 (h:5986) did not open a shell in time") == (type(before), before.message)
    assert before.remedy
    later = translated(WinRMOperationTimeoutError(), Phase.TALKING)
    assert (SessionLost, f"S1 (h:5986) did not complete a request in time{UNKNOWN}") == (type(later), later.message)


def test_our_own_errors_and_interrupts_pass_unchanged() -> None:
    """The border translates foreign exceptions only."""
    ours = Conflict("x")
    assert ours is translated(ours, Phase.TALKING)
    with pytest.raises(KeyboardInterrupt), mapped(AT, Phase.TALKING):
        raise KeyboardInterrupt


def test_without_a_ca_file_the_message_names_the_authorities_of_the_system() -> None:
    """The operator has to know which authorities were used."""
    at = AT.model_copy(update={"ca_file": None, "transport": Transport.BASIC})
    assert (
        "not trusted by the certificate authorities of this system: "
        in translated(untrusted("x"), Phase.OPENING, at).message
    )
    assert "refused the logon of u with basic" in translated(InvalidCredentialsError("x"), Phase.OPENING, at).message


def test_a_foreign_text_is_one_line_of_200_characters() -> None:
    """Without control characters; spaces count once."""
    found = translated(Unusable("a  \n b\x1b" + "x" * 500), Phase.OPENING)
    text = found.message.removeprefix("S1 (h:5986) ")
    assert (200, "a b x") == (len(text), text[:5])
    long = translated(Unusable(" " * 700 + "y" * 300), Phase.OPENING).message.removeprefix("S1 (h:5986) ")
    assert "y" * 99 + "…" == long
