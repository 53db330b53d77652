"""Recorded conversations of pypsrp over http: the lab reads its requests, and our client reads the answers.

`tests/cases/conversations/record.py` records them. Nothing of pypsrp runs here: only the bytes that it sent.
"""

import json
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import spnego
from spnego import _ntlm
from spnego._ntlm_raw.messages import Challenge

from lab.machine.condition import Counters
from lab.winrm.envelope import Unreadable, is_encrypted
from lab.winrm.logon import Account, Connection
from lab.winrm.ways import Ways
from tests.places import ROOT
from workers.records import Transport
from workers.winrm.encryption import Encryption, NotEncrypted

CASES = sorted((ROOT / "tests/cases/conversations").glob("*.json"))
#: Each kind of message that is in both recordings, by the end of its action.
ACTIONS = ("Create", "Command", "Receive", "Signal", "Send", "Delete")


@dataclass(frozen=True)
class Part:
    """One HTTP message."""

    first: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def token(self) -> bytes:
        """What a header about the logon has in base64."""
        value = self.headers.get("authorization") or self.headers.get("www-authenticate") or ""
        return b64decode(value.partition(" ")[2])

    @property
    def kind(self) -> str:
        """Its content type."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True)
class Conversation:
    """A recording."""

    about: Mapping[str, Any]
    requests: tuple[Part, ...]
    answers: tuple[Part, ...]

    def plain(self, kind: str) -> list[str]:
        """The messages of one direction as pypsrp had them."""
        return [one["text"] for one in self.about["plain"] if one["kind"] == kind]

    @property
    def challenge(self) -> bytes:
        """The NTLM message of the server."""
        (token,) = (part.token for part in self.answers if b"NTLMSSP\0\2" in part.token)
        return token[token.index(b"NTLMSSP\0\2") :]


def part(recorded: Mapping[str, Any]) -> Part:
    """One message of a file."""
    first, *lines = recorded["head"]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Part(first, headers, b64decode(recorded["body"]))


@cache
def conversation(name: str) -> Conversation:
    """The recording in that file."""
    about = json.loads((ROOT / "tests/cases/conversations" / name).read_text())
    ways = tuple(tuple(part(one[way]) for one in about["exchanges"]) for way in ("request", "answer"))
    return Conversation(about, *ways)


@pytest.fixture(params=[case.name for case in CASES])
def talk(request: pytest.FixtureRequest) -> Conversation:
    """Each recording: NTLM by itself, and in SPNEGO."""
    return conversation(request.param)


@pytest.fixture
def listener(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """The lab's side of the connection before the logon; its challenge is the one that pypsrp was given."""
    again = Challenge.unpack(talk.challenge)
    monkeypatch.setattr(_ntlm, "Challenge", lambda *_, **__: again)
    account = Account(talk.about["user"], talk.about["password"], talk.about["machine"])
    yield Connection(account, Counters(), Ways(scheme="http", offers=("negotiate",)))
    account.close()


def read(listener: Connection, talk: Conversation) -> list[str]:
    """Plays all requests; the messages that the lab found in them."""
    found = []
    for request, answer in zip(talk.requests, talk.answers, strict=True):
        verdict = listener.judge(request.headers.get("authorization", ""))
        assert bool(verdict.user) is (" 401 " not in answer.first)
        if request.body:
            assert is_encrypted(request.kind)
            found.append(listener.decrypted(request.body).decode())
    return found


def test_the_lab_reads_what_pypsrp_has_sent(listener: Connection, talk: Conversation) -> None:
    """With only the password of the account, each request decrypts to the message that pypsrp had."""
    found = read(listener, talk)
    assert talk.plain("request") == found
    for action in ACTIONS:
        assert any(f"/{action}<" in message for message in found)


def test_the_lab_reads_no_conversation_of_another_password(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logon is refused, and without one nothing is decrypted."""
    again = Challenge.unpack(talk.challenge)
    monkeypatch.setattr(_ntlm, "Challenge", lambda *_, **__: again)
    account = Account(talk.about["user"], "another password", talk.about["machine"])
    listener = Connection(account, Counters(), Ways(scheme="http", offers=("negotiate",)))
    for request in talk.requests[:3]:
        assert not listener.judge(request.headers.get("authorization", "")).user
    with pytest.raises(Unreadable):
        listener.decrypted(talk.requests[3].body)
    account.close()


def test_the_lab_reads_a_conversation_only_in_its_order(listener: Connection, talk: Conversation) -> None:
    """A request that is repeated is refused."""
    for request in talk.requests[:4]:
        listener.judge(request.headers.get("authorization", ""))
    listener.decrypted(talk.requests[3].body)
    with pytest.raises(Unreadable):
        listener.decrypted(talk.requests[3].body)


@pytest.fixture
def bare() -> Conversation:
    """The recording of NTLM by itself, as our client logs on; in SPNEGO the messages are numbered differently."""
    return conversation("pypsrp-ntlm.json")


def client(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> Encryption:
    """Our client after a logon to that challenge, in which it chose the key that pypsrp chose."""
    key, chance = bytes.fromhex(talk.about["key"]), os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: key if count == len(key) else chance(count))
    context = spnego.client(
        talk.about["user"], talk.about["password"], protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm
    )
    context.step()
    context.step(talk.challenge)
    return Encryption(context, Transport.NTLM)


def test_our_client_reads_what_pypsrp_was_sent(bare: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key of the logon, each answer decrypts to the message that pypsrp found in it, also a fault."""
    ours = client(bare, monkeypatch)
    found = [ours.opened(answer.body, answer.kind).decode() for answer in bare.answers if answer.body]
    assert bare.plain("answer") == found
    assert "Fault" in found[-1]


def test_our_client_sends_what_pypsrp_has_sent(bare: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same messages in the same order become the same bytes with the same content type."""
    ours = client(bare, monkeypatch)
    for request, message in zip((one for one in bare.requests if one.body), bare.plain("request"), strict=True):
        body, headers = ours.sealed(message.encode())
        assert request.body == body
        assert request.kind == headers["Content-Type"]


def test_our_client_reads_answers_only_in_their_order(bare: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was left out is noticed at the next one."""
    ours = client(bare, monkeypatch)
    late = [answer for answer in bare.answers if answer.body][1]
    with pytest.raises(NotEncrypted, match="cannot be decrypted"):
        ours.opened(late.body, late.kind)
