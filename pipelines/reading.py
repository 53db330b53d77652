"""Reads a file that somebody named: a plain file of bounded size, or a sentence why not. Never waits for anybody."""

import os
import stat
from pathlib import Path

from workers.errors import InputRefused

__all__ = ["content_of"]


def content_of(path: Path, limit: int, what: str) -> bytes:
    """The whole content of a plain file.

    A pipe, a device or a folder is refused before it is read: to open a pipe would wait for its writer, and a device
    may never end.

    Args:
        path: the file, as it was named.
        limit: bytes it may have.
        what: the noun for it in messages, such as `cluster file`.

    Raises:
        InputRefused: it is not there, no plain file, too large, or cannot be read.
    """
    named = f"{what} {str(path)!r}" if not str(path).isprintable() else f"{what} {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InputRefused(f"{named} is no plain file", remedy="name a file")
            content = file.read(limit + 1) if found.st_size <= limit else b""
    except OSError as error:
        raise InputRefused(f"{named} cannot be read: {error.strerror or 'refused'}", remedy="name a file") from None
    except ValueError:  # a NUL in the name
        raise InputRefused(f"the name of the {what} cannot be one", remedy="name a file") from None
    if found.st_size > limit or len(content) > limit:
        raise InputRefused(f"{named} is too large: more than {limit:,} bytes", remedy="name the right file")
    return content
