"""What answers on a port that does not speak TLS: looked at only after a failed handshake, and without credentials."""

import ssl
from contextlib import suppress

from workers.records import Endpoint
from workers.winrm.bounded import Bound, NoAnswer, TooMuch, connected
from workers.winrm.channel import Limit

__all__ = ["OtherProtocol", "other_protocol"]

PATIENCE = 1.0  #: seconds for each look
_LOOKED_AT = 512  #: bytes
#: What makes a server speak that waits for its client: nothing (SSH, mail), HTTP, and a connection request of RDP.
_OPENERS = (
    b"",
    b"OPTIONS /wsman HTTP/1.1\r\nHost: wsman\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    bytes.fromhex("030000130ee000000000000100080003000000"),
)
#: What OpenSSL says of bytes that are no TLS.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"})
#: A handshake without an answer. A TLS server may do that too, and answer a request in plain HTTP.
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)
_TLS, _HTTP = (b"\x14\x03", b"\x15\x03", b"\x16\x03"), b"HTTP/"


class OtherProtocol(Exception):
    """The server does not speak TLS. `sent` is the beginning of what it sent instead."""

    def __init__(self, sent: bytes) -> None:
        super().__init__("the server speaks another protocol")
        self.sent = sent


def other_protocol(at: Endpoint, limit: Limit, failed: Exception) -> OtherProtocol | None:
    """What the server speaks instead of TLS; None if it may speak TLS, or says nothing.

    Args:
        at: the node.
        limit: the caller's limit; each look takes at most `PATIENCE` seconds.
        failed: why the handshake failed.
    """
    plain = isinstance(failed, ssl.SSLError) and failed.reason in _NO_TLS
    if not plain and not isinstance(failed, _ENDED):
        return None
    for opener in _OPENERS:
        sent = _answer(at, limit, opener)
        if sent and not sent.startswith(_TLS) and (plain or not sent.startswith(_HTTP)):
            return OtherProtocol(sent)
    return None


def _answer(at: Endpoint, limit: Limit, opener: bytes) -> bytes:
    """The first bytes that a server sends on a new connection after these; empty if it sends nothing."""
    with suppress(OSError, NoAnswer, TooMuch):
        wire = connected(at.host, at.port, Bound(limit, PATIENCE, _LOOKED_AT))
        try:
            if opener:
                wire.sendall(opener)
            received = bytearray(_LOOKED_AT)
            return bytes(received[: wire.recv_into(received)])
        finally:
            wire.disconnect()
    return b""
