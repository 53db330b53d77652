"""The logon over HTTP: which tokens are sent, what they are bound to, and what a wrong answer results in."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import NoCredentialError

from lab.machine.condition import Counters
from lab.winrm.logon import Account, Connection
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm import logon
from workers.winrm.answers import Answer, LogonBroken
from workers.winrm.channel import OPEN, Gate, Limit
from workers.winrm.logon import fixed_header, negotiated

AT = Endpoint(node="S1", host="host", user="esync", secret="env:X")
SECRET = Secret("planted: password")
LIMIT = Limit("S1", 60)


def at(transport: Transport) -> Endpoint:
    """The endpoint with another method."""
    return AT.model_copy(update={"transport": transport})


def encoded(token: bytes) -> str:
    """A token in a header."""
    return base64.b64encode(token).decode()


@dataclass
class Context:
    """A logon with scripted tokens; complete after `legs` tokens."""

    tokens: list[bytes | Exception | None]
    legs: int
    received: list[bytes | None] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the last token was made."""
        return len(self.received) >= self.legs

    def step(self, token: bytes | None = None) -> bytes | None:
        """The next token."""
        self.received.append(token)
        found = self.tokens[len(self.received) - 1] if len(self.received) <= len(self.tokens) else b"more"
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Node:
    """Answers with scripted answers and records the requests."""

    answers: list[Answer]
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request."""
        self.bodies.append(body)
        self.headers.append(headers)
        return self.answers[min(len(self.bodies), len(self.answers)) - 1]


def challenge(*headers: str) -> Answer:
    """A 401."""
    return Answer(401, b"", headers)


DONE = Answer(200, b"done")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the logon library is called with; its `context` can be set."""
    called: dict[str, Any] = {"context": Context([b"one", b"two"], legs=2)}

    def make(user: object, password: str | None, **options: object) -> object:
        called.update(options, user=user, password=password)
        return called["context"]

    monkeypatch.setattr(spnego, "client", make)
    return called


def logged_on(node: Node, transport: Transport = Transport.NTLM) -> Answer:
    """The answer to a message after the logon."""
    return negotiated(at(transport), SECRET, b"", b"message", node.post, LIMIT, OPEN)


def test_the_message_is_sent_with_the_last_token(client: dict[str, Any]) -> None:
    """Two requests; the first one has no body."""
    node = Node([challenge("Negotiate " + encoded(b"challenge")), DONE])
    assert DONE == logged_on(node)
    assert [b"", b"message"] == node.bodies
    assert ["Negotiate b25l", "Negotiate dHdv"] == [headers["Authorization"] for headers in node.headers]
    assert [None, b"challenge"] == client["context"].received
    assert (None, "host", "http") == tuple(client[name] for name in ("password", "hostname", "service"))
    assert ("esync", None) == (client["user"].username, client["user"].lm_hash)


def test_ntlm_gets_the_nt_hash_of_the_password(client: dict[str, Any]) -> None:
    """The MD4 of its UTF-16: a known pair."""
    negotiated(
        at(Transport.NTLM),
        Secret("password"),
        b"",
        b"",
        Node([challenge("Negotiate " + encoded(b"c")), DONE]).post,
        LIMIT,
        OPEN,
    )
    assert "8846f7eaee8fb117ad06bdd830b7586c" == client["user"].nt_hash


@pytest.mark.parametrize(
    ("transport", "scheme", "protocol", "options"),
    [
        (Transport.NTLM, "Negotiate", "ntlm", spnego.NegotiateOptions.use_ntlm),
        (Transport.KERBEROS, "Kerberos", "kerberos", spnego.NegotiateOptions.none),
        (Transport.CREDSSP, "CredSSP", "credssp", spnego.NegotiateOptions.none),
    ],
)
def test_each_method_has_its_scheme(
    transport: Transport, scheme: str, protocol: str, options: object, client: dict[str, Any]
) -> None:
    """In the header, in the challenge (in any case) and in the library."""
    node = Node([challenge("Basic realm=x", f"  {scheme.upper()}  {encoded(b'c')} "), DONE])
    assert DONE == logged_on(node, transport)
    assert node.headers[0]["Authorization"].startswith(f"{scheme} ")
    assert (protocol, options) == (client["protocol"], client["options"])


def test_a_message_alone_follows_a_logon_that_ends_with_the_node(client: dict[str, Any]) -> None:
    """The node accepts with status 200, and there is no further token."""
    client["context"] = Context([b"one", None], legs=3)
    node = Node([Answer(200, b"", ("Negotiate " + encoded(b"last"),)), DONE])
    assert DONE == logged_on(node)
    assert ([b"", b"message"], {}) == (node.bodies, node.headers[1])


def test_a_further_token_after_status_200_is_sent(client: dict[str, Any]) -> None:
    """The logon continues."""
    client["context"] = Context([b"one", b"two"], legs=2)
    node = Node([Answer(200, b"", ("Negotiate " + encoded(b"c"),)), DONE])
    assert DONE == logged_on(node)
    assert "Negotiate dHdv" == node.headers[1]["Authorization"]


def test_an_empty_token_is_sent_after_a_challenge(client: dict[str, Any]) -> None:
    """Status 401 means that the node expects another one."""
    client["context"] = Context([b"one", None], legs=2)
    node = Node([challenge("Negotiate " + encoded(b"c")), DONE])
    assert DONE == logged_on(node)
    assert "Negotiate " == node.headers[1]["Authorization"]


@pytest.mark.parametrize("status", [403, 500, 302])
def test_another_status_is_the_answer(status: int, client: dict[str, Any]) -> None:
    """The logon does not continue."""
    node = Node([Answer(status, b"other")])
    assert Answer(status, b"other") == logged_on(node)
    assert 1 == len(node.bodies)
    assert client["user"]


def test_an_empty_challenge_of_our_method_is_a_refusal(client: dict[str, Any]) -> None:
    """Status 401 is the answer; there is no second attempt."""
    node = Node([challenge("Basic realm=x", "negotiate")])
    assert 401 == logged_on(node).status
    assert 1 == len(node.bodies)
    assert client["user"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            challenge("Kerberos", "Basic realm=x"),
            "does not offer the logon method Negotiate; it offers Kerberos, Basic",
        ),
        (challenge(), "does not offer the logon method Negotiate; it offers none"),
        (challenge("Negotiate ?"), "sent a logon token that is not base64"),
        (Answer(200, b""), "ended the logon without authentication"),
        (Answer(200, b"", ("Negotiate",)), "ended the logon without authentication"),
    ],
)
def test_a_wrong_challenge_ends_the_logon(answer: Answer, message: str, client: dict[str, Any]) -> None:
    """It is not a refusal of the credentials."""
    with pytest.raises(LogonBroken) as caught:
        logged_on(Node([answer]))
    assert message == str(caught.value)
    assert client["user"]


@pytest.mark.parametrize(
    ("error", "kind"), [(NoCredentialError(context_msg="x"), "SpnegoError"), (ValueError("x"), "ValueError")]
)
def test_an_invalid_token_of_the_node_ends_the_logon(error: Exception, kind: str, client: dict[str, Any]) -> None:
    """The library fails in many ways."""
    client["context"] = Context([b"one", error], legs=2)
    with pytest.raises(LogonBroken) as caught:
        logged_on(Node([challenge("Negotiate " + encoded(b"c"))]))
    assert f"sent an invalid logon token ({kind})" == str(caught.value)


def test_a_failure_of_our_first_token_is_not_the_nodes(client: dict[str, Any]) -> None:
    """A missing ticket, for example."""
    client["context"] = Context([NoCredentialError(context_msg="no ticket")], legs=2)
    with pytest.raises(NoCredentialError):
        logged_on(Node([DONE]))


def test_an_endless_logon_is_ended(client: dict[str, Any]) -> None:
    """After eight messages."""
    client["context"] = Context([], legs=99)
    node = Node([challenge("Negotiate " + encoded(b"c"))])
    with pytest.raises(LogonBroken, match="did not complete the logon within 8 messages"):
        logged_on(node)
    assert [b""] * 8 == node.bodies


@pytest.mark.parametrize("right", [True, False])
def test_ntlm_logs_on_to_the_lab(right: bool) -> None:  # noqa: FBT001 - a parameter
    """The real library against the real library; a wrong password is one attempt."""
    account = Account("esync", SECRET.reveal() if right else "other", "S1")
    connection, counters = Connection(account, counted := Counters()), counted
    bodies: list[bytes] = []

    def post(body: bytes, headers: Mapping[str, str]) -> Answer:
        bodies.append(body)
        found = connection.judge(headers["Authorization"])
        return Answer(200 if found.user else 401, b"done", found.challenges)

    answer = negotiated(AT, SECRET, certificate(hashes.SHA256()), b"message", post, LIMIT, OPEN)
    account.close()
    assert (200 if right else 401, [b"", b"message"]) == (answer.status, bodies)
    assert (1, int(not right)) == (counters.logons_tried, counters.logons_refused)


@pytest.mark.parametrize(("transport", "sent"), [(Transport.NTLM, 1), (Transport.CREDSSP, 0)])
def test_a_logon_waits_before_the_first_message_by_which_it_may_be_refused(
    transport: Transport,
    sent: int,
    client: dict[str, Any],  # noqa: ARG001 - stands for the library
) -> None:
    """The first token of NTLM has nothing of the account."""
    scheme = {Transport.NTLM: "Negotiate", Transport.CREDSSP: "CredSSP"}[transport]
    node = Node([challenge(f"{scheme} " + encoded(b"c")), DONE])
    waited: list[int] = []
    gate = Gate(lambda: waited.append(len(node.bodies)))
    assert DONE == negotiated(at(transport), SECRET, b"", b"message", node.post, LIMIT, gate)
    assert waited[0] == sent


def test_basic_and_certificate_are_a_header_of_every_request() -> None:
    """The password in base64, or the name of the method; the others log on once."""
    assert {"Authorization": "Basic " + encoded(b"esync:planted: password")} == fixed_header(
        at(Transport.BASIC), SECRET
    )
    assert fixed_header(at(Transport.CERTIFICATE), SECRET)["Authorization"].endswith("/secprofile/https/mutual")
    assert [{}, {}, {}] == [
        fixed_header(at(transport), SECRET) for transport in (Transport.NTLM, Transport.KERBEROS, Transport.CREDSSP)
    ]


def certificate(algorithm: hashes.HashAlgorithm | None) -> bytes:
    """A certificate signed with that hash; without one, by Ed25519."""
    key = ec.generate_private_key(ec.SECP256R1()) if algorithm else ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 7, datetime.now(UTC), datetime.now(UTC) + timedelta(1)
    )
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512"), (None, "sha256")],
    ids=["sha256", "sha384", "sha512", "none"],
)
def test_the_logon_is_bound_to_the_certificate(algorithm: hashes.HashAlgorithm | None, digest: str) -> None:
    """By the hash of its signature (RFC 5929)."""
    data = certificate(algorithm)
    found = logon._bindings(data)
    assert isinstance(found, GssChannelBindings)
    assert b"tls-server-end-point:" + hashlib.new(digest, data).digest() == found.application_data


@pytest.mark.parametrize("weak", ["MD5", "SHA1"])
def test_a_weak_signature_is_replaced_by_sha_256(weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As RFC 5929 requires."""

    class Weak:
        signature_hash_algorithm = getattr(hashes, weak)()

    monkeypatch.setattr(x509, "load_der_x509_certificate", lambda _: Weak())
    found = logon._bindings(b"data")
    assert found
    assert b"tls-server-end-point:" + hashlib.sha256(b"data").digest() == found.application_data


def test_without_a_readable_certificate_the_logon_is_not_bound(client: dict[str, Any]) -> None:
    """TLS has verified it before; binding is an addition."""
    assert (None, None) == (logon._bindings(b""), logon._bindings(b"no certificate"))
    negotiated(
        AT,
        SECRET,
        certificate(hashes.SHA256()),
        b"",
        Node([challenge("Negotiate " + encoded(b"c")), DONE]).post,
        LIMIT,
        OPEN,
    )
    assert client["channel_bindings"] is not None
