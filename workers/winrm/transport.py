"""HTTPS to one node, under pywinrm's messages: one connection, one TLS context, bounded in time, bytes and memory.

Redirects are not followed, proxies and other settings of the environment not looked at, compressed answers not asked
for and not taken, and no answer is handed on that would take a parser more memory than it is worth.
"""

import http.client
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from winrm.exceptions import InvalidCredentialsError, WinRMTransportError

from workers.errors import InputRefused
from workers.host.named_files import NotAllowed, contents
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm.bounded import Bound, BoundedSocket, NoAnswer, TooMuch, connected
from workers.winrm.channel import Limit
from workers.winrm.logon import UNAUTHORIZED, Answer, negotiated, standing_header

__all__ = ["ANSWER_LIMIT", "HttpsTransport", "NotConnected", "Unusable"]

ANSWER_LIMIT = 2 * 2**20  #: bytes of one answer; a message of WinRM asks for 150 kB at most
_HEAD_LIMIT = 2**16  #: bytes of its headers, and of what chunks add
_ELEMENTS = 50_000  #: elements and attributes of one answer; each costs a parser some hundred bytes
_CA_LIMIT = 5 * 2**20
_OK = 200
_REDIRECTS = range(300, 400)
_HEADERS = {
    "Content-Type": "application/soap+xml;charset=UTF-8",
    "Accept-Encoding": "identity",
    "User-Agent": "esync-rollout",
    "Connection": "Keep-Alive",
}


class NotConnected(Exception):
    """No connection was made, so nothing of the message has left. `tls`: there is one, but no TLS over it."""

    def __init__(self, reason: Exception, *, tls: bool = False) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.tls = tls


class Unusable(Exception):
    """The answer is none that a WinRM service gives."""


class HttpsTransport:
    """What pywinrm's `Protocol` has its messages answered by. For one thread at a time.

    Args:
        at: the node, and as whom.
        secret: the password; with transport `certificate` a PEM of certificate and key.

    Raises:
        InputRefused: a certificate or a CA file cannot be used.
    """

    def __init__(self, at: Endpoint, secret: Secret) -> None:
        self._at = at
        self._secret = secret
        self._context = _own_context(at, secret) if at.transport is Transport.CERTIFICATE else _shared_context(at)
        self._standing = standing_header(at, secret)
        self._http: http.client.HTTPConnection | None = None
        self._wire: BoundedSocket | None = None
        self._limit = Limit(at.node, 0)
        self._seconds = 0.0
        self.round_trips = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def allow(self, limit: Limit, seconds: float) -> None:
        """What the next messages may take: the caller's limit, and what the node is given for each answer."""
        self._limit, self._seconds = limit, seconds

    def send_message(self, message: str | bytes) -> bytes:
        """Has one message answered, over the connection there is or a new one.

        Raises:
            NotConnected: nothing was sent.
            InvalidCredentialsError, LogonBroken: the node does not let us in.
            WinRMTransportError: it answered with another status than 200.
            Unusable, TooMuch: it answered with something that is no answer.
            NoAnswer: not in time.
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
            raise InvalidCredentialsError("the node refused the credentials")
        if answer.status != _OK:
            raise WinRMTransportError("http", answer.status, answer.body.decode("utf-8", "replace"))
        return answer.body

    def close_session(self) -> None:
        """Lets go of the connection; the next message makes a new one."""
        wire, self._wire, self._http = self._wire, None, None
        if wire is not None:
            wire.disconnect()

    def _answer(self, data: bytes) -> Answer:
        if self._wire is not None and self._http is not None and self._wire.idle:
            answer = self._post(data, self._standing)
            if answer.status != UNAUTHORIZED or self._standing:
                return answer
        self._connect()
        return self._first(data)

    def _first(self, data: bytes) -> Answer:
        """The first message on a new connection, with the logon it needs."""
        if not self._standing:
            certificate = self._wire.certificate if self._wire else b""
            return negotiated(self._at, self._secret, certificate, data, self._post)
        return self._post(data, self._standing)

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
            wire.secured(self._context, at.host)
        except (OSError, NoAnswer, ValueError) as error:
            wire.disconnect()
            raise NotConnected(error, tls=True) from error
        except BaseException:
            wire.disconnect()
            raise
        self._wire, self._http = wire, http.client.HTTPConnection(at.host, at.port)
        self._http.auto_open = 0  # it would connect by itself, without TLS and without bounds
        self._http.sock = wire  # all that it uses of one

    def _post(self, data: bytes, headers: Mapping[str, str]) -> Answer:
        """One request, one answer, read whole."""
        if self._wire is None or self._http is None:
            raise ConnectionAbortedError("the node closed the connection during the logon")
        self._wire.bound = self._bound()
        self._http.request("POST", "/wsman", data, {**_HEADERS, **headers})
        self.round_trips += 1
        self.bytes_sent += len(data)
        with self._http.getresponse() as response:
            body = response.read(ANSWER_LIMIT + 1)
            self.bytes_received += len(body)
            if response.length and len(body) <= ANSWER_LIMIT:
                raise http.client.IncompleteRead(b"", response.length)
            answer = Answer(
                response.status,
                body,
                tuple(response.msg.get_all("WWW-Authenticate", ())),
                response.getheader("Location", "") or "",
            )
            encoding = response.getheader("Content-Encoding", "identity") or "identity"
            if response.will_close or not response.isclosed():
                self.close_session()
        _checked(answer, encoding)
        return answer


def _checked(answer: Answer, encoding: str) -> None:
    """Raises Unusable or TooMuch for an answer that must not be looked into."""
    if answer.status in _REDIRECTS:
        raise Unusable(f"sends us elsewhere (HTTP {answer.status} to {answer.location[:200] or 'nowhere'})")
    if encoding.strip().lower() != "identity":
        raise Unusable(f"answered in an encoding that was not asked for: {encoding[:40]}")
    body = answer.body
    if len(body) > ANSWER_LIMIT or body.count(b"<") + body.count(b"=") > _ELEMENTS:
        raise TooMuch
    if b"<!DOCTYPE" in body or b"\0" in body:
        raise Unusable("answered with XML that defines entities, or is in another encoding than UTF-8")


def _shared_context(at: Endpoint) -> ssl.SSLContext:
    """One TLS context for all nodes of an authority: to load it costs more than a connection."""
    if at.ca_file is None:
        return _system_context()
    return _context_of(at.ca_file, _authorities(at.ca_file))


def _own_context(at: Endpoint, secret: Secret) -> ssl.SSLContext:
    """A TLS context with a client certificate. OpenSSL reads it from files only: from one that no disk ever sees."""
    context = _fresh(_authorities(at.ca_file) if at.ca_file else None)
    memory = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(memory, secret.reveal().encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    except (ssl.SSLError, OSError):
        raise InputRefused(
            f"{at.node}: the secret is no PEM of certificate and key", remedy="correct `secret`"
        ) from None
    finally:
        os.close(memory)
    return context


def _authorities(path: str) -> str:
    """The text of a CA file.

    Raises:
        InputRefused: it cannot be read, or is no file of certificates.
    """
    data: bytes | None = None
    try:
        data, _ = contents(Path(os.path.realpath(path)), _CA_LIMIT, ())
    except NotAllowed:
        pass
    except FileNotFoundError:
        raise InputRefused(f"the CA file {path} does not exist", remedy="correct `ca_file`", file=path) from None
    except (OSError, ValueError) as error:
        raise InputRefused(
            f"the CA file {path} cannot be read: {getattr(error, 'strerror', '') or error}",
            remedy="correct `ca_file`",
            file=path,
        ) from None
    if data is None or len(data) > _CA_LIMIT:
        raise InputRefused(f"the CA file {path} is no file of certificates", remedy="correct `ca_file`", file=path)
    return data.decode("ascii", "ignore")


@lru_cache(maxsize=1)
def _system_context() -> ssl.SSLContext:
    return _fresh(None)


@lru_cache(maxsize=64)
def _context_of(path: str, authorities: str) -> ssl.SSLContext:
    with suppress(ssl.SSLError, ValueError):
        return _fresh(authorities)
    raise InputRefused(f"{path} holds no certificates", remedy="give a PEM file as `ca_file`", file=path)


def _fresh(authorities: str | None) -> ssl.SSLContext:
    """Verifies the chain and the name. Python 3.13 is stricter on its own than certificates of old Windows servers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
