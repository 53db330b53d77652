"""The rules of a Windows file system, as far as the agent can see them. Subclasses store the bytes.

`FolderDisk` stores them in a real folder that a person can open, `MemoryDisk` in memory, for benchmarks with thousands
of files.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath, fold

__all__ = ["Disk", "Entry", "sha256"]

_HUGE = 10**12
_REMEMBERED = 65_536  #: bytes; the hash of a larger file is not worth its memory


def sha256(data: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return _hex(data) if len(data) > _REMEMBERED else _remembered_hex(data)


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


#: The same certificate files have hundreds of names.
_remembered_hex = lru_cache(maxsize=8192)(_hex)


class Entry(NamedTuple):
    """A file or folder; times are nanoseconds since 1970, UTC. The entry of a `link` describes its target.

    A tuple, because a list of a folder makes thousands of them.

    Attributes:
        ctime: the last change of a file's content, times or attributes. No program can set it; 0 for a folder.
    """

    name: str
    folder: bool
    size: int
    mtime: int
    readonly: bool = False
    link: bool = False
    ctime: int = 0


class Disk(ABC):
    """A file system with drives, read-only files and files that another process holds open.

    Attributes:
        now: the machine's clock in nanoseconds, for the time of a change.
        denied: folders that the account may not write to, and everything in them.
        free: free bytes on every drive; a write that needs more is refused.
        keeps_change_times: as NTFS does, and FAT does not.
    """

    def __init__(self) -> None:
        self.now: Callable[[], int] = time.time_ns
        self.free = _HUGE
        self.keeps_change_times = True
        self._locked: set[WindowsPath] = set()
        self.denied: frozenset[WindowsPath] = frozenset()

    # -- reading ------------------------------------------------------------------------------------------

    @abstractmethod
    def stat(self, path: WindowsPath) -> Entry | None:
        """The file or folder at the path, or None."""

    @abstractmethod
    def _children(self, path: WindowsPath) -> list[Entry]: ...

    @abstractmethod
    def _bytes(self, path: WindowsPath) -> bytes: ...

    def entries(self, path: WindowsPath) -> list[Entry]:
        """The entries of a folder, sorted by name, ordinal and ignoring case.

        Raises:
            Refusal: `not_found`, or `invalid` for a file.
        """
        self.check_folder(path)
        return sorted(self._children(path), key=lambda entry: fold(entry.name))

    def hashes(self, path: WindowsPath) -> list[tuple[Entry, str | None]]:
        """The entries of a folder as `entries` has them, each with its `hash`; None for what cannot be read.

        Raises:
            Refusal: as `entries`.
        """
        return [(entry, self._hash_or_none(path.child(entry.name))) for entry in self.entries(path)]

    def _hash_or_none(self, path: WindowsPath) -> str | None:
        try:
            return self.hash(path)
        except Refusal:
            return None

    @abstractmethod
    def names(self, path: WindowsPath) -> list[str]:
        """The names in a folder, unsorted; empty if there is no such folder."""

    def read(self, path: WindowsPath) -> bytes:
        """A file's bytes.

        Raises:
            Refusal: `not_found`, `invalid` for a folder, `busy` if another process has it open.
        """
        self.check_file(path)
        self._unlocked(path)
        return self._bytes(path)

    def hash(self, path: WindowsPath) -> str:
        """The SHA-256 of a file's bytes. Refuses like `read`."""
        return sha256(self.read(path))

    # -- changing -----------------------------------------------------------------------------------------

    @abstractmethod
    def _put(self, path: WindowsPath, data: bytes) -> None: ...

    @abstractmethod
    def _append(self, path: WindowsPath, data: bytes) -> None: ...

    @abstractmethod
    def _make_folder(self, path: WindowsPath) -> None: ...

    @abstractmethod
    def _delete(self, path: WindowsPath) -> None: ...

    @abstractmethod
    def _set_mtime(self, path: WindowsPath, mtime: int) -> None: ...

    @abstractmethod
    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None: ...

    def put(self, path: WindowsPath, data: bytes) -> None:
        """Writes a file atomically: a reader sees all old or all new bytes. The case of an existing name stays.

        Raises:
            Refusal: `not_found` without its folder, `access_denied` if read-only, `busy`, `invalid` for a folder or
                below a file, `failed` if the drive is full.
        """
        self.put_checked(path, data, self.check_put(path))

    def put_checked(self, path: WindowsPath, data: bytes, before: Entry | None) -> None:
        """Writes a file after `check_put`, which has returned `before`, or after one of the two checks of its parts.

        Raises:
            Refusal: `failed` if the drive is full.
        """
        self._claim(len(data) - (before.size if before else 0), path)
        self._put(path, data)

    def append(self, path: WindowsPath, data: bytes) -> None:
        """Appends to a file, or creates it. Refuses like `put`."""
        self.appending(path)(data)

    def appending(self, path: WindowsPath) -> Callable[[bytes], None]:
        """Opens a file to append to it many times: each call of the result appends bytes, the first may create it.

        Raises:
            Refusal: as `put`; each call `failed` if the drive is full.
        """
        self.check_put(path)
        append = self._appending(path)

        def claimed(data: bytes) -> None:
            self._claim(len(data), path)
            append(data)

        return claimed

    def _appending(self, path: WindowsPath) -> Callable[[bytes], None]:
        return partial(self._append, path)

    def missing_folders(self, path: WindowsPath) -> list[WindowsPath]:
        """The folders that `make_folder` would create, outermost first; refuses like it."""
        entry = self.stat(path)
        if entry and not entry.folder:
            raise Refusal(Slug.INVALID, "a file with that name exists", path.text)
        if entry:
            return []
        if not path.parts:
            raise Refusal(Slug.NOT_FOUND, "there is no such drive", path.text)
        return [*self.missing_folders(path.parent), path]

    def make_folder(self, path: WindowsPath) -> None:
        """Creates a folder and its missing parents.

        Raises:
            Refusal: `not_found` for a missing drive, `invalid` if a file has the name of a folder.
        """
        for folder in self.missing_folders(path):
            self._allowed(folder)
            self._make_folder(folder)

    def remove(self, path: WindowsPath) -> None:
        """Removes a file or an empty folder.

        Raises:
            Refusal: `not_found`, `access_denied` if read-only, `busy`, `failed` for a folder that is not empty,
                `invalid` for a drive.
        """
        entry = self.check_remove(path)
        self._delete(path)
        self.free += entry.size

    def touch(self, path: WindowsPath, mtime: int | None = None) -> int:
        """Sets the last-write time, by default to now, and returns it. Refuses like `put`."""
        self._permitted(self._existing(path), path)
        stamp = self.now() if mtime is None else mtime
        self._set_mtime(path, stamp)
        return stamp

    @abstractmethod
    def _link(self, path: WindowsPath, target: WindowsPath) -> None: ...

    def link(self, path: WindowsPath, target: WindowsPath) -> None:
        """Creates a junction to an existing folder, or a link to an existing file.

        Raises:
            Refusal: `not_found` without its folder or the target, `invalid` if the name is taken.
        """
        self._existing(target)
        if self.stat(path):
            raise Refusal(Slug.INVALID, "a file or folder with that name exists", path.text)
        self.check_folder(path.parent)
        self._link(path, target)

    def set_readonly(self, path: WindowsPath, *, readonly: bool = True) -> None:
        """Sets or clears a file's read-only attribute.

        Raises:
            Refusal: `not_found`, or `invalid` for a folder.
        """
        self.check_file(path)
        self._set_readonly(path, readonly=readonly)

    def lock(self, path: WindowsPath) -> None:
        """Another process opens the file exclusively."""
        self._locked.add(path)

    def unlock(self, path: WindowsPath) -> None:
        """The other process closes the file."""
        self._locked.discard(path)

    # -- rules --------------------------------------------------------------------------------------------

    def _existing(self, path: WindowsPath) -> Entry:
        if entry := self.stat(path):
            return entry
        raise Refusal(Slug.NOT_FOUND, "there is no such file or folder", path.text)

    def check_file(self, path: WindowsPath) -> Entry:
        """The file at the path; refuses `not_found`, and `invalid` for a folder."""
        return _file(self._existing(path), path)

    def check_folder(self, path: WindowsPath) -> Entry:
        """The folder at the path; refuses `not_found`, and `invalid` for a file."""
        entry = self._existing(path)
        if not entry.folder:
            raise Refusal(Slug.INVALID, "expected a folder, found a file", path.text)
        return entry

    def _unlocked(self, path: WindowsPath) -> None:
        if self._locked and path in self._locked:
            raise Refusal(Slug.BUSY, "the file is open in another process", path.text)

    def is_denied(self, path: WindowsPath) -> bool:
        """Whether the account may not write to the file, or to the folder."""
        return bool(self.denied) and (path in self.denied or (bool(path.parts) and self.is_denied(path.parent)))

    def _allowed(self, path: WindowsPath) -> None:
        if self.is_denied(path):
            raise Refusal(Slug.ACCESS_DENIED, "access to the path is denied", path.text)

    def _permitted(self, entry: Entry, path: WindowsPath) -> None:
        self._allowed(path)
        if entry.readonly:
            raise Refusal(Slug.ACCESS_DENIED, "the file is read-only", path.text)
        self._unlocked(path)

    def check_put(self, path: WindowsPath) -> Entry | None:
        """The file that `put` would replace, or None; refuses like `put`, except for missing space."""
        entry = self.stat(path)
        if entry:
            self.check_change(path, entry)
        else:
            self.check_folder(path.parent)
            self.check_new(path)
        return entry

    def check_change(self, path: WindowsPath, entry: Entry) -> None:
        """Refuses like `put`, for an entry that `stat` has just returned."""
        self._permitted(_file(entry, path), path)

    def check_new(self, path: WindowsPath) -> None:
        """Refuses like `put`, for a name that is not in use in a folder that exists."""
        self._allowed(path)

    def check_remove(self, path: WindowsPath) -> Entry:
        """The entry that `remove` would remove; refuses like `remove`."""
        entry = self._existing(path)
        if not path.parts:
            raise Refusal(Slug.INVALID, "a drive cannot be removed", path.text)
        if entry.folder and self._children(path):
            raise Refusal(Slug.FAILED, "the folder is not empty", path.text)
        self._permitted(entry, path)
        return entry

    def _claim(self, size: int, path: WindowsPath) -> None:
        if size > self.free:
            raise Refusal(Slug.FAILED, "there is not enough space on the disk", path.text)
        self.free -= size


def _file(entry: Entry, path: WindowsPath) -> Entry:
    if entry.folder:
        raise Refusal(Slug.INVALID, "expected a file, found a folder", path.text)
    return entry
