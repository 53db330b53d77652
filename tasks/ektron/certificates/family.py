"""The family: the six certificate files of one node. Every node of the cluster holds renamed copies of them.

The procedure copies the six files of the origin and renames them for each node (procedure steps 5-9), so the whole
cluster shares two key pairs: one for clients, one for servers (ektron-facts 3.3).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from tasks.ektron.certificates.encoded import der_of, encode, thumbprint
from tasks.ektron.facts.values import CertificateFacts
from tasks.ektron.refusals import CertificateRefused

__all__ = [
    "CLIENT_CER",
    "CLIENT_KINDS",
    "KINDS",
    "Family",
    "family_names",
    "key_owner",
    "node_of",
    "strays",
    "thumbprint",
    "weaknesses",
]

CLIENT_KINDS = ("SyncClient.pfx", "SyncClient.pvk", "SyncClient.cer")
SERVER_KINDS = ("SyncServer.pfx", "SyncServer.pvk", "SyncServer.cer")
KINDS = CLIENT_KINDS + SERVER_KINDS  #: in the order of the procedure (procedure step 6)
CLIENT_CER = "SyncClient.cer"
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
        from tasks.ektron.certificates.files import prove  # noqa: PLC0415 - commands that open no file do without it

        prove(node, family.blobs, family.hashes, passwords)
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
        from tasks.ektron.certificates.files import describe_certificate  # noqa: PLC0415 - see above

        return describe_certificate(self.blobs[CLIENT_CER])

    def files_for(self, node: str) -> dict[str, str]:
        """File name -> kind of the renamed copies for a node."""
        return {f"{node}_{kind}": kind for kind in KINDS}


def weaknesses(facts: CertificateFacts, now: datetime) -> Iterator[tuple[str, bool]]:
    """What is weak in a certificate, which the product accepts (ektron-facts 3.2); each with whether it is a date."""
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
