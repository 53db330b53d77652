"""Makes certificate files with the profile of the product."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

__all__ = ["blank_pfx", "self_signed"]


def self_signed(
    key: rsa.RSAPrivateKey,
    subject: str,
    start: datetime,
    end: datetime,
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512,
) -> x509.Certificate:
    """A self-signed certificate with the common name as subject and issuer, equal to the result of makecert -r."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, digest)
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
