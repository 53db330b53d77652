"""Files of this machine that a cluster file may name: the folders they may be in, and how they are opened.

The name comes from a record, and the content goes to a node. So only regular files below folders that an administrator
of this machine chose are opened, after links are resolved, and never esync's own files.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["FileRefused", "contents", "real_path", "require_regular"]

_PIECE = 65_536  #: bytes


class FileRefused(ValueError):
    """The file must not be read; the text says why."""


def real_path(path: Path, allowed: Iterable[Path], closed: Sequence[Path]) -> Path:
    """The path of the file after links are resolved.

    Args:
        path: the file, as it is named.
        allowed: folders that it may be in, at any depth.
        closed: files and folders that are never read, also below an allowed folder.

    Raises:
        FileRefused: it is in none of the allowed folders, or in a closed one.
    """
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(os.path.realpath(one)) for one in closed):
        raise FileRefused("the file is one of esync's own files")
    if not any(real.is_relative_to(os.path.realpath(folder)) for folder in allowed):
        leads = "" if real == path else f" (it leads to {real})"
        raise FileRefused(f"the file is in none of the allowed folders{leads}")
    return real


def require_regular(real: Path, limit: int) -> None:
    """Checks that it is a regular file of `limit` bytes at most.

    Raises:
        FileRefused: a folder, a device, a pipe or a socket, or too large.
        OSError: it does not exist.
    """
    status = real.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        raise FileRefused("it is not a regular file, or too large")


def contents(real: Path, limit: int, closed: Iterable[Path]) -> tuple[bytes, os.stat_result]:
    """The first bytes of a regular file, one more than `limit` at most, and its status. Never blocks.

    Raises:
        FileRefused: a folder, a device, a pipe or a socket; or a hard link to a closed file.
        OSError: it does not exist, or cannot be opened.
    """
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused("it is not a regular file")
        if any(os.path.samestat(status, one) for one in _files_of(closed)):
            raise FileRefused("the file is one of esync's own files")
        return _read(file, limit + 1), status


def _read(file: BinaryIO, most: int) -> bytes:
    """The first bytes. In pieces: Python reserves the memory of one read as a whole, and most files are short."""
    parts: list[bytes] = []
    while most and (part := file.read(min(most, _PIECE))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _files_of(closed: Iterable[Path]) -> Iterator[os.stat_result]:
    for one in closed:
        for file in one.iterdir() if one.is_dir() else [one]:
            with suppress(OSError):
                yield file.stat()
