"""Messages over http, encrypted with the key of the logon (MS-WSMV 2.2.9.1). `pyspnego` encrypts; this is the envelope.

The keys belong to one logon on one connection: a new connection needs a new logon, and the message is encrypted again.
"""

import math
import re
import struct
import time
from collections.abc import Iterator, Mapping

import spnego
from spnego import ContextReq
from spnego.exceptions import SpnegoError

from workers.records import Transport

__all__ = ["ENCRYPTING", "Encryption", "NotEncrypted", "weak_session"]

#: The logon methods that encrypt, and the name of each in the envelope.
ENCRYPTING: Mapping[Transport, str] = {
    Transport.NTLM: "application/HTTP-SPNEGO-session-encrypted",
    Transport.KERBEROS: "application/HTTP-Kerberos-session-encrypted",
    Transport.CREDSSP: "application/HTTP-CredSSP-session-encrypted",
}
MARGIN = 90.0  #: seconds: an answer takes at most 75
_PIECE = 16384  #: bytes of one part with CredSSP: a TLS record has no more
_BOUNDARY = b"--Encrypted Boundary"
_SEPARATOR = re.compile(rb"--[ ]?Encrypted Boundary(?:--)?\r\n")
_LENGTH = re.compile(rb"OriginalContent:[^\r\n]{1,200};Length=([0-9]{1,9})\s*\Z", re.IGNORECASE)
_OCTETS = re.compile(rb"\s*Content-Type:\s*application/octet-stream\r\n", re.IGNORECASE)
_MOST_HEADER = 1024  #: bytes of the security header of a part; the largest known one has 76
#: Of an NTLM challenge: sign, seal, extended session security, 128 bits, key exchange (MS-NLMP 2.2.2.5).
_NTLM_SIGNATURE, _NTLM_FLAGS_AT = b"NTLMSSP\0\2\0\0\0", 20
_STRONG = 0x10 | 0x20 | 0x80000 | 0x20000000 | 0x40000000


class NotEncrypted(Exception):
    """An answer that has to be encrypted is not, or was changed on its way."""


def weak_session(challenge: bytes) -> bool:
    """Whether an NTLM challenge asks for less protection of the messages than NTLM can give, as an attacker would."""
    if not challenge.startswith(_NTLM_SIGNATURE) or len(challenge) < _NTLM_FLAGS_AT + 4:
        return False
    flags: int = struct.unpack_from("<I", challenge, _NTLM_FLAGS_AT)[0]
    return flags & _STRONG != _STRONG


class Encryption:
    """Encrypts and decrypts the messages of one connection, in the order in which they are sent.

    Args:
        context: of a completed logon.
        transport: the logon method.

    Raises:
        NotEncrypted: the logon agreed on no encryption.
    """

    def __init__(self, context: spnego.ContextProxy, transport: Transport) -> None:
        wanted = ContextReq.confidentiality | ContextReq.integrity
        if transport is not Transport.CREDSSP and context.context_attr & wanted != wanted:  # CredSSP is TLS
            raise NotEncrypted("agreed on no encryption of messages in the logon")
        self._ends = time.monotonic() + _lifetime(context)
        self._context = context
        self._protocol = ENCRYPTING[transport].encode()
        self._piece = _PIECE if transport is Transport.CREDSSP else 0

    @property
    def expiring(self) -> bool:
        """Whether an answer could arrive after the keys have expired, as those of a Kerberos ticket do."""
        return time.monotonic() > self._ends - MARGIN

    def sealed(self, message: bytes) -> tuple[bytes, Mapping[str, str]]:
        """The encrypted message, and the headers that say what it is.

        Raises:
            SpnegoError: the keys cannot be used any more; nothing was sent.
        """
        pieces = self._pieces(message)
        kind = "multipart/x-multi-encrypted" if len(pieces) > 1 else "multipart/encrypted"
        body = b"".join(map(self._part, pieces)) + _BOUNDARY + b"--\r\n"
        protocol = self._protocol.decode()
        return body, {"Content-Type": f'{kind};protocol="{protocol}";boundary="Encrypted Boundary"'}

    def _pieces(self, message: bytes) -> list[bytes]:
        size = self._piece or len(message) or 1
        return [message[at : at + size] for at in range(0, len(message), size)] or [b""]

    def _part(self, piece: bytes) -> bytes:
        header, data, padding = self._context.wrap_winrm(piece)
        head = (
            b"%s\r\n\tContent-Type: %s\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n"
            b"%s\r\n\tContent-Type: application/octet-stream\r\n"
        ) % (_BOUNDARY, self._protocol, len(piece) + padding, _BOUNDARY)
        return head + struct.pack("<i", len(header)) + header + data

    def opened(self, body: bytes, content_type: str) -> bytes:
        """The message in an encrypted answer.

        Raises:
            NotEncrypted: it is not encrypted, or was not encrypted by the server of this logon.
        """
        if not content_type.lower().startswith(("multipart/encrypted", "multipart/x-multi-encrypted")):
            raise NotEncrypted("sent an answer that is not encrypted")
        return b"".join(self._decrypted(*part) for part in _parts(body))

    def _decrypted(self, length: int, header: bytes, data: bytes) -> bytes:
        try:
            message: bytes = self._context.unwrap_winrm(header, data)
        except Exception as error:
            kind = "SpnegoError" if isinstance(error, SpnegoError) else type(error).__name__
            raise NotEncrypted(f"sent an answer that cannot be decrypted ({kind})") from error
        if len(message) != length:
            raise NotEncrypted("sent an encrypted answer of another length than it says")
        return message


def _lifetime(context: spnego.ContextProxy) -> float:
    """Seconds until the keys expire; `pyspnego` does not tell, but what it holds does."""
    held = getattr(context, "_context", None)
    seconds = getattr(held, "lifetime", None)
    return float(seconds) if isinstance(seconds, int) else math.inf


def _parts(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Of each part: the length of its message, its security header, its encrypted data."""
    empty, *parts = _SEPARATOR.split(body)
    if empty.strip() or len(parts) < 3 or len(parts) % 2 == 0 or parts[-1].strip():  # noqa: PLR2004 - head, data, end
        raise NotEncrypted("sent an encrypted answer without its parts")
    for head, content in zip(parts[:-1:2], parts[1::2], strict=True):
        length, start = _LENGTH.search(head.rstrip()), _OCTETS.match(content)
        if length is None or start is None:
            raise NotEncrypted("sent an encrypted answer with an invalid part")
        payload = content[start.end() :]
        size = struct.unpack("<i", payload[:4])[0] if len(payload) >= 4 else -1  # noqa: PLR2004 - bytes of a number
        if not 0 <= size <= min(_MOST_HEADER, len(payload) - 4):
            raise NotEncrypted("sent an encrypted answer with an invalid security header")
        yield int(length[1]), payload[4 : 4 + size], payload[4 + size :]
