"""Files of this machine that a cluster file may name: where they may lie, and how they are opened.

What is named comes from a record, and what is read goes to a node: so only regular files below folders that a person of
this machine has chosen, links resolved, and never one of our own.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["NotAllowed", "contents", "place_of", "require_regular"]


class NotAllowed(ValueError):
    """That file is not to be read; says in a few words why."""


def place_of(path: Path, allowed: Iterable[Path], closed: Sequence[Path]) -> Path:
    """Where the file really lies.

    Args:
        path: as it is named.
        allowed: folders it may lie below.
        closed: files and folders that nothing may be taken from, wherever they lie.

    Raises:
        NotAllowed: below none of the folders, or in a closed one.
    """
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(os.path.realpath(one)) for one in closed):
        raise NotAllowed("the file is one of esync's own")
    if not any(real.is_relative_to(os.path.realpath(folder)) for folder in allowed):
        leads = "" if real == path else f" (it leads to {real})"
        raise NotAllowed(f"the file lies in none of the folders that such files may come from{leads}")
    return real


def require_regular(real: Path, limit: int) -> None:
    """Refuses what is no regular file of `limit` bytes at most.

    Raises:
        NotAllowed: a folder, a device, a pipe or a socket, or too large.
        OSError: there is none.
    """
    known = real.stat()
    if not stat.S_ISREG(known.st_mode) or known.st_size > limit:
        raise NotAllowed("it is no regular file, or too large")


def contents(real: Path, limit: int, closed: Iterable[Path]) -> tuple[bytes, os.stat_result]:
    """The first bytes of a regular file, one more than `limit` at most, and what is known of it. Never waits.

    Raises:
        NotAllowed: a folder, a device, a pipe or a socket; or another name, a hard link, of a closed file.
        OSError: there is none, or it cannot be opened.
    """
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode):
            raise NotAllowed("it is no regular file")
        if any(os.path.samestat(known, one) for one in _files_of(closed)):
            raise NotAllowed("the file is one of esync's own")
        return file.read(limit + 1), known


def _files_of(closed: Iterable[Path]) -> Iterator[os.stat_result]:
    for one in closed:
        for file in one.iterdir() if one.is_dir() else [one]:
            with suppress(OSError):
                yield file.stat()
