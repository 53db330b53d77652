"""Files of nodes that were read before, in memory: a node then sends the digest of a file instead of its bytes again.

For the files that grow with the cluster. They may hold secrets, so they are never written anywhere.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.records import Endpoint
from workers.remembered import Remembered
from workers.winrm.operations import Op, Reply, data_of

__all__ = ["FilesOfNode", "KnownFile"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What a file held when it was read last."""

    hash: str
    _packed: bytes = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> "KnownFile":
        """The content, compressed."""
        return cls(hashlib.sha256(data).hexdigest(), zlib.compress(data, 1))

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return zlib.decompress(self._packed)

    def __len__(self) -> int:
        """Bytes in memory."""
        return len(self._packed)


class FilesOfNode:
    """The files of one node, for one session with it.

    Args:
        files: those of all nodes, by node and path; their weight is in bytes.
        at: the node.
    """

    def __init__(self, files: Remembered[KnownFile], at: Endpoint) -> None:
        self._files = files
        self._at = at
        self._named: dict[str, KnownFile] = {}

    def recalled(self, op: Op) -> Op:
        """The operation; a `read` of a file that is remembered names its content."""
        known = self._files.get((self._at, op.target)) if op.remembered else None
        if known is None:
            return op
        self._named[op.target] = known
        return replace(op, fields={**op.fields, "known": known.hash})

    def completed(self, op: Op, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """The result of the operation with the bytes of the file, where the node did not send them again."""
        if not op.remembered or result.get("ok") is not True:
            return result
        known = self._named.pop(op.target, None)
        if known is not None and "data" not in result and result.get("hash") == known.hash:
            return {**result, "data": known.data}
        data = data_of(Reply(op, result))
        new = KnownFile.of(data)
        self._files.put((self._at, op.target), new, len(new))
        return {**result, "data": data}
