"""Members in one zip file, and back: the same members give the same bytes on every machine, and only those are read.

Nothing is compressed: a zip library's output differs between machines, and a compressed member could be a bomb.
"""

import io
import re
import zipfile
from collections.abc import Mapping

from workers.errors import BundleRefused

__all__ = ["LARGEST", "pack", "unpack"]

LARGEST = 512 * 1024 * 1024  #: bytes of an archive we read: 5,000 nodes with full histories need a third of that
MOST_MEMBERS = 20_000  #: 5,000 nodes, three looks at each
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_THE_BEGINNING = (1980, 1, 1, 0, 0, 0)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members, in the order of their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _THE_BEGINNING)
            entry.create_system = 3  # Unix, also where this runs on something else
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, members[name])
    return file.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of an archive that `pack` made, every byte of it accounted for.

    Raises:
        BundleRefused: it is damaged, was made or changed by something else, or is meant to do harm.
    """
    # Counted before anything is parsed: a directory of millions of entries would fill the memory.
    if len(data) > LARGEST or data.count(_DIRECTORY_ENTRY) > 2 * MOST_MEMBERS:
        raise BundleRefused("the file is larger than any bundle")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _refuse_strange(entries, len(data))
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise BundleRefused(f"the file is no whole zip archive: {error}", remedy="fetch it again") from None
    if pack(members) != data:
        raise BundleRefused("the archive holds bytes that no bundle has: it was not written by esync, or changed")
    return members


def _refuse_strange(entries: list[zipfile.ZipInfo], size: int) -> None:
    """What would be read is looked at before any of it is."""
    names = [entry.filename for entry in entries]
    for entry in entries:
        if not _NAME.fullmatch(entry.filename):
            raise BundleRefused(f"{entry.filename[:80]!r} is not the name of a bundle's member")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleRefused(f"{entry.filename} is compressed; nothing in a bundle is")
    if len(names) > MOST_MEMBERS or len(set(names)) < len(names):
        raise BundleRefused("the archive has members of the same name, or too many")
    if sum(entry.file_size for entry in entries) > size:
        raise BundleRefused("the archive's members claim to be larger than the archive")
