"""The translation of exceptions: which error, with which message and remedy, before and after a shell is open."""

import errno
import http.client
import socket
import ssl

import pytest
from spnego.exceptions import CredentialsExpiredError, NoCredentialError, SpnegoError
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from tasks.cluster import Retries
from workers.errors import (
    AccessDenied,
    Conflict,
    ConnectionLost,
    DeadlineExceeded,
    EsyncError,
    Failure,
    InputRefused,
    LogonRefused,
    MethodRefused,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.records import Endpoint, Transport
from workers.texts import escaped
from workers.winrm.answers import Answer, CredentialsRefused, LogonBroken, NotOffered, Unusable, in_utf8, text_of
from workers.winrm.bounded import NoAnswer, TooMuch
from workers.winrm.faults import Phase, mapped
from workers.winrm.known_answers import Kind, Known, known
from workers.winrm.not_connected import NotConnected
from workers.winrm.probe import OtherProtocol

AT = Endpoint(node="S1", host="h", port=5986, user="u", secret="env:X", ca_file="/ca.pem", connect_timeout=7)
UNKNOWN = "; the request may or may not have been carried out"
LOG = "esync cannot tell what kind of failure this is; see `unknown answer` in the log of the worker"
CURL = "curl -v https://h:5986/wsman"
LOGIN = "<!DOCTYPE html>\n<html><head><title>Sign in\n to Corp Proxy</title></head></html>"


def translated(error: BaseException, phase: Phase, at: Endpoint = AT, came: bytes = b"") -> EsyncError:
    """The error that leaves the border."""
    with pytest.raises(EsyncError) as caught, mapped(at, phase, "to open a shell", lambda: came):
        raise error
    return caught.value


def untrusted(why: str, code: int = 0) -> NotConnected:
    """A failed verification of a certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message, error.verify_code = why, code
    return NotConnected(error, tls=True)


def fault(code: int, reason: str = "why") -> WSManFaultError:
    """A fault of WinRM."""
    return WSManFaultError(500, "x", "x", reason, wsman_fault_code=code)


UNREACHABLE: dict[str, tuple[Exception, str, str]] = {
    "another name": (
        untrusted("Hostname mismatch", 62),
        "has a TLS certificate for another name: Hostname mismatch",
        "`host`",
    ),
    "expired": (
        untrusted("certificate has expired", 10),
        "has a TLS certificate that is out of date: certificate",
        "renew",
    ),
    "too early": (untrusted("is not yet valid", 9), "has a TLS certificate that is out of date: is not yet", "renew"),
    "untrusted": (untrusted("self-signed"), "has a TLS certificate that is not trusted by /ca.pem: self-", "`ca_file`"),
    "no TLS": (NotConnected(ssl.SSLError(1, "bad"), tls=True), "failed the TLS handshake: ", "source Schannel"),
    "silent port": (NotConnected(NoAnswer()), "did not answer within 7 s", "firewall"),
    "no name": (NotConnected(socket.gaierror(-2, "x")), "has a host name that cannot be resolved", "`host`"),
    "no host name": (NotConnected(UnicodeError()), "has a host name that cannot be resolved", "`host`"),
    "closed port": (NotConnected(ConnectionRefusedError()), "refused the connection", "winrm quickconfig"),
    "no route": (NotConnected(OSError(errno.EHOSTUNREACH, "no route")), "cannot be reached: ", "network"),
    "silence": (NoAnswer(), "accepted the connection but did not complete an answer in time", "WinRM service"),
    "reset": (ConnectionResetError(), "closed the connection when asked to open a shell", CURL),
    "closed": (
        http.client.RemoteDisconnected("x"),
        "closed the connection when asked to open a shell",
        "WinRM service",
    ),
    "no way there": (OSError(errno.ENETUNREACH, "x"), "closed the connection when asked to open a shell", CURL),
    "too many files": (NotConnected(OSError(errno.EMFILE, "x")), "cannot be reached: this machine opens no", "ulimit"),
    "cut off": (http.client.IncompleteRead(b""), "sent an answer that ends too early, or with an invalid length", CURL),
}


@pytest.mark.parametrize(("error", "message", "remedy"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_node_that_does_not_answer_is_unreachable_before_a_shell_is_open_and_lost_later(
    error: Exception, message: str, remedy: str
) -> None:
    """Later it is lost: a request must not be sent again, it may have been carried out. So also for a TLS failure."""
    before, later = translated(error, Phase.OPENING), translated(error, Phase.TALKING)
    assert (Unreachable, ConnectionLost) == (type(before), type(later))
    assert before.message.startswith(f"S1 (h:5986) {message}")
    assert before.message + UNKNOWN == later.message
    assert remedy in before.remedy
    assert before.remedy == later.remedy
    assert error is before.__cause__


SAME = {Kind.REFUSED: AccessDenied, Kind.LOGON: LogonRefused, Kind.UNFIT: NodeRefused, Kind.INPUT: InputRefused}
BEFORE = {**SAME, Kind.BROKEN: NodeRefused, Kind.BUSY: Unreachable, Kind.LATE: DeadlineExceeded, Kind.GONE: SessionLost}
LATER = {**SAME, Kind.BUSY: ConnectionLost}
RETRIED = {Failure.UNREACHABLE, Failure.TIMEOUT}


def check_row(row: Known, error: Exception, at: Endpoint = AT) -> None:
    """The kind decides the error and its class; the words are those of the row, with the names of the endpoint."""
    says = row.says.replace("{user}", "u").replace("{transport}", at.transport).replace("{url}", "https://h:5986/wsman")
    before, later = translated(error, Phase.OPENING, at), translated(error, Phase.TALKING, at)
    assert BEFORE[row.kind] is type(before)
    assert LATER.get(row.kind, SessionLost) is type(later)
    assert before.message.startswith(f"S1 (h:5986) {says}")
    assert before.remedy == later.remedy
    assert bool(row.remedy) == bool(before.remedy)
    assert "{" not in before.message + before.remedy.replace("@{", "")
    assert (UNKNOWN in later.message) == (row.kind in {Kind.BROKEN, Kind.BUSY, Kind.LATE})
    assert (before.failure in RETRIED) == (row.kind in {Kind.BUSY, Kind.LATE, Kind.GONE})


@pytest.mark.parametrize("row", known().fault, ids=lambda row: row.name)
def test_a_known_fault_of_winrm_has_its_class_words_and_remedy(row: Known) -> None:
    """With the words of the server, the code and its name."""
    check_row(row, fault(row.code))
    assert f": why (fault {row.code}, {row.name})" in translated(fault(row.code), Phase.OPENING).message


@pytest.mark.parametrize("row", [row for row in known().fault if row.subcode], ids=lambda row: row.subcode)
def test_a_fault_without_a_code_is_known_by_its_subcode(row: Known) -> None:
    """As other programs than WinRM send it, and WinRM in some cases."""
    check_row(row, WSManFaultError(500, "x", "x", "why", fault_subcode=f"w:{row.subcode}"))


@pytest.mark.parametrize("row", known().status, ids=lambda row: f"{row.code} {row.text or row.system}")
def test_a_known_http_status_has_its_class_words_and_remedy(row: Known) -> None:
    """Without a fault of WinRM; what was sent, and by which program, is shown."""
    server = "Microsoft-HTTPAPI/2.0" if row.system else "nginx"
    error = WinRMTransportError("http", row.code, f"<p>{row.text.upper()}", server)
    check_row(row, error)
    message = translated(error, Phase.OPENING).message
    assert f"; it sent '<p>{row.text.upper()}' (server: '{server}')" in message
    assert str(row.code) in message


BANNERS = {
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "RDP": b"\x03\x00\x00\x13\x0e\xd0",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n",
    "mail": b"220 mail ESMTP\r\n",
    "IMAP": b"* OK ready\r\n",
    "VNC": b"RFB 003.008\n",
}


@pytest.mark.parametrize("sent", BANNERS.values(), ids=BANNERS)
def test_another_protocol_is_named(sent: bytes) -> None:
    """Instead of TLS, and instead of an HTTP answer; with its first bytes."""
    row = known().of_banner(sent)
    assert row
    text = escaped(sent.decode("latin-1"), 200)
    instead = translated(OtherProtocol(sent), Phase.OPENING)
    assert (NodeRefused, f"S1 (h:5986) failed the TLS handshake: it {row.says}: {text}") == (
        type(instead),
        instead.message,
    )
    assert "port" in instead.remedy
    if sent.startswith(b"HTTP/"):
        return  # not instead of an HTTP answer
    answer = translated(http.client.BadStatusLine(sent.decode("latin-1")), Phase.OPENING)
    assert (NodeRefused, f"S1 (h:5986) {row.says}: {text}") == (type(answer), answer.message)
    assert answer.remedy == instead.remedy


@pytest.mark.parametrize("row", known().alert, ids=lambda row: row.text)
def test_an_alert_of_tls_is_explained(row: Known) -> None:
    """By what the server ended the handshake with, and where its own reason is; not by a guess about the port."""
    reason = ssl.SSLError(1, "alert")
    reason.reason = f"TLSV1_ALERT_{row.text}"
    found = translated(NotConnected(reason, tls=True), Phase.OPENING)
    name = row.text.replace("_", " ").lower()
    assert f"S1 (h:5986) ended the TLS handshake: it {row.says} (alert {name})" == found.message
    assert (Unreachable, row.remedy) == (type(found), found.remedy)
    later = translated(reason, Phase.TALKING)  # TLS 1.3 says it with the first answer
    assert f"S1 (h:5986) ended the TLS connection: it {row.says}{UNKNOWN}" == later.message


def test_a_redirect_is_not_of_winrm() -> None:
    """Another attempt is redirected, too."""
    found = translated(Unusable("sent a redirect (HTTP 302 to https://x/)", Answer(302, b"moved")), Phase.OPENING)
    assert "S1 (h:5986) sent a redirect (HTTP 302 to https://x/), which WinRM never does" == found.message
    assert NodeRefused is type(found)
    assert "login page" in found.remedy


def test_what_looks_like_a_fault_is_shown_as_it_came() -> None:
    """A fault that pywinrm cannot parse: the answer is in the message."""
    error = ValueError("odd")
    error.__context__ = WinRMTransportError("http", 500, '<f Code="odd"/>')  # as an error while that one is handled
    found = translated(error, Phase.OPENING)
    assert """ValueError), when asked to open a shell: '<f Code="odd"/>'""" in found.message


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_an_answer_in_utf_16_is_read(order: str) -> None:
    """By its byte order mark; its declaration, which is wrong then, is left out."""
    mark = b"\xff\xfe" if order == "utf-16-le" else b"\xfe\xff"
    body = mark + '<?xml version="1.0" encoding="utf-16"?><a>ü</a>'.encode(order)
    assert "<a>ü</a>" == in_utf8(body).decode() == text_of(body)
    assert b"<a>\0</a>" == in_utf8(b"<a>\0</a>")


def test_a_code_of_32_bits_counts() -> None:
    """Whether a server writes it with a sign or without."""
    assert known().of_fault(-2144108116) == known().of_fault(2150859180)


def test_each_row_of_a_banner_is_used_by_a_case_above() -> None:
    """A row that cannot be reached would be dead."""
    assert list(known().banner) == [known().of_banner(sent) for sent in BANNERS.values()]


KERBEROS = AT.model_copy(update={"transport": Transport.KERBEROS})


@pytest.mark.parametrize("row", known().ticket, ids=lambda row: row.text)
def test_a_known_error_of_kerberos_has_its_class_words_and_remedy(row: Known) -> None:
    """The words of the library are in any case, and anywhere in the chain of causes; NTLM does not have them."""
    error = SpnegoError(1, context_msg="Processing security token")
    error.__cause__ = OSError(f"Minor (1): {row.text.capitalize()} while getting credentials")
    check_row(row, error, KERBEROS)
    broken = LogonBroken("sent an invalid logon token (SpnegoError)")
    broken.__cause__ = error
    check_row(row, broken, KERBEROS)
    assert InputRefused is type(translated(error, Phase.OPENING))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CredentialsExpiredError(), "the Kerberos ticket of u has expired"),
        (NoCredentialError(), "there is no Kerberos ticket for u"),
    ],
)
def test_a_missing_or_expired_ticket_names_ticket_and_kinit(error: Exception, says: str) -> None:
    """Also without words of the system's library."""
    found = translated(error, Phase.OPENING, KERBEROS)
    assert f"S1 (h:5986) {says}: " in found.message
    assert "kinit u" in found.remedy


UNKNOWN_ANSWERS: dict[str, tuple[Exception, bytes, str, str]] = {
    "of a parser": (
        KeyError("x"),
        b"<a>\r\n\x1b" + b"y" * 300,
        "sent an answer that esync does not know (KeyError)",
        "'<a>\\r\\n\\x1b" + "y" * 194 + "…'",
    ),
    "no text": (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), b"\xff", "does not know (UnicodeDecodeError)", "'\u00ff'"),
    "nothing": (KeyError("x"), b"", "sent an answer that esync does not know (KeyError)", "nothing"),
    "of the system": (PermissionError(13, "x"), b"", "does not know (PermissionError)", "nothing"),
    "too large": (TooMuch(), b"", "sent an answer that is too large", ""),
    "unusable": (Unusable("sent a\nredirect"), b"", "sent a redirect", "nothing"),
    "HTTP": (
        http.client.BadStatusLine("HTTP/1.1 x"),
        b"",
        "sent an invalid HTTP answer (BadStatusLine)",
        "'HTTP/1.1 x'",
    ),
    "of pywinrm": (WinRMError("odd"), b"<b/>", "sent an answer that esync does not know (WinRMError)", "'<b/>'"),
    "of HTTP": (http.client.LineTooLong("x"), b"", "sent an invalid HTTP answer (LineTooLong)", ""),
    "a banner": (http.client.BadStatusLine("EHLO\r\n"), b"", "sent an answer that is not HTTP", "'EHLO\\r\\n'"),
    "a protocol": (OtherProtocol(b"EHLO"), b"", "failed the TLS handshake: it is not HTTP", "'EHLO'"),
    "logon": (LogonBroken("ended the logon"), b"", "ended the logon", ""),
    "fault": (fault(171), b"", "sent the fault 171 (0x000000AB), which esync does not know", "'why'"),
    "fault without code": (WSManFaultError(500, "x", "x", "why"), b"", "sent the fault without a code", "'why'"),
    "status": (
        WinRMTransportError("http", 418, "tea"),
        b"",
        "answered with HTTP status 418 and no fault of WinRM",
        "'tea'",
    ),
}


@pytest.mark.parametrize(("error", "came", "says", "shown"), UNKNOWN_ANSWERS.values(), ids=UNKNOWN_ANSWERS)
def test_an_unknown_answer_says_what_was_asked_and_what_came_and_guesses_nothing(
    error: Exception, came: bytes, says: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first 200 characters, escaped; where the log is; no cause, no port, no remedy for something else."""
    before = translated(error, Phase.OPENING, came=came)
    asked = ", when asked to open a shell"
    assert says in before.message
    assert f"{asked}: {shown}" in before.message if shown else before.message.endswith(asked)
    assert (NodeRefused, before.remedy) == (type(before), f"{LOG} (logs/worker.log in the state folder, or its stderr)")
    later = translated(error, Phase.TALKING, came=came)
    assert (SessionLost, before.message + UNKNOWN, before.remedy) == (type(later), later.message, later.remedy)
    assert before.message.isprintable()
    assert ["unknown answer"] * 2 == [record.message for record in caplog.records]
    for record in caplog.records:
        assert ("S1", "to open a shell", error) == (record.node, record.asked, (record.exc_info or ("", ""))[1])  # type: ignore[attr-defined]


PAGES: dict[str, tuple[Exception, bytes]] = {
    "instead of an answer": (KeyError("x"), LOGIN.encode()),
    "that was not parsed": (Unusable("sent XML that defines entities", Answer(200, LOGIN.encode())), b""),
    "after a redirect": (Unusable("sent a redirect", Answer(302, LOGIN.encode())), b""),
}


@pytest.mark.parametrize(("error", "came"), PAGES.values(), ids=PAGES)
def test_a_web_page_is_called_one(error: Exception, came: bytes) -> None:
    """With its title: the page of a proxy, a login page, another web server."""
    for phase in Phase:
        found = translated(error, phase, came=came)
        says = "S1 (h:5986) sent the web page 'Sign in to Corp Proxy' instead of an answer of WinRM"
        assert (NodeRefused, says) == (type(found), found.message)
        assert CURL in found.remedy
    short = translated(error, Phase.OPENING, came=b"<html>x") if came else None
    assert short is None or "sent a web page ('<html>x') instead" in short.message


def test_a_page_with_an_http_status_has_the_class_of_the_status() -> None:
    """Windows sends its own pages, with a document type, when a service is stopped: that may be over soon."""
    page = b"<!DOCTYPE HTML><TITLE>Service Unavailable</TITLE>"
    error = Unusable("sent XML that defines entities", Answer(503, page, server="Microsoft-HTTPAPI/2.0"))
    found = translated(error, Phase.OPENING)
    assert Unreachable is type(found)
    assert "it sent the web page 'Service Unavailable' (server: 'Microsoft-HTTPAPI/2.0')" in found.message


BASIC = AT.model_copy(update={"transport": Transport.BASIC})
LOGONS: dict[str, tuple[Exception, Endpoint, type[EsyncError], str, str]] = {
    "refused": (
        CredentialsRefused(("Negotiate", 'Basic realm="WSMAN"')),
        AT,
        LogonRefused,
        "S1 (h:5986) refused the logon of u with ntlm; it offers Negotiate, Basic",
        "the env secret",
    ),
    "refused, without offers": (
        InvalidCredentialsError("x"),
        AT,
        LogonRefused,
        "refused the logon of u with ntlm",
        "4625",
    ),
    "NTLM restricted": (
        CredentialsRefused(("Negotiate",), early=True),
        AT,
        LogonRefused,
        "ended the NTLM logon of u after the first message, before it could judge a password; it offers Negotiate",
        "Restrict NTLM: Incoming NTLM traffic` there does that: use Kerberos",
    ),
    "Basic not offered": (
        CredentialsRefused(("Negotiate", "Kerberos")),
        BASIC,
        MethodRefused,
        "does not offer the logon method Basic; it offers Negotiate, Kerberos",
        "or allow basic there (winrm get",
    ),
    "Basic refused": (
        CredentialsRefused(("Basic realm=x",)),
        BASIC,
        LogonRefused,
        "refused the logon of u with basic",
        "env",
    ),
    "not offered": (
        NotOffered("does not offer the logon method Negotiate; it offers Kerberos"),
        AT,
        MethodRefused,
        "S1 (h:5986) does not offer the logon method Negotiate; it offers Kerberos",
        "or allow ntlm there (winrm get winrm/config/service/auth)",
    ),
    "Kerberos refused": (CredentialsRefused(("Kerberos",)), KERBEROS, LogonRefused, "with kerberos; it", "setspn"),
    "no package": (
        ImportError("no krb5"),
        AT,
        InputRefused,
        "S1: logon with ntlm is not possible from this machine: no krb5",
        "install the packages",
    ),
    "an error of Kerberos": (
        SpnegoError(1, context_msg="odd"),
        KERBEROS,
        InputRefused,
        "S1: logon with kerberos is not possible from this machine: ",
        "nothing was sent; see `unknown answer`",
    ),
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("error", "at", "kind", "message", "remedy"), LOGONS.values(), ids=LOGONS)
def test_a_logon_that_fails_is_never_tried_again(
    error: Exception, at: Endpoint, kind: type[EsyncError], message: str, remedy: str, phase: Phase
) -> None:
    """In both phases. It names who refused what, and what the node offers."""
    found = translated(error, phase, at)
    assert kind is type(found)
    assert message in found.message
    assert remedy in found.remedy
    assert 1 == Retries().attempts(found.failure)


def test_a_shell_that_does_not_open_in_time_is_a_deadline() -> None:
    """With an open shell, a request may have been carried out."""
    before = translated(WinRMOperationTimeoutError(), Phase.OPENING)
    assert (DeadlineExceeded, "S1 (h:5986) did not finish in time, when asked to open a shell") == (
        type(before),
        before.message,
    )
    assert before.remedy
    later = translated(WinRMOperationTimeoutError(), Phase.TALKING)
    assert (SessionLost, f"{before.message}{UNKNOWN}") == (type(later), later.message)


def test_our_own_errors_and_interrupts_pass_unchanged() -> None:
    """The border translates foreign exceptions only."""
    ours = Conflict("x")
    assert ours is translated(ours, Phase.TALKING)
    with pytest.raises(KeyboardInterrupt), mapped(AT, Phase.TALKING):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("scheme", "listener"), [("https", "winrm quickconfig -transport:https"), ("http", "winrm quickconfig")]
)
def test_a_refused_connection_has_the_command_for_the_listener_that_is_asked(scheme: str, listener: str) -> None:
    """For a server whose WinRM has stopped, too; over http no https listener is needed."""
    at = AT.model_copy(update={"scheme": scheme})
    found = translated(NotConnected(ConnectionRefusedError()), Phase.OPENING, at)
    assert found.remedy.startswith(f"start WinRM there ({listener} sets it up)")


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
    found = translated(fault(5, "a  \n b\x1b" + "x" * 500), Phase.OPENING)
    text = found.message.partition("use WinRM: ")[2].partition(" (fault")[0]
    assert (200, "a b x") == (len(text), text[:5])


@pytest.mark.parametrize(("host", "url"), [("h", "https://h:5986/wsman"), ("::1", "https://[::1]:5986/wsman")])
def test_the_address_for_a_look_by_hand_can_be_pasted(host: str, url: str) -> None:
    """Also with an IPv6 address."""
    at = AT.model_copy(update={"host": host})
    assert f"curl -v {url}" in translated(NoAnswer(), Phase.OPENING, at).remedy
