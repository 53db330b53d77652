"""Every way into a server, against a lab whose servers each offer one way only."""

import base64
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from pypsrp.client import Client
from ruamel.yaml import YAML
from spnego.channel_bindings import GssChannelBindings
from winrm.exceptions import WinRMTransportError
from winrm.protocol import Protocol

from lab.control.certificates import Authority
from lab.control.remote import LabProcess, spare_addresses
from tests.warm import warm_lab
from workers.errors import EsyncError, LogonRefused, NodeRefused, SessionLost, Unreachable
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm import logon
from workers.winrm import operations as ops
from workers.winrm.channel import Limit
from workers.winrm.encryption import NotEncrypted
from workers.winrm.session import open_session
from workers.winrm.transport import HttpsTransport

pytestmark = pytest.mark.integration

#: One server for each way: what its listener is like.
WAYS: dict[str, dict[str, Any]] = {
    "PLAIN": {"scheme": "http", "offers": ["negotiate"]},
    "STRICT": {"offers": ["negotiate"], "strict_binding": True},
    "BASIC": {"offers": ["basic"]},
    "CRED": {"offers": ["credssp"]},
    "CREDHTTP": {"scheme": "http", "offers": ["credssp"]},
    "CERT": {"offers": ["certificate"]},
    "OLD": {"tls_1_0": True},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Servers that each offer one way."""
    folder = tmp_path_factory.mktemp("lab")
    base = spare_addresses().rpartition(".")[0]
    nodes = [
        {"name": name, "address": f"{base}.{11 + at}", "ways": ways} for at, (name, ways) in enumerate(WAYS.items())
    ]
    YAML().dump({"origin": "PLAIN", "disk": "memory", "nodes": nodes}, folder / "lab.yaml")
    with warm_lab(folder, "--config", str(folder / "lab.yaml")) as running:
        yield running


def endpoint(lab: LabProcess, node: str, transport: Transport = Transport.NTLM, **different: Any) -> Endpoint:  # noqa: ANN401 - fields
    """How to reach a server."""
    known = lab.nodes[node]
    return Endpoint.model_validate(
        {
            "node": node, "host": known["address"], "port": known["port"], "transport": transport, "user": "esync",
            "secret": "env:X", "ca_file": str(lab.ca_file), "scheme": WAYS[node].get("scheme", "https"),
        } | different
    )  # fmt: skip


def computer(at: Endpoint, secret: str) -> str:
    """What a server says its name is, after a logon and a few requests of each size."""
    session = open_session(at, Secret(secret))
    try:
        data = os.urandom(400_000)  # cannot be compressed
        session.ask([ops.write(r"C:\large.bin", data, expect=ops.ABSENT)], deadline=30)
        (read,) = session.ask([ops.read(r"C:\large.bin")], deadline=30)
        assert data == ops.data_of(read)
        session.ask([ops.remove(r"C:\large.bin", expect=ops.ANY)], deadline=30)
        return session.hello().computer
    finally:
        session.close()


WITH_PASSWORD = pytest.mark.parametrize(
    ("node", "transport"),
    [
        ("PLAIN", Transport.NTLM),
        ("STRICT", Transport.NTLM),
        ("BASIC", Transport.BASIC),
        ("CRED", Transport.CREDSSP),
        ("CREDHTTP", Transport.CREDSSP),
    ],
)


@WITH_PASSWORD
def test_each_way_carries_a_conversation(lab: LabProcess, node: str, transport: Transport) -> None:
    """Small and large messages in both directions, with one logon."""
    before = lab.report(node)["logons_tried"]
    assert node == computer(endpoint(lab, node, transport), lab.password)
    assert 1 == lab.report(node)["logons_tried"] - before


@WITH_PASSWORD
def test_a_wrong_password_is_one_refused_logon(lab: LabProcess, node: str, transport: Transport) -> None:
    """By every way, and nothing is retried."""
    before = lab.report(node)
    with pytest.raises(LogonRefused):
        computer(endpoint(lab, node, transport), "wrong")
    after = lab.report(node)
    assert (1, 0) == tuple(after[key] - before[key] for key in ("logons_refused", "shells_opened"))


def test_a_client_certificate_is_mapped_to_its_account(lab: LabProcess) -> None:
    """The certificate of another user is refused."""
    at = endpoint(lab, "CERT", Transport.CERTIFICATE)
    assert "CERT" == computer(at, (lab.folder / "client.pem").read_text())
    with pytest.raises(LogonRefused):
        computer(at, Authority(lab.folder).client("other"))


@pytest.mark.parametrize("binding", [b"", b"the certificate of another server"])
def test_a_strict_listener_refuses_a_logon_that_is_bound_to_nothing_or_another_certificate(
    lab: LabProcess, binding: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a relay in between cannot use the logon: it has a different certificate."""
    bound = GssChannelBindings(application_data=b"tls-server-end-point:" + binding) if binding else None
    monkeypatch.setattr(logon, "_bindings", lambda _: bound)
    with pytest.raises(LogonRefused):
        computer(endpoint(lab, "STRICT"), lab.password)


def test_a_listener_with_tls_1_0_is_accepted_on_request(lab: LabProcess) -> None:
    """And said to be one otherwise."""
    with pytest.raises(Unreachable, match="speaks only TLS versions older than"):
        computer(endpoint(lab, "OLD"), lab.password)
    assert "OLD" == computer(endpoint(lab, "OLD", tls_minimum="1.0"), lab.password)


@pytest.mark.parametrize("transport", [Transport.BASIC, Transport.CERTIFICATE])
def test_a_method_that_encrypts_nothing_is_not_used_over_http(lab: LabProcess, transport: Transport) -> None:
    """Nothing is sent."""
    before = lab.report("PLAIN")["round_trips"]
    with pytest.raises(EsyncError, match=f"PLAIN: {transport} over http encrypts nothing, so nothing was sent"):
        computer(endpoint(lab, "PLAIN", transport), lab.password)
    assert before == lab.report("PLAIN")["round_trips"]


@pytest.mark.parametrize("node", ["PLAIN", "STRICT"])
def test_pypsrp_is_at_home(lab: LabProcess, node: str) -> None:
    """Another client reads and writes the same envelopes, and binds its logon in the same way."""
    plain = node == "PLAIN"
    with Client(
        lab.nodes[node]["address"], username="esync", password=lab.password, auth="negotiate", ssl=not plain,
        port=lab.nodes[node]["port"], encryption="always" if plain else "auto", no_proxy=True,
        cert_validation=True if plain else str(lab.ca_file),
    ) as other:  # fmt: skip
        assert (f"{node}\r\n", "", 0) == other.execute_cmd("hostname")


def pywinrm(lab: LabProcess, encryption: Literal["always", "never"]) -> Protocol:
    """Pywinrm over http."""
    known = lab.nodes["PLAIN"]
    return Protocol(
        f"http://{known['address']}:{known['port']}/wsman", transport="ntlm", username="esync", password=lab.password,
        message_encryption=encryption, proxy=None,
    )  # fmt: skip


def test_pywinrm_is_at_home_only_with_encryption(lab: LabProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is not encrypted is not carried out."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    shell = pywinrm(lab, "always").open_shell()
    assert shell
    before = lab.report("PLAIN")["shells_opened"]
    with pytest.raises(WinRMTransportError):
        pywinrm(lab, "never").open_shell()
    assert before == lab.report("PLAIN")["shells_opened"]


def broken(*connections: socket.socket) -> None:
    """Breaks these connections."""
    for one in connections:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@dataclass
class Between:
    """A relay between client and server that sees, and may change, every answer.

    Attributes:
        change: what becomes of an answer, head and body, on its way to the client.
        sent, received: everything in that direction, as the client has it.
    """

    port: int = 0
    change: Callable[[bytes], bytes] = field(default=lambda answer: answer)
    sent: bytes = b""
    received: bytes = b""
    connections: list[socket.socket] = field(default_factory=list)

    def cut(self) -> None:
        """Breaks every connection."""
        broken(*self.connections)

    def requests(self, client: socket.socket, server: socket.socket) -> None:
        """Carries requests until one side ends."""
        with suppress(OSError):
            while data := client.recv(2**20):
                self.sent += data
                server.sendall(data)
        broken(client, server)  # this pair only: the next connection may be there already

    def answers(self, client: socket.socket, server: socket.socket) -> None:
        """Carries whole answers until one side ends."""
        with suppress(OSError), server.makefile("rb") as file:
            while head := file.readline():
                while not head.endswith(b"\r\n\r\n") and (line := file.readline()):
                    head += line
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                answer = self.change(head + file.read(length))
                self.received += answer
                client.sendall(answer)
        broken(client, server)  # this pair only: the next connection may be there already


@contextmanager
def between(lab: LabProcess) -> Iterator[Between]:
    """A relay in front of the http listener."""
    relay, known = Between(), lab.nodes["PLAIN"]
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                client = listening.accept()[0]
                server = socket.create_connection((known["address"], known["port"]))
                relay.connections += [client, server]
                for carry in (relay.requests, relay.answers):
                    threads.append(threading.Thread(target=carry, args=(client, server)))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay.port = listening.getsockname()[1]
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield relay
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            relay.cut()
            for thread in threads:
                thread.join()
            for one in relay.connections:
                one.close()


def through(relay: Between, lab: LabProcess) -> Endpoint:
    """The http listener behind the relay."""
    return endpoint(lab, "PLAIN", host="127.0.0.1", port=relay.port)


def test_nothing_readable_crosses_the_network(lab: LabProcess) -> None:
    """No message in either direction, and no password."""
    with between(lab) as relay:
        assert "PLAIN" == computer(through(relay, lab), lab.password)
        for data in (relay.sent, relay.received):
            assert len(data) > 500_000
            for readable in (b"Envelope", b"powershell", b"large.bin", lab.password.encode()):
                assert readable not in data


def test_a_new_connection_has_a_new_logon_and_new_keys(lab: LabProcess) -> None:
    """After a break between two messages the second one is encrypted again, and is carried out once."""
    with between(lab) as relay:
        before = lab.report("PLAIN")
        session = open_session(through(relay, lab), Secret(lab.password))
        session.hello()
        relay.cut()
        (clock,) = session.ask([ops.clock()], deadline=20)
        assert "now" in clock
        session.close()
        after = lab.report("PLAIN")
        assert (2, 1) == tuple(after[key] - before[key] for key in ("logons_tried", "powershell_starts"))


PLAIN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 11\r\n\r\n<Envelope/>"
EDGE = b"--Encrypted Boundary--"


def flipped(data: bytes) -> bytes:
    """With one bit of the encrypted message changed."""
    at = data.rfind(EDGE) - 5
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def longer(data: bytes) -> bytes:
    """With another length of the message."""
    return re.sub(rb"Length=(.)", lambda found: b"Length=2" if found[1] == b"1" else b"Length=1", data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: PLAIN_ANSWER, "sent an answer that is not encrypted"),
        (flipped, "sent an answer that cannot be decrypted"),
        (longer, "of another length than it says"),
        (lambda data: data.replace(b"octet-stream", b"octet-strxxm"), "with an invalid part"),
    ],
    ids=["plain", "changed", "length", "part"],
)
def test_an_answer_that_somebody_changed_is_refused(
    lab: LabProcess, change: Callable[[bytes], bytes], said: str
) -> None:
    """Only answers with the keys of the logon are used."""
    with between(lab) as relay:
        relay.change = lambda answer: change(answer) if EDGE in answer else answer
        with pytest.raises((NodeRefused, SessionLost), match=said) as caught:
            computer(through(relay, lab), lab.password)
        assert "use https" in caught.value.remedy


def test_an_answer_is_accepted_once(lab: LabProcess) -> None:
    """A repeated one has an old number."""
    kept: list[bytes] = []

    def repeat(data: bytes) -> bytes:
        if EDGE in data:
            kept.append(data)
            return kept[0]
        return data

    with between(lab) as relay:
        relay.change = repeat
        with pytest.raises((NodeRefused, SessionLost), match="cannot be decrypted"):
            computer(through(relay, lab), lab.password)
        assert len(kept) > 1


def test_an_error_that_is_not_encrypted_is_an_error_without_a_text(lab: LabProcess) -> None:
    """A status may come from anywhere; what it says is not believed."""
    fault = b"HTTP/1.1 500 X\r\nContent-Type: application/soap+xml\r\nContent-Length: 7\r\n\r\nforged!"
    with between(lab) as relay:
        relay.change = lambda data: fault if EDGE in data else data
        with pytest.raises((NodeRefused, SessionLost)) as caught:
            computer(through(relay, lab), lab.password)
        assert "500" in caught.value.message
        assert "forged" not in str(caught.value)


def test_a_challenge_that_asks_for_less_protection_is_refused(lab: LabProcess) -> None:
    """A relay could take the encryption out of the logon; no message is sent then."""

    def weakened(data: bytes) -> bytes:
        head, found, rest = data.partition(b"Negotiate ")
        if b" 401 " not in head or not found:
            return data
        token, end, more = rest.partition(b"\r\n")
        challenge = bytearray(base64.b64decode(token))
        challenge[23] &= 0xFF ^ 0x20  # no keys of 128 bits
        return head + found + base64.b64encode(bytes(challenge)) + end + more

    with between(lab) as relay:
        relay.change = weakened
        transport = HttpsTransport(through(relay, lab), Secret(lab.password))
        transport.allow(Limit("PLAIN", 20), 10)
        with pytest.raises(NotEncrypted, match="weak encryption"):
            transport.send_message(b"message")
