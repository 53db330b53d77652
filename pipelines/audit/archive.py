"""Packs members into one zip file and back: the same members give the same bytes on every machine.

Nothing is compressed: the output of zip libraries differs between machines, and a compressed member could be a bomb.
"""

import io
import re
import zipfile
from collections.abc import Mapping

from workers.errors import BundleRefused

__all__ = ["LARGEST", "pack", "unpack"]

LARGEST = 512 * 1024 * 1024  #: bytes of the largest archive; 5,000 nodes with full histories need a third of it
MOST_MEMBERS = 20_000  #: 5,000 nodes, each observed three times
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members, in the order of their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, whatever system this runs on
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, members[name])
    return file.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of an archive that `pack` made. Every byte of the archive is checked.

    Raises:
        BundleRefused: it is damaged, another program wrote or changed it, or it is malicious.
    """
    # Counted before parsing: a directory with millions of entries would fill the memory.
    if len(data) > LARGEST or data.count(_DIRECTORY_ENTRY) > 2 * MOST_MEMBERS:
        raise BundleRefused("the file is larger than any bundle")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _require_expected(entries, len(data))
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise BundleRefused(f"not a valid zip file: {error}", remedy="copy the file again") from None
    if pack(members) != data:
        raise BundleRefused("the archive contains unexpected bytes: it was not written by esync, or it was changed")
    return members


def _require_expected(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Checks the directory of the archive before any member is read."""
    names = [entry.filename for entry in entries]
    for entry in entries:
        if not _NAME.fullmatch(entry.filename):
            raise BundleRefused(f"{entry.filename[:80]!r} is not a valid name of a bundle member")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleRefused(f"{entry.filename} is compressed; a bundle has no compressed members")
    if len(names) > MOST_MEMBERS or len(set(names)) < len(names):
        raise BundleRefused("the archive has several members of the same name, or too many members")
    if sum(entry.file_size for entry in entries) > size:
        raise BundleRefused("the members of the archive claim to be larger than the archive")
