"""The encrypted messages of an http listener (MS-WSMV 2.2.9.1), from the view of the server. `pyspnego` encrypts."""

import struct

import spnego
from spnego.exceptions import SpnegoError

__all__ = ["Unreadable", "decrypted", "encrypted", "is_encrypted"]

_EDGE = b"--Encrypted Boundary"
_PROTOCOLS = ("SPNEGO", "Kerberos", "CredSSP")
_RECORD = 16384  #: bytes of a part with CredSSP


class Unreadable(Exception):
    """The message was not encrypted in this logon."""


def is_encrypted(content_type: str) -> bool:
    """Whether a request says that it is encrypted."""
    return content_type.lower().startswith("multipart/") and "encrypted" in content_type.lower()


def decrypted(context: spnego.ContextProxy, body: bytes) -> bytes:
    """The message of a request.

    Raises:
        Unreadable: it is damaged, or was encrypted with other keys.
    """
    # An edge, the head of a part, an edge, its bytes; again for each part; then the last edge with two more hyphens.
    pieces = body.split(_EDGE)
    if pieces[0] or len(pieces) % 2 or not pieces[-1].startswith(b"--"):
        raise Unreadable("the parts are not complete")
    message = b""
    for head, content in zip(pieces[1:-1:2], pieces[2:-1:2], strict=True):
        length = head.rpartition(b"Length=")[2].strip()
        _, found, payload = content.partition(b"application/octet-stream\r\n")
        if not found or not length.isdigit():
            raise Unreadable("a part has no length or no content")
        (size,) = struct.unpack("<I", payload[:4].ljust(4, b"\0"))
        try:
            plain = context.unwrap_winrm(payload[4 : 4 + size], payload[4 + size :])
        except (SpnegoError, ValueError, struct.error) as error:
            raise Unreadable(str(error)) from None
        if len(plain) != int(length):
            raise Unreadable("a part has another length than it says")
        message += plain
    return message


def encrypted(context: spnego.ContextProxy, method: str, message: bytes) -> tuple[bytes, str]:
    """The body of an answer, and its content type."""
    protocol = next(name for name in _PROTOCOLS if name.lower() == method)
    size = _RECORD if protocol == "CredSSP" else max(len(message), 1)
    pieces = [message[start : start + size] for start in range(0, len(message), size)] or [b""]
    body = b""
    for piece in pieces:
        header, data, padding = context.wrap_winrm(piece)
        body += (
            _EDGE
            + f"\r\n\tContent-Type: application/HTTP-{protocol}-session-encrypted\r\n\tOriginalContent: ".encode()
            + f"type=application/soap+xml;charset=UTF-8;Length={len(piece) + padding}\r\n".encode()
            + _EDGE
            + b"\r\n\tContent-Type: application/octet-stream\r\n"
            + struct.pack("<I", len(header))
            + header
            + data
        )
    kind = "multipart/x-multi-encrypted" if len(pieces) > 1 else "multipart/encrypted"
    return body + _EDGE + b"--\r\n", (
        f'{kind};protocol="application/HTTP-{protocol}-session-encrypted";boundary="Encrypted Boundary"'
    )
