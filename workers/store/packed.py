"""Long documents are stored packed: the facts of a node have 8,000 characters, and the store holds them in memory.

The facts of the nodes of a cluster are much the same. So the first of them is the *basis* of a run, and the others are
packed as what differs from it: a tenth.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable

__all__ = ["LONG", "packed", "unpacked"]

LONG = 1000  #: characters; shorter texts are stored as they are
_MARK = "\x1fz"  #: begins a packed text
_ON_BASIS = "\x1fb"  #: begins one that needs the basis
_LEVEL = 1  #: of zlib: the fastest one; the next ones save some percent
_LEVEL_ON_BASIS = 6  #: here the fastest one takes twice the space


def packed(text: str, basis: str = "") -> str:
    """The text as it is stored.

    Args:
        text: what to store.
        basis: a text that is much the same; empty for none.
    """
    if len(text) <= LONG and not text.startswith((_MARK, _ON_BASIS)):
        return text
    if basis:
        packer = zlib.compressobj(_LEVEL_ON_BASIS, zdict=_bytes(basis))
        return _ON_BASIS + b64encode(packer.compress(_bytes(text)) + packer.flush()).decode("ascii")
    return _MARK + b64encode(zlib.compress(_bytes(text), _LEVEL)).decode("ascii")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _no_basis() -> str:
    return ""


def unpacked(stored: str, basis: Callable[[], str] = _no_basis) -> str:
    """The text that was stored. Only what this installation has sealed is unpacked: it has no bound.

    Args:
        stored: from `packed`.
        basis: returns the basis that it was packed with; called only for a text that was.

    Raises:
        ValueError: it was not packed by `packed`.
    """
    if not stored.startswith((_MARK, _ON_BASIS)):
        return stored
    try:
        data = b64decode(stored[len(_MARK) :], validate=True)
        if stored.startswith(_ON_BASIS):
            unpacker = zlib.decompressobj(zdict=_bytes(basis()))
            found = unpacker.decompress(data) + unpacker.flush()
            if not unpacker.eof:
                raise ValueError("it is cut off")
        else:
            found = zlib.decompress(data)
        return found.decode("utf-8", "surrogatepass")
    except zlib.error as error:
        raise ValueError(str(error)) from None
