"""The family: the six certificate files of one node. Every node of the cluster holds renamed copies of them.

The procedure copies the six files of the origin and renames them for each node (procedure steps 5-9), so the whole
cluster shares two key pairs: one for clients, one for servers (ektron-facts 3.3).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tasks.ektron.certificates.files import (
    der_of,
    describe_certificate,
    encode,
    key_of_cer,
    key_of_pfx,
    key_of_pvk,
    thumbprint,
)
from tasks.ektron.certificates.making import blank_pfx, self_signed
from tasks.ektron.certificates.pvk import write_pvk
from tasks.ektron.facts.values import CertificateFacts
from tasks.ektron.kept import Kept
from tasks.ektron.refusals import CertificateRefused

__all__ = [
    "CLIENT_CER",
    "CLIENT_KINDS",
    "KINDS",
    "SERVER_CER",
    "Family",
    "describe_certificate",
    "family_names",
    "generate_family",
    "key_owner",
    "node_of",
    "strays",
    "thumbprint",
    "weaknesses",
]

CLIENT_KINDS = ("SyncClient.pfx", "SyncClient.pvk", "SyncClient.cer")
SERVER_KINDS = ("SyncServer.pfx", "SyncServer.pvk", "SyncServer.cer")
KINDS = CLIENT_KINDS + SERVER_KINDS  #: in the order of the procedure (procedure step 6)
CLIENT_CER, SERVER_CER = "SyncClient.cer", "SyncServer.cer"
_ENDS = tuple(f"_{kind.casefold()}" for kind in KINDS)  #: of the names of their files

_SECURITY_SUFFIXES = (".pfx", ".pvk", ".cer")
_ENOUGH_BITS = 2048
_BROKEN_SIGNATURES = {"md2", "md5", "sha1"}
_SOON = timedelta(days=60)  #: enough to plan a renewal


def family_names(node: str) -> tuple[str, ...]:
    """The six file names of a node, `<node>_SyncClient.pfx` first."""
    return tuple(f"{node}_{kind}" for kind in KINDS)


def node_of(file_name: str) -> tuple[str, str] | None:
    """The node and the kind in the name of a family file, or None for another file. Case does not matter.

    The name of a node may contain underscores, so the kind is read from the end.
    """
    lowered = file_name.casefold()
    if lowered.endswith(_ENDS):
        for kind, end in zip(KINDS, _ENDS, strict=True):
            if lowered.endswith(end):
                return file_name[: -len(kind) - 1], kind
    return None


def key_owner(key: str) -> str | None:
    """The server that a key of publickCertKeys lets in; None for a key that is not named like a client certificate."""
    named = node_of(key)
    return named[0] if named and named[1] == CLIENT_CER else None


def strays(node: str, file_names: Iterable[str]) -> tuple[str, ...]:
    """Security files other than the six files of this node.

    `Ektron Security Certificates` must not contain them (procedure, second part, step 10). Files of other types are
    harmless.
    """
    own = {name.casefold() for name in family_names(node)}
    return tuple(
        name for name in file_names if name.casefold().endswith(_SECURITY_SUFFIXES) and name.casefold() not in own
    )


@dataclass(frozen=True, kw_only=True)
class Family:
    """Six files whose key pairs are proven to belong together. They contain private keys: store them encrypted."""

    blobs: Mapping[str, bytes] = field(repr=False)  #: kind -> file

    @classmethod
    def collect(cls, node: str, files: Mapping[str, bytes], *, passwords: tuple[str, ...] = ()) -> "Family":
        """The family of a node from the files of a folder. Case of names does not matter.

        Args:
            node: the node in the names of the six files.
            files: file name -> content; files with other names are ignored.
            passwords: tried on `.pfx` and `.pvk` after the blank one.

        Raises:
            CertificateRefused: a file is missing, damaged, or does not match the others; the message names it.
        """
        present = {name.casefold(): data for name, data in files.items()}
        missing = [name for name in family_names(node) if name.casefold() not in present]
        if missing:
            raise CertificateRefused(
                f"{len(missing)} of the six certificate files are missing: {', '.join(missing)}",
                remedy=f"open the Security Configurator on {node}, click Generate Certificates, then OK",
            )
        family = cls(blobs={kind: present[f"{node}_{kind}".casefold()] for kind in KINDS})
        _PROVEN.of(
            (*family.hashes.values(), *map(_digest_of, passwords)), lambda: _proven(node, family.blobs, passwords)
        )
        return family

    @cached_property
    def encoded_value(self) -> str:
        """The client certificate in the form of the configuration files: base64 of the DER (ektron-facts 3.2)."""
        return encode(der_of(self.blobs[CLIENT_CER]))

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the DER of the client certificate, hex. All keys and the value of the site must decode to it."""
        return thumbprint(self.encoded_value)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by kind, hex."""
        return {kind: hashlib.sha256(data).hexdigest() for kind, data in self.blobs.items()}

    @property
    def client(self) -> CertificateFacts:
        """The public part of the client certificate."""
        return describe_certificate(self.blobs[CLIENT_CER])

    @property
    def server(self) -> CertificateFacts:
        """The public part of the server certificate."""
        return describe_certificate(self.blobs[SERVER_CER])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Weak or expired certificates, judged at the current time. The product accepts them (ektron-facts 3.2)."""
        now = datetime.now(UTC)
        return tuple(
            f"the {side} certificate {weakness}"
            for side, facts in (("client", self.client), ("server", self.server))
            for weakness, _ in weaknesses(facts, now)
        )

    def files_for(self, node: str, kinds: Iterable[str] = KINDS) -> dict[str, str]:
        """File name -> kind of the renamed copies for a node."""
        return {f"{node}_{kind}": kind for kind in kinds}


def weaknesses(facts: CertificateFacts, now: datetime) -> Iterator[tuple[str, bool]]:
    """Weaknesses of a certificate, each with whether it is about its dates."""
    if facts.not_after <= now:
        yield f"expired on {facts.not_after:%Y-%m-%d}", True
    elif facts.not_after <= now + _SOON:
        yield f"expires soon, on {facts.not_after:%Y-%m-%d}", True
    if facts.not_before > now:
        yield f"is not valid before {facts.not_before:%Y-%m-%d}", True
    if facts.key_bits < _ENOUGH_BITS:
        yield f"has a key of {facts.key_bits} bits, {_ENOUGH_BITS} are recommended", False
    if facts.signature in _BROKEN_SIGNATURES:
        yield f"is signed with {facts.signature}, which is insecure", False


def generate_family(
    node: str,
    *,
    bits: int = 2048,
    years: int = 10,
    subject: str = "ektron",
    not_before: datetime | None = None,
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
) -> Family:
    """A new family with the profile of the product: self-signed CN=ektron, one key pair for client and one for server.

    For labs, and for sites that accept certificates from another source than the Security Configurator.

    Args:
        node: the node in the file names; the bytes do not depend on it (ektron-facts 3.2: all subjects are equal).
        bits: size of the RSA keys.
        years: validity, of 365 days each.
        subject: the common name.
        not_before: start of validity; by default yesterday, because clocks differ.
        digest: hash algorithm of the signature; by default SHA-256.
    """
    start = (not_before or datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    end = start + timedelta(days=365 * years)
    blobs: dict[str, bytes] = {}
    for side in ("SyncClient", "SyncServer"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        certificate = self_signed(key, subject, start, end, digest or hashes.SHA256())
        blobs[f"{side}.pfx"] = blank_pfx(key, certificate)
        blobs[f"{side}.pvk"] = write_pvk(key)
        blobs[f"{side}.cer"] = certificate.public_bytes(Encoding.DER)
    return Family.collect(node, {f"{node}_{kind}": data for kind, data in blobs.items()})


def _digest_of(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


_PROVEN = Kept[tuple[str, ...], bool](entries=64, size=0)  #: only that it is proven, never a key; a proof takes 20 ms


def _proven(node: str, blobs: Mapping[str, bytes], passwords: tuple[str, ...]) -> bool:
    client = _one_pair(node, "SyncClient", blobs, passwords)
    server = _one_pair(node, "SyncServer", blobs, passwords)
    if client == server:
        raise CertificateRefused(
            f"the client files and the server files of {node} have the same key",
            remedy="one set has overwritten the other; generate the family again on the origin",
        )
    return True


def _one_pair(node: str, side: str, blobs: Mapping[str, bytes], passwords: tuple[str, ...]) -> rsa.RSAPublicNumbers:
    """The public numbers of the key that the three files of one side share."""
    mixed = "files of two families are mixed; generate the family again on the origin"
    cer, pfx, pvk = (f"{side}.cer", f"{side}.pfx", f"{side}.pvk")
    with _naming(f"{node}_{cer}"):
        public = key_of_cer(blobs[cer]).public_numbers()
    with _naming(f"{node}_{pfx}"):
        pfx_key, inside = key_of_pfx(blobs[pfx], passwords)
    with _naming(f"{node}_{pvk}"):
        pvk_key = _pvk_key(blobs[pvk], passwords)
    for name, found in ((pfx, pfx_key), (pvk, pvk_key)):
        if found.public_key().public_numbers() != public:
            raise CertificateRefused(f"{node}_{name} has another key than {node}_{cer}", remedy=mixed)
    if inside != der_of(blobs[cer]):
        raise CertificateRefused(f"{node}_{pfx} contains another certificate than {node}_{cer}", remedy=mixed)
    return public


def _pvk_key(data: bytes, passwords: tuple[str, ...]) -> rsa.RSAPrivateKey:
    """The key of a `.pvk`. When it is protected, each password is tried; the last refusal is raised."""
    for password in (None, *passwords[:-1]):
        with suppress(CertificateRefused):
            return key_of_pvk(data, password)
    return key_of_pvk(data, passwords[-1] if passwords else None)


@contextmanager
def _naming(file_name: str) -> Iterator[None]:
    """Adds the file name to a refusal."""
    try:
        yield
    except CertificateRefused as refusal:
        raise CertificateRefused(f"{file_name}: {refusal.message}", remedy=refusal.remedy) from None
