"""Reads a file that the operator named: a regular file of limited size, or an error. Never blocks."""

import os
from pathlib import Path

from workers.errors import InputRefused
from workers.host.named_files import FileRefused, contents

__all__ = ["content_of", "folder_of"]


def folder_of(file: str | Path) -> Path:
    """The folder that a file is in; of a link that of its target. A loop of links is no error here."""
    return Path(os.path.realpath(file)).parent


def content_of(path: Path, limit: int, what: str) -> bytes:
    """The complete content of a regular file.

    A pipe, a device or a folder is refused before it is read: opening a pipe would wait for its writer, and a device
    may be endless.

    Args:
        path: the file, as it was named.
        limit: largest size in bytes.
        what: the noun for it in messages, such as `cluster file`.

    Raises:
        InputRefused: it does not exist, is not a regular file, is too large, or cannot be read.
    """
    named = f"{what} {str(path)!r}" if not str(path).isprintable() else f"{what} {path}"
    advice = f"give the path of {'an' if what[0] in 'aeiou' else 'a'} {what}"
    try:
        content, _ = contents(Path(os.path.realpath(path)), limit, ())
    except FileRefused:
        raise InputRefused(f"{named} is not a regular file", remedy=advice) from None
    except OSError as error:
        raise InputRefused(f"{named} cannot be read: {error.strerror or 'refused'}", remedy=advice) from None
    except ValueError:  # a NUL in the name
        raise InputRefused(f"the name of the {what} is invalid", remedy=advice) from None
    if len(content) > limit:
        raise InputRefused(f"{named} is too large: more than {limit:,} bytes", remedy="name the right file")
    return content
