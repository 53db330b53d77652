"""The WinRM session against the lab, over https: its cost, and the error of each problem."""

import base64
import gc
import logging
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from lab.control.remote import LabProcess, spare_addresses
from tests.warm import warm_lab
from workers.errors import (
    AccessDenied,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    EsyncError,
    InputRefused,
    LogonRefused,
    MethodRefused,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.channel import Gate
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way, open_session

pytestmark = pytest.mark.integration
NODE = "S1"
PLANTED = "planted-Secret-7391"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Two nodes."""
    with warm_lab(tmp_path_factory.mktemp("lab"), "--nodes", "2", "--address", spare_addresses()) as running:
        yield running


@pytest.fixture(autouse=True)
def _healed(lab: LabProcess) -> Iterator[None]:
    yield
    lab.heal(NODE)


def endpoint(lab: LabProcess, **different: object) -> Endpoint:
    """The endpoint of the node."""
    known: dict[str, object] = {
        "node": NODE,
        "host": lab.nodes[NODE]["address"],
        "user": "esync",
        "secret": "env:PASSWORD",
        "ca_file": str(lab.ca_file),
        "connect_timeout": 2.0,
    }
    return Endpoint.model_validate(known | different)


@contextmanager
def opened(
    lab: LabProcess, *, password: str = "", patience: float = 20.0, **different: object
) -> Iterator[AgentSession]:
    """A session with the node."""
    secret = Secret(password or lab.password)
    session = open_session(endpoint(lab, **different), secret, deadline=60, patience=patience)
    try:
        yield session
    finally:
        session.close()


def counted(lab: LabProcess, what: str) -> int:
    """A counter of the node."""
    return int(lab.report(NODE)[what])


def test_a_logon_passes_the_gate_for_one_message_only(lab: LabProcess) -> None:
    """Not while it connects, and not while the command line starts."""
    before, passed = lab.reports()[NODE]["round_trips"], list[int]()

    def note() -> None:
        passed.append(lab.reports()[NODE]["round_trips"] - before)

    with closing(open_session(endpoint(lab), Secret(lab.password), gate=Gate(note, note))) as session:
        assert ([1, 2], 3) == (passed, session.counters.round_trips)


@pytest.mark.parametrize(("transport", "logon"), [(Transport.BASIC, 0), (Transport.NTLM, 1)])
def test_opening_and_five_asks_cost_one_powershell_and_two_trips_an_ask(
    lab: LabProcess, transport: Transport, logon: int
) -> None:
    """A shell, a command, and a send and a receive for each request; the greeting comes with the first reply."""
    starts, trips = counted(lab, "powershell_starts"), counted(lab, "round_trips")
    with opened(lab, transport=transport) as session:
        for _ in range(5):
            assert session.ask([ops.clock()], deadline=60)[0].ok
        counters = session.counters
        assert NODE == session.hello().computer
    assert (logon + 2 + 2 * 5, 1) == (counters.round_trips, counters.shells)
    assert 1 == counted(lab, "powershell_starts") - starts
    assert counters.round_trips + 1 == counted(lab, "round_trips") - trips  # one message closes the session


@pytest.mark.parametrize("transport", [Transport.BASIC, Transport.NTLM])
def test_a_wrong_password_is_tried_once(lab: LabProcess, transport: Transport) -> None:
    """Otherwise accounts are locked; the message names user, node and address, not the password."""
    before = counted(lab, "logons_tried")
    with pytest.raises(LogonRefused, match=rf"S1 \(127.*:5986\) refused the logon of esync with {transport}") as caught:
        open_session(endpoint(lab, transport=transport), Secret(PLANTED))
    assert 1 == counted(lab, "logons_tried") - before
    assert PLANTED not in f"{caught.value!r} {caught.value.remedy}"


def test_an_authority_that_did_not_issue_the_certificate_is_named(lab: LabProcess, tmp_path: Path) -> None:
    """Nothing is sent to a node without a trusted certificate."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    before = counted(lab, "round_trips")
    with pytest.raises(Unreachable, match=f"not trusted by {other}") as caught, opened(lab, ca_file=str(other)):
        pass
    assert "ca_file" in caught.value.remedy
    assert before == counted(lab, "round_trips")
    with pytest.raises(Unreachable, match="authorities of this system"), opened(lab, ca_file=None):
        pass


@pytest.mark.parametrize(
    ("different", "kind", "says"),
    [
        ({"port": 1}, Unreachable, "refused the connection"),
        ({"host": "no-such-host.invalid"}, Unreachable, "host name that cannot be resolved"),
        ({"ca_file": "/no/such.pem"}, InputRefused, "CA file /no/such.pem does not exist"),
        ({"ca_file": __file__}, InputRefused, "contains no certificates"),
        (  # without the packages, it names those
            {"transport": "kerberos", "user": "esync@NOWHERE.INVALID"},
            InputRefused,
            "with kerberos is not possible|no key distribution center is known for the realm of esync@NOWHERE.INVALID",
        ),
        ({"transport": "certificate"}, InputRefused, "not a PEM of certificate and key"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_a_wrong_endpoint_is_an_error_with_its_cause(
    lab: LabProcess, different: dict[str, Any], kind: type[EsyncError], says: str
) -> None:
    """A wrong endpoint is reported before any logon."""
    before = counted(lab, "logons_tried")
    with pytest.raises(kind, match=says) as caught, opened(lab, **different):
        pass
    assert caught.value.remedy
    assert before == counted(lab, "logons_tried")


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on loopback that handles each connection with the function."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accepted, args=[server, serve], daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _accepted(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                serve(connection)


def test_a_certificate_for_another_name_is_told_apart(lab: LabProcess, tmp_path: Path) -> None:
    """The authority is trusted, but the name is wrong: the message says so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    with (
        listener(lambda one: context.wrap_socket(one, server_side=True).close()) as port,
        pytest.raises(Unreachable, match="for another name"),
        opened(lab, host="127.0.0.1", port=port, ca_file=str(tmp_path / "ca.pem")),
    ):
        pass


def test_a_port_that_speaks_no_tls_is_told_apart(lab: LabProcess) -> None:
    """Usually the http port: the message says so."""

    def plain(one: socket.socket) -> None:
        one.recv(1000)
        one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        listener(plain) as port,
        pytest.raises(NodeRefused, match="failed the TLS handshake: it speaks HTTP") as caught,
        opened(lab, host="127.0.0.1", port=port),
    ):
        pass
    assert "5986, not 5985" in caught.value.remedy


@pytest.mark.parametrize(
    ("faults", "kind", "says"),
    [
        ({"http_errors": {"status": 503, "times": 99}}, Unreachable, "too busy"),
        ({"http_errors": {"status": 500, "times": 99}}, NodeRefused, "HTTP status 500"),
        ({"deny_access": True}, AccessDenied, "is not allowed to use WinRM"),
        ({"forbid_shells": True}, AccessDenied, "policy `Allow Remote Shell Access` is disabled"),
        ({"restrict_ntlm": True}, LogonRefused, "ended the NTLM logon of esync after the first message"),
        ({"offers": ["Kerberos", "Basic"]}, MethodRefused, "does not offer .* Negotiate; it offers Kerberos, Basic"),
        ({"shell_quota": 0}, NodeRefused, r"quota of WinRM: .*\(0\)"),
        ({"refuse_logons": True}, LogonRefused, "refused the logon"),
        ({"refuse_connections": True}, Unreachable, "refused the connection"),
        ({"lose_requests": 1}, Unreachable, "closed the connection"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_node_that_opens_no_session_is_an_error_with_its_cause(
    lab: LabProcess, faults: dict[str, object], kind: type[EsyncError], says: str
) -> None:
    """Each problem before the first request is its own error, with a remedy."""
    lab.break_node(NODE, **faults)
    with pytest.raises(kind, match=says) as caught, opened(lab):
        pass
    assert caught.value.remedy


STARTS: dict[str, tuple[dict[str, object], type[EsyncError], str]] = {
    "no PowerShell": ({"powershell": "missing"}, NodeRefused, "cmd.exe does not find powershell.exe"),
    "no PowerShell, German": (
        {"powershell": "missing", "code_page": 850},
        NodeRefused,
        "not find powershell.*Prüfen Sie",
    ),
    "no PowerShell, Japanese": (
        {"powershell": "missing", "code_page": 932},
        NodeRefused,
        "not find powershell.*内部コマンド",
    ),
    "a policy": ({"powershell": "blocked"}, AccessDenied, "a policy blocks PowerShell"),
    "language mode": ({"powershell": "restricted"}, NodeRefused, "restricted language mode"),
    "antivirus": ({"powershell": "antivirus"}, AccessDenied, r"blocked the agent \(AMSI\)"),
}


@pytest.mark.parametrize(("faults", "kind", "says"), STARTS.values(), ids=STARTS)
def test_a_powershell_that_does_not_start_is_an_error_with_its_cause(
    lab: LabProcess, faults: dict[str, object], kind: type[EsyncError], says: str
) -> None:
    """At once, of a class that is not tried again, with the words of the server in its language."""
    lab.break_node(NODE, **faults)
    with pytest.raises(kind, match=says) as caught, opened(lab) as session:
        session.ask([ops.clock()], deadline=60)
    assert caught.value.remedy
    assert "\ufffd" not in caught.value.message


@pytest.mark.parametrize("code_page", [65001, 850])
def test_a_text_of_autorun_before_the_first_reply_does_no_harm(lab: LabProcess, code_page: int) -> None:
    """It has no line end, so the reply follows it on the same line; the session stays a conversation."""
    lab.break_node(NODE, autorun="Willkommen, Gäste> ", code_page=code_page)
    with opened(lab) as session:
        assert session.ask([ops.clock()], deadline=60)[0].ok
        assert ("conversation", code_page) == (session.way, session.hello().code_page)


@pytest.mark.parametrize("kilobytes", [150, 500])
@pytest.mark.parametrize("way", ["auto", "batch"])
def test_no_message_is_larger_than_the_node_accepts(lab: LabProcess, kilobytes: int, way: Way) -> None:
    """Before the node has reported its limit, and afterwards, with more data than one message can have."""
    lab.break_node(NODE, envelope_kilobytes=kilobytes)
    session = open_session(endpoint(lab), Secret(lab.password), way=way)
    for _ in range(2):
        request = [ops.write("C:\\large.txt", os.urandom(400_000), expect=ops.ANY), ops.remove("C:\\large.txt")]
        assert [True, True] == [reply["changed"] for reply in session.ask(request, deadline=60)]
    assert str(kilobytes) == session.hello().winrm["MaxEnvelopeSizekb"]
    session.close()


@pytest.mark.parametrize(
    ("faults", "lost"),
    [
        ({"reset_replies": 1}, ConnectionLost),
        ({"lose_requests": 1}, ConnectionLost),
        ({"http_errors": {"status": 400, "times": 1}}, SessionLost),
        ({"http_errors": {"status": 503, "times": 1}}, ConnectionLost),
        ({"away": True}, ConnectionLost),
        ({"dies_after_operations": 0}, SessionLost),
    ],
    ids=str,
)
def test_an_unclear_error_closes_the_session(
    lab: LabProcess, faults: dict[str, object], lost: type[SessionLost]
) -> None:
    """The operations may have run: a new session has to observe again. The error says whether the node is gone."""
    with opened(lab) as session:
        session.hello()
        lab.break_node(NODE, **faults)
        for _ in range(2):  # the second request finds the session closed
            with pytest.raises(SessionLost) as caught:
                session.ask([ops.clock()], deadline=60)
            assert lost is caught.type
        lab.heal(NODE)
        assert not session.usable
    with opened(lab) as again:
        assert again.ask([ops.clock()], deadline=60)[0].ok


def test_a_shell_that_the_node_closed_ends_the_session(lab: LabProcess) -> None:
    """As after a restart of WinRM: another session deletes the shell."""
    with opened(lab) as session:
        session.hello()
        other = session._channel._winrm  # type: ignore[attr-defined]
        other.close_shell(session._channel._shell, close_session=False)  # type: ignore[attr-defined]
        with pytest.raises(SessionLost, match="has closed the shell"):
            session.ask([ops.clock()], deadline=60)


def test_receive_timeouts_are_not_errors(lab: LabProcess) -> None:
    """WinRM ends each wait after a few seconds; ours continues."""
    with opened(lab) as session:
        session.hello()
        lab.break_node(NODE, receive_timeouts=3)
        assert session.ask([ops.clock()], deadline=60)[0].ok


@pytest.mark.parametrize("stop", ["deadline", "cancel"])
def test_a_wait_ends_by_its_deadline_or_by_a_cancel(lab: LabProcess, stop: str) -> None:
    """Both end the wait while the node still works; the shell is closed afterwards."""
    lab.break_node(NODE, service={"never_starts": True, "stop_seconds": 0})
    service = "EktronWindowsServices30"
    with opened(lab) as session:
        session.hello()
        request = [ops.service(service, action="stop"), ops.service(service, action="start", deadline=500)]
        started = time.monotonic()
        if stop == "deadline":
            with pytest.raises(DeadlineExceeded):
                session.ask(request, deadline=1)
        else:
            with pytest.raises(Cancelled):
                session.ask(request, deadline=500, cancelled=lambda: time.monotonic() - started > 0.2)
        assert time.monotonic() - started < 60
    assert 0 == lab.report(NODE)["shells_open"]


def test_a_powershell_that_swallows_its_input_is_asked_by_batch(lab: LabProcess) -> None:
    """The session falls back to one PowerShell process per request, and reports it."""
    lab.break_node(NODE, stdin_swallowed=True)
    with opened(lab, patience=0.5) as session:
        session.ask([ops.clock()], deadline=60)
        (reply,) = session.ask([ops.stat("C:\\inetpub")], deadline=60)
    assert (True, "batch") == (reply["exists"], session.way)


def test_nothing_secret_is_logged(lab: LabProcess, caplog: pytest.LogCaptureFixture) -> None:
    """Even with debug logging: no password, no script, no data."""
    caplog.set_level(logging.DEBUG)
    with opened(lab) as session:
        session.ask([ops.write("C:\\planted.txt", PLANTED.encode(), expect=ops.ANY)], deadline=60)
        session.ask([ops.remove("C:\\planted.txt")], deadline=60)
    text = caplog.text
    assert lab.password not in text
    assert "NTLMSSP" not in text
    assert base64.b64encode(PLANTED.encode()).decode() not in text


def test_an_open_session_holds_nothing_of_who_used_it(lab: LabProcess) -> None:
    """A session stays open between steps; what the step before asked with, and all that it has read, does not stay."""

    class Step:
        """Says that its run is not cancelled."""

        def __call__(self) -> bool:
            return False

    pool, opening, asking = SessionPool(), Step(), Step()
    with pool.session(endpoint(lab), Secret(lab.password), cancelled=opening) as session:
        assert session.ask([ops.clock()], deadline=60, cancelled=asking)[0].ok
        steps = [weakref.ref(opening), weakref.ref(asking)]
    del opening, asking
    gc.collect()
    assert 1 == len(pool)
    assert [None, None] == [step() for step in steps]
    pool.close()


def test_the_pool_keeps_one_shell_for_many_threads(lab: LabProcess) -> None:
    """One PowerShell serves the threads in turn, and ends when the pool is closed."""
    before = counted(lab, "powershell_starts")
    pool = SessionPool()

    def use(_: int) -> bool:
        with pool.session(endpoint(lab), lambda: Secret(lab.password)) as session:
            return session.ask([ops.clock()], deadline=60)[0].ok

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(use, range(24)))
    assert 1 == counted(lab, "powershell_starts") - before
    pool.close()
    assert 0 == lab.report(NODE)["shells_open"]
