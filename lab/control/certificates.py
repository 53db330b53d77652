"""The lab's certificate authority, and a TLS context for each address. Kept in the lab's folder between starts."""

import os
import ssl
from pathlib import Path

import trustme

__all__ = ["Authority"]


class Authority:
    """Signs the nodes' https certificates.

    Args:
        folder: where `ca.pem` (for clients) and `ca.key` (0600) are kept; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "ca.pem"
        key = folder / "ca.key"
        if self.certificate.exists() and key.exists():
            self._ca = trustme.CA.from_pem(self.certificate.read_bytes(), key.read_bytes())
            return
        self._ca = trustme.CA(organization_name="esync lab", organization_unit_name="for tests only")
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self._ca.private_key_pem.bytes())
        self.certificate.write_bytes(self._ca.cert_pem.bytes())

    def context(self, address: str, name: str) -> ssl.SSLContext:
        """A server context with a certificate for the address and the name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(address, name).configure_cert(context)
        return context
