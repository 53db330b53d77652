"""Why there is no connection to a node: TCP, TLS, or a certificate that is not accepted."""

import hashlib

__all__ = ["NotConnected", "OldTls", "WrongPin", "fingerprint_of"]


class NotConnected(Exception):
    """There is no connection, so nothing was sent.

    Attributes:
        tls: TCP was connected, but TLS failed.
        certificate: the certificate that the node showed and that was not accepted, DER; empty if it is not known.
    """

    def __init__(self, reason: Exception, *, tls: bool = False, certificate: bytes = b"") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.tls = tls
        self.certificate = certificate


class WrongPin(Exception):
    """The node has another certificate than the pinned one. Both are SHA-256 in lower case hex."""

    def __init__(self, pinned: str, shown: str) -> None:
        super().__init__(f"the certificate is not the pinned one: {shown}")
        self.pinned = pinned
        self.shown = shown


class OldTls(Exception):
    """The node speaks no TLS version that is new enough; it speaks `version`, such as `TLSv1`."""

    def __init__(self, version: str) -> None:
        super().__init__(f"the newest version is {version}")
        self.version = version


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), in lower case hex."""
    return hashlib.sha256(certificate).hexdigest()
