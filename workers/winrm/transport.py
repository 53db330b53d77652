"""HTTP to one node, below pywinrm's messages: one connection, one TLS context, limits on time, bytes and memory.

Over https the messages are protected by TLS; over http each message is encrypted by the logon, in both directions.

Redirects are not followed. Proxies and other settings of the environment are ignored. Compressed answers are rejected,
and so are answers that would need much memory in an XML parser.
"""

import http.client
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from spnego.exceptions import SpnegoError
from winrm.exceptions import WinRMTransportError

from workers.errors import InputRefused
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.answers import Answer, CredentialsRefused, Unusable, in_utf8, text_of
from workers.winrm.bounded import Bound, BoundedSocket, NoAnswer, TooMuch, connected
from workers.winrm.channel import OPEN, Gate, Limit
from workers.winrm.encryption import ENCRYPTING, Encryption
from workers.winrm.logon import UNAUTHORIZED, fixed_header, logged_on, negotiated
from workers.winrm.not_connected import NotConnected
from workers.winrm.tls import context_for, secured

if TYPE_CHECKING:
    from socket import socket

__all__ = ["ANSWER_LIMIT", "HttpsTransport"]

ANSWER_LIMIT = 2 * 2**20  #: bytes of one answer; WinRM messages request at most 150 kB
_HEAD_LIMIT = 2**16  #: bytes of its headers and of the chunk headers
_ELEMENTS = 50_000  #: elements and attributes of one answer; each needs some hundred bytes in a parser
_OK = 200
_REDIRECTS = range(300, 400)
_HEADERS = {
    "Content-Type": "application/soap+xml;charset=UTF-8",
    "Accept-Encoding": "identity",
    "User-Agent": "esync-rollout",
    "Connection": "Keep-Alive",
}


class HttpsTransport:
    """Sends the messages of pywinrm's `Protocol`. For one thread at a time.

    Args:
        at: the node and the account.
        secret: the password; with transport `certificate` a PEM of certificate and key.
        gate: of the first logon. Later ones, on new connections, are by the account that the node has accepted.

    Raises:
        InputRefused: a certificate or a CA file cannot be used, or the logon method would encrypt nothing over http.
    """

    def __init__(self, at: Endpoint, secret: Secret, gate: Gate = OPEN) -> None:
        if at.scheme == "http" and at.transport not in ENCRYPTING:
            raise InputRefused(
                f"{at.node}: {at.transport} over http encrypts nothing, so nothing was sent",
                remedy="use `scheme: https`; or ntlm, kerberos or credssp, which encrypt every message over http",
            )
        self._at = at
        self._secret = secret
        self._gate = gate
        self._context = context_for(at, secret) if at.scheme == "https" else None
        self._fixed_header = fixed_header(at, secret)
        self._wire: BoundedSocket | None = None
        self._encryption: Encryption | None = None
        self._limit = Limit(at.node, 0)
        self._seconds = 0.0
        self._early = False
        self.round_trips = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def allow(self, limit: Limit, seconds: float) -> None:
        """Sets the limits of the next messages: the caller's limit, and the seconds for each answer of the node."""
        self._limit, self._seconds = limit, seconds

    def send_message(self, message: str | bytes) -> bytes:
        """Sends one message over the open connection or a new one, and returns the answer.

        Raises:
            NotConnected: nothing was sent.
            CredentialsRefused, LogonBroken: the logon failed.
            WinRMTransportError: the status of the answer is not 200.
            Unusable, TooMuch: the answer is invalid.
            NoAnswer: no answer in time.
            OSError, http.client.HTTPException: the connection broke.
            Cancelled, DeadlineExceeded: the caller's limit.
        """
        data = message.encode() if isinstance(message, str) else message
        try:
            answer = self._answer(data)
        except BaseException:
            self.close_session()
            raise
        if answer.status == UNAUTHORIZED:
            raise CredentialsRefused(answer.challenges, early=self._early)
        if answer.status != _OK:
            raise WinRMTransportError("http", answer.status, text_of(answer.body), answer.server)
        return answer.body

    def close_session(self) -> None:
        """Closes the connection; the next message opens a new one."""
        wire, self._wire, self._encryption = self._wire, None, None
        if wire is not None:
            wire.disconnect()

    def _answer(self, data: bytes) -> Answer:
        expiring = self._encryption is not None and self._encryption.expiring
        if self._wire is not None and self._wire.idle and not expiring:
            with suppress(SpnegoError):  # the keys have expired: a new connection gets new ones
                answer = self._encrypted(data) if self._encryption else self._post(data, self._fixed_header)
                if answer.status != UNAUTHORIZED or self._fixed_header:
                    return answer
        self._connect()
        answer = self._first(data)
        if answer.status == _OK:
            gate, self._gate = self._gate, OPEN
            gate.accepted()
        return answer

    def _first(self, data: bytes) -> Answer:
        """The first message on a new connection, with the logon it needs."""
        if self._fixed_header:
            self._gate.admit()
            return self._post(data, self._fixed_header)
        before = self.round_trips
        logon = self._logged_on(data)
        self._early = self._at.transport is Transport.NTLM and self.round_trips - before == 1
        if isinstance(logon, Answer):
            return logon
        self._encryption = logon
        return self._encrypted(data)

    def _logged_on(self, data: bytes) -> Answer | Encryption:
        """The answer to the message, which over https goes along with the logon; over http the keys for it."""
        if self._context is None:
            return logged_on(self._at, self._secret, self._post, self._limit, self._gate)
        certificate = self._wire.certificate if self._wire else b""
        return negotiated(self._at, self._secret, certificate, data, self._post, self._limit, self._gate)

    def _encrypted(self, data: bytes) -> Answer:
        """Sends a message and returns the answer, both encrypted. An error that is not encrypted has no text for us.

        Raises:
            NotEncrypted: status 200, but the answer is not encrypted by the node that we logged on to.
            SpnegoError: the keys cannot be used any more; nothing was sent.
        """
        encryption = self._encryption
        if encryption is None:
            raise ConnectionAbortedError("the node closed the connection during the logon")
        body, headers = encryption.sealed(data)
        answer = self._post(body, headers)
        if answer.status != _OK and not _is_sealed(answer):
            return replace(answer, body=b"")
        answer = replace(answer, body=in_utf8(encryption.opened(answer.body, answer.kind)))
        _readable(answer)
        return answer

    def _bound(self) -> Bound:
        return Bound(self._limit, self._seconds, ANSWER_LIMIT + _HEAD_LIMIT)

    def _connect(self) -> None:
        self.close_session()
        at = self._at
        bound = Bound(self._limit, min(self._seconds, at.connect_timeout), _HEAD_LIMIT)
        try:
            wire = connected(at.host, at.port, bound)
        except (OSError, NoAnswer) as error:
            raise NotConnected(error) from error
        try:
            if self._context is not None:
                secured(wire, self._context, at)
        except BaseException:
            wire.disconnect()
            raise
        self._wire = wire

    def _post(self, data: bytes, headers: Mapping[str, str]) -> Answer:
        """One request and its complete answer."""
        wire = self._wire
        if wire is None:
            raise ConnectionAbortedError("the node closed the connection during the logon")
        wire.bound = self._bound()
        wire.sendall(_request(self._at, headers, data))
        self.round_trips += 1
        self.bytes_sent += len(data)
        # The wire implements the part of a socket that is used.
        with http.client.HTTPResponse(cast("socket", wire), method="POST") as response:
            response.begin()
            body = response.read(ANSWER_LIMIT + 1)
            self.bytes_received += len(body)
            if response.length and len(body) <= ANSWER_LIMIT:
                raise http.client.IncompleteRead(b"", response.length)
            fields = {name.lower(): value for name, value in response.getheaders()}  # a search reads all of them
            answer = Answer(
                response.status,
                body,
                tuple(response.msg.get_all("WWW-Authenticate", ())),
                fields.get("location", ""),
                fields.get("content-type", ""),
                fields.get("server", ""),
            )
            sealed = self._encryption is not None and _is_sealed(answer)
            encoding = response.getheader("Content-Encoding", "identity") or "identity"
            if response.will_close or not response.isclosed():
                self.close_session()
        _expected(answer, encoding)
        if sealed:
            return answer
        answer = replace(answer, body=in_utf8(answer.body))
        _readable(answer)
        return answer


def _request(at: Endpoint, headers: Mapping[str, str], data: bytes) -> bytes:
    """One request, in one piece: head and body in one TLS record are one packet less. No header comes from outside."""
    name = at.host if at.host.isascii() else at.host.encode("idna").decode("ascii")
    host = f"[{name}]" if ":" in name else name
    lines = {"Host": f"{host}:{at.port}", **_HEADERS, **headers, "Content-Length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /wsman HTTP/1.1\r\n{head}\r\n".encode("ascii") + data


def _is_sealed(answer: Answer) -> bool:
    """Whether the answer says that it is encrypted; `Encryption.opened` judges whether it is."""
    return answer.kind.lower().startswith("multipart/")


def _expected(answer: Answer, encoding: str) -> None:
    """Raises Unusable or TooMuch for an answer that is not used at all."""
    if answer.status in _REDIRECTS:
        raise Unusable(f"sent a redirect (HTTP {answer.status} to {answer.location[:200] or 'no address'})", answer)
    if encoding.strip().lower() != "identity":
        raise Unusable(f"sent an answer with a content encoding that was not requested: {encoding[:40]}", answer)
    if len(answer.body) > ANSWER_LIMIT:
        raise TooMuch


def _readable(answer: Answer) -> None:
    """Raises Unusable or TooMuch for a message that must not be parsed."""
    body = answer.body
    if body.count(b"<") + body.count(b"=") > _ELEMENTS:
        raise TooMuch
    if b"<!DOCTYPE" in body or b"\0" in body:
        raise Unusable("sent XML that defines entities or is not UTF-8", answer)
