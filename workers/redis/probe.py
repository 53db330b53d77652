"""What listens at an address that does not behave like our Redis: asked without user and password."""

import contextlib
import socket
import ssl
from enum import StrEnum

__all__ = ["Listener", "listener_at"]

PATIENCE = 2.0  #: seconds for each of the two questions
_RESP = (b"+", b"-")  #: how Redis begins every answer to it, also when it requires a password


class Listener(StrEnum):
    """What was found."""

    REDIS = "Redis without TLS"
    TLS = "a server with TLS"
    WEB = "a web server"
    OTHER = "something else"  #: or nothing, or it did not answer in time


def listener_at(host: str, port: int) -> Listener:
    """What listens there: asks in words that Redis and web servers answer, then begins TLS."""
    try:
        answer = _answer(host, port)
    except OSError:  # it was silent, say: a server with TLS ends a connection that begins otherwise
        return Listener.OTHER
    if answer.startswith(b"HTTP/"):
        return Listener.WEB
    if answer.startswith(_RESP):
        return Listener.REDIS
    return Listener.TLS if _speaks_tls(host, port) else Listener.OTHER


def _answer(host: str, port: int) -> bytes:
    with contextlib.suppress(ConnectionError), socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(b"PING / HTTP/1.0\r\n\r\n")  # Redis reads it as a command with too many arguments
        return connection.recv(16)
    return b""


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it
    try:
        with (
            socket.create_connection((host, port), PATIENCE) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return error.reason not in {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", None}
    except OSError:
        return False
