"""Makes certificate files with the profile of the product: single ones, and a family."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

from tasks.ektron.certificates.family import Family
from tasks.ektron.certificates.pvk import write_pvk

__all__ = ["blank_pfx", "generate_family", "self_signed"]


_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ektron")])  #: of every certificate (ektron-facts 3.2)


def self_signed(key: rsa.RSAPrivateKey, start: datetime, end: datetime) -> x509.Certificate:
    """A self-signed certificate with the product's name as subject and issuer, as makecert -r makes it, but SHA-256."""
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )


def blank_pfx(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    r"""A PFX with a blank password that every Windows version opens: triple DES and SHA-1, as its own wizard writes.

    The library refuses an empty password with these algorithms. A single `\0` gives the same keys: PKCS #12 repeats
    the UTF-16 password with its final zero to fill a block, and the block is all zeros in both cases.
    """
    profile = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - the only MAC that Windows before version 10 reads
        .build(b"\0")
    )
    return pkcs12.serialize_key_and_certificates(None, key, certificate, None, profile)


def generate_family(node: str, *, bits: int = 2048, years: int = 10, not_before: datetime | None = None) -> Family:
    """A new family with the profile of the product: self-signed CN=ektron, one key pair for client and one for server.

    For labs, and for sites that accept certificates from another source than the Security Configurator.

    Args:
        node: the node in the file names; the bytes do not depend on it (ektron-facts 3.2: all subjects are equal).
        bits: size of the RSA keys.
        years: validity, of 365 days each.
        not_before: start of validity; by default yesterday, because clocks differ.
    """
    start = (not_before or datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    end = start + timedelta(days=365 * years)
    blobs: dict[str, bytes] = {}
    for side in ("SyncClient", "SyncServer"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        certificate = self_signed(key, start, end)
        blobs[f"{side}.pfx"] = blank_pfx(key, certificate)
        blobs[f"{side}.pvk"] = write_pvk(key)
        blobs[f"{side}.cer"] = certificate.public_bytes(Encoding.DER)
    return Family.collect(node, {f"{node}_{kind}": data for kind, data in blobs.items()})
