"""Files of nodes that were read before, in memory: a node then sends the digest of a file instead of its bytes again.

For the files that grow with the cluster. They may hold secrets, so they are never written anywhere.
"""

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workers.records import Endpoint
from workers.winrm.operations import Op, Reply, data_of

__all__ = ["FilesOfNode", "Remembered", "RememberedFiles"]

MOST = 32 * 2**20  #: default limit in bytes; a configuration with 1,000 keys has 40 kB, compressed


@dataclass(frozen=True, slots=True)
class Remembered:
    """One content of a file."""

    hash: str
    _packed: bytes = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> "Remembered":
        """The content, compressed."""
        return cls(hashlib.sha256(data).hexdigest(), zlib.compress(data, 1))

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return zlib.decompress(self._packed)

    def __len__(self) -> int:
        """Bytes in memory."""
        return len(self._packed)


class RememberedFiles:
    """The latest content of each file; above the limit the files that were not asked for the longest are forgotten.

    Safe for threads.

    Args:
        most: bytes in memory.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held = 0
        self._files: OrderedDict[tuple[Endpoint, str], Remembered] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, at: Endpoint, path: str) -> Remembered | None:
        """What the file held when it was read last; None if that is not known."""
        with self._guard:
            known = self._files.get((at, path))
            if known is not None:
                self._files.move_to_end((at, path))
            return known

    def keep(self, at: Endpoint, path: str, data: bytes) -> None:
        """Remembers what a file holds."""
        new = Remembered.of(data)
        with self._guard:
            before = self._files.pop((at, path), None)
            self._held += len(new) - (len(before) if before else 0)
            self._files[at, path] = new
            while self._held > self._most:
                self._held -= len(self._files.popitem(last=False)[1])


class FilesOfNode:
    """The files of one node, for one session with it.

    Args:
        files: those of all nodes.
        at: the node.
    """

    def __init__(self, files: RememberedFiles, at: Endpoint) -> None:
        self._files = files
        self._at = at
        self._named: dict[str, Remembered] = {}

    def recalled(self, op: Op) -> Op:
        """The operation; a `read` of a file that is remembered names its content."""
        known = self._files.of(self._at, op.target) if op.remembered else None
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
        self._files.keep(self._at, op.target, data)
        return {**result, "data": data}
