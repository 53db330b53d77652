"""What the same file of several nodes has in common: all of it except the name of the node in its own certificates.

A file of a cluster of a thousand nodes has a thousand keys. So it is read and edited once for all nodes, with another
name in the place of the node's; then the node gets its own name back.
"""

import re
from dataclasses import dataclass, field

__all__ = ["Alike"]

_BEFORE, _AFTER = b'Certificate="', b"_Sync"  #: serverCertificate and clientCertificate (ektron-facts 2.2, 2.3)
_STAND_IN = b"ESYNC-THIS-NODE"  #: like the name of a node for XML, in every place
#: Certificate files that belong to no node: those of the installation, and the ends of those with the stand-in.
_NO_NODE = (b"ektronsyncserver.pfx", b"ektronsyncclient.pfx", b'"server.pfx"', b'"client.pfx"')
_NAME = re.compile(rb"[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Alike:
    """A file, or a text, with the stand-in in the place of the node's name.

    Attributes:
        data: the bytes; those of the file if it names no node, or several.
        name: the name that was replaced; empty if none was.
    """

    STAND_IN = _STAND_IN.decode()

    data: bytes = field(repr=False)
    name: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> "Alike":
        """The file with the stand-in for the node whose certificates it names."""
        names = _names(data)
        if len(names) != 1 or _STAND_IN in data:
            return cls(data)
        (name,) = names
        return cls(data.replace(_BEFORE + name + _AFTER, _BEFORE + _STAND_IN + _AFTER), name)

    def stands_for(self, node: str) -> bool:
        """Whether the stand-in may be in the place of this node in an edit: the file names no other certificate file.

        It may name none at all. In another file, a name in another spelling could be that of the node for the product.
        """
        if not _NAME.fullmatch(node.encode()) or self.name not in {b"", node.encode()} or b"\0" in self.data:
            return False
        rest = (self.data.replace(_STAND_IN + b"_Sync", b"") if self.name else self.data).lower()
        for other in _NO_NODE:
            rest = rest.replace(other, b"")
        return _STAND_IN.lower() not in rest and b".pfx" not in rest

    @property
    def whole(self) -> bytes:
        """The bytes with the node's name."""
        return self.data.replace(_STAND_IN, self.name)

    def text(self, text: str) -> str:
        """A text that was found in the file, with the node's name."""
        return text.replace(self.STAND_IN, self.name.decode()) if self.name else text


def _names(data: bytes) -> set[bytes]:
    found, at = set[bytes](), data.find(_BEFORE)
    while at >= 0:
        start = at + len(_BEFORE)
        match = _NAME.match(data, start)
        name, is_named, _ = match[0].rpartition(_AFTER) if match else (b"", b"", b"")
        if is_named:
            found.add(name)
        at = data.find(_BEFORE, start)
    return found
