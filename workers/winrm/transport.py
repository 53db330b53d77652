"""HTTPS to one node, below pywinrm's messages: one connection, one TLS context, limits on time, bytes and memory.

Redirects are not followed. Proxies and other settings of the environment are ignored. Compressed answers are rejected,
and so are answers that would need much memory in an XML parser.
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
from workers.winrm.logon import UNAUTHORIZED, Answer, fixed_header, negotiated

__all__ = ["ANSWER_LIMIT", "HttpsTransport", "NotConnected", "Unusable"]

ANSWER_LIMIT = 2 * 2**20  #: bytes of one answer; WinRM messages request at most 150 kB
_HEAD_LIMIT = 2**16  #: bytes of its headers and of the chunk headers
_ELEMENTS = 50_000  #: elements and attributes of one answer; each needs some hundred bytes in a parser
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
    """There is no connection, so nothing was sent. `tls`: TCP was connected, but TLS failed."""

    def __init__(self, reason: Exception, *, tls: bool = False) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.tls = tls


class Unusable(Exception):
    """The answer is not one of a WinRM service."""


class HttpsTransport:
    """Sends the messages of pywinrm's `Protocol`. For one thread at a time.

    Args:
        at: the node and the account.
        secret: the password; with transport `certificate` a PEM of certificate and key.

    Raises:
        InputRefused: a certificate or a CA file cannot be used.
    """

    def __init__(self, at: Endpoint, secret: Secret) -> None:
        self._at = at
        self._secret = secret
        self._context = _own_context(at, secret) if at.transport is Transport.CERTIFICATE else _shared_context(at)
        self._fixed_header = fixed_header(at, secret)
        self._http: http.client.HTTPConnection | None = None
        self._wire: BoundedSocket | None = None
        self._limit = Limit(at.node, 0)
        self._seconds = 0.0
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
            InvalidCredentialsError, LogonBroken: the logon failed.
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
            raise InvalidCredentialsError("the node refused the credentials")
        if answer.status != _OK:
            raise WinRMTransportError("http", answer.status, answer.body.decode("utf-8", "replace"))
        return answer.body

    def close_session(self) -> None:
        """Closes the connection; the next message opens a new one."""
        wire, self._wire, self._http = self._wire, None, None
        if wire is not None:
            wire.disconnect()

    def _answer(self, data: bytes) -> Answer:
        if self._wire is not None and self._http is not None and self._wire.idle:
            answer = self._post(data, self._fixed_header)
            if answer.status != UNAUTHORIZED or self._fixed_header:
                return answer
        self._connect()
        return self._first(data)

    def _first(self, data: bytes) -> Answer:
        """The first message on a new connection, with the logon it needs."""
        if not self._fixed_header:
            certificate = self._wire.certificate if self._wire else b""
            return negotiated(self._at, self._secret, certificate, data, self._post)
        return self._post(data, self._fixed_header)

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
        self._http.auto_open = 0  # otherwise it connects by itself, without TLS and without limits
        self._http.sock = wire  # implements the part of a socket that HTTPConnection uses

    def _post(self, data: bytes, headers: Mapping[str, str]) -> Answer:
        """One request and its complete answer."""
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
    """Raises Unusable or TooMuch for an answer that must not be parsed."""
    if answer.status in _REDIRECTS:
        raise Unusable(f"sent a redirect (HTTP {answer.status} to {answer.location[:200] or 'no address'})")
    if encoding.strip().lower() != "identity":
        raise Unusable(f"sent an answer with a content encoding that was not requested: {encoding[:40]}")
    body = answer.body
    if len(body) > ANSWER_LIMIT or body.count(b"<") + body.count(b"=") > _ELEMENTS:
        raise TooMuch
    if b"<!DOCTYPE" in body or b"\0" in body:
        raise Unusable("sent XML that defines entities or is not UTF-8")


def _shared_context(at: Endpoint) -> ssl.SSLContext:
    """One TLS context for all nodes of an authority: loading it costs more than a connection."""
    if at.ca_file is None:
        return _system_context()
    return _context_of(at.ca_file, _authorities(at.ca_file))


def _own_context(at: Endpoint, secret: Secret) -> ssl.SSLContext:
    """A TLS context with a client certificate. OpenSSL reads it only from a file: here a file in memory."""
    context = _fresh(_authorities(at.ca_file) if at.ca_file else None)
    memory = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(memory, secret.reveal().encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    except (ssl.SSLError, OSError):
        raise InputRefused(
            f"{at.node}: the secret is not a PEM of certificate and key", remedy="correct `secret`"
        ) from None
    finally:
        os.close(memory)
    return context


def _authorities(path: str) -> str:
    """The text of a CA file.

    Raises:
        InputRefused: the file cannot be read, or does not contain certificates.
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
        raise InputRefused(f"the CA file {path} contains no certificates", remedy="correct `ca_file`", file=path)
    return data.decode("ascii", "ignore")


@lru_cache(maxsize=1)
def _system_context() -> ssl.SSLContext:
    return _fresh(None)


@lru_cache(maxsize=64)
def _context_of(path: str, authorities: str) -> ssl.SSLContext:
    with suppress(ssl.SSLError, ValueError):
        return _fresh(authorities)
    raise InputRefused(f"the CA file {path} contains no certificates", remedy="use a PEM file", file=path)


def _fresh(authorities: str | None) -> ssl.SSLContext:
    """Verifies chain and name. The strict mode of Python 3.13 is off: certificates of old Windows servers fail it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
