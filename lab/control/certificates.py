"""The lab's certificate authority, and a TLS context for each address. Kept in the lab's folder between starts."""

import os
import ssl
import warnings
from pathlib import Path

import trustme

from lab.winrm.ways import DEFAULT, Ways

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

    def listener(self, address: str, name: str, ways: Ways = DEFAULT) -> tuple[ssl.SSLContext, bytes]:
        """A server context with a certificate for the address and the name, and that certificate (DER)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf = self._ca.issue_cert(address, name)
        leaf.configure_cert(context)
        if "certificate" in ways.offers:
            self._ca.configure_trust(context)
            context.verify_mode = ssl.CERT_OPTIONAL
        if ways.tls_1_0:
            _make_old(context)
        return context, ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode("ascii"))

    def client(self, user: str) -> str:
        """A client certificate whose common name is the user, with its key, as PEM: a secret."""
        return self._ca.issue_cert(common_name=user).private_key_and_cert_chain_pem.bytes().decode("ascii")


def _make_old(context: ssl.SSLContext) -> None:
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore"):  # the versions that a lab of old servers needs are deprecated
        context.maximum_version = ssl.TLSVersion.TLSv1
