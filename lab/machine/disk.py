"""What a Windows file system does, as far as the agent notices: the rules. Where the bytes lie is a subclass's.

`FolderDisk` keeps them in a real folder a person can look at, `MemoryDisk` in memory, for benches with thousands of
files.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath, fold

__all__ = ["Disk", "Entry", "sha256"]

_HUGE = 10**12


@lru_cache(maxsize=8192)
def sha256(data: bytes) -> str:
    """Lower-case hex. Remembered: one family lies under hundreds of names."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder as it stands. `mtime` is nanoseconds since 1970, UTC; a `link` shows what it leads to."""

    name: str
    folder: bool
    size: int
    mtime: int
    readonly: bool = False
    link: bool = False


class Disk(ABC):
    """A file system with drives, read-only files and files that another process holds open.

    Attributes:
        now: the machine's clock, nanoseconds; what a change is stamped with.
        free: bytes left on every drive; a write beyond is refused.
    """

    def __init__(self) -> None:
        self.now: Callable[[], int] = time.time_ns
        self.free = _HUGE
        self._locked: set[WindowsPath] = set()

    # -- looking ------------------------------------------------------------------------------------------

    @abstractmethod
    def stat(self, path: WindowsPath) -> Entry | None:
        """What lies there, or None."""

    @abstractmethod
    def _children(self, path: WindowsPath) -> list[Entry]: ...

    @abstractmethod
    def _bytes(self, path: WindowsPath) -> bytes: ...

    def entries(self, path: WindowsPath) -> list[Entry]:
        """What a folder holds, sorted by name, ordinal and ignoring case.

        Raises:
            Refusal: `not_found`, or `invalid` for a file.
        """
        self.check_folder(path)
        return sorted(self._children(path), key=lambda entry: fold(entry.name))

    def names(self, path: WindowsPath) -> list[str]:
        """The names in a folder, in no order; empty when there is no such folder."""
        entry = self.stat(path)
        return [child.name for child in self._children(path)] if entry and entry.folder else []

    def read(self, path: WindowsPath) -> bytes:
        """A file's bytes.

        Raises:
            Refusal: `not_found`, `invalid` for a folder, `busy` when another process holds it.
        """
        self.check_file(path)
        self._unlocked(path)
        return self._bytes(path)

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
        """Puts a file there in one go: a reader sees the old bytes or the new ones. Keeps an existing name's case.

        Raises:
            Refusal: `not_found` without its folder, `access_denied` when read-only, `busy`, `invalid` for a folder or
                below a file, `failed` when the drive is full.
        """
        before = self.check_put(path)
        self._claim(len(data) - (before.size if before else 0), path)
        self._put(path, data)

    def append(self, path: WindowsPath, data: bytes) -> None:
        """Adds to the end of a file, making it when missing. Refuses as `put` does."""
        self.check_put(path)
        self._claim(len(data), path)
        self._append(path, data)

    def missing_folders(self, path: WindowsPath) -> list[WindowsPath]:
        """Which folders `make_folder` would make, outermost first; refuses as it does."""
        entry = self.stat(path)
        if entry and not entry.folder:
            raise Refusal(Slug.INVALID, "a file of that name stands there", path.text)
        if entry:
            return []
        if not path.parts:
            raise Refusal(Slug.NOT_FOUND, "there is no such drive", path.text)
        return [*self.missing_folders(path.parent), path]

    def make_folder(self, path: WindowsPath) -> None:
        """Makes a folder and its parents, as far as they are missing.

        Raises:
            Refusal: `not_found` for a drive that does not exist, `invalid` where a file stands in the way.
        """
        for folder in self.missing_folders(path):
            self._make_folder(folder)

    def remove(self, path: WindowsPath) -> None:
        """Removes a file or an empty folder.

        Raises:
            Refusal: `not_found`, `access_denied` when read-only, `busy`, `failed` for a folder that holds something,
                `invalid` for a drive.
        """
        entry = self.check_remove(path)
        self._delete(path)
        self.free += entry.size

    def touch(self, path: WindowsPath, mtime: int | None = None) -> int:
        """Sets the last-write time, to now unless told, and gives it. Refuses as `put` does."""
        self._permitted(self._existing(path), path)
        stamp = self.now() if mtime is None else mtime
        self._set_mtime(path, stamp)
        return stamp

    @abstractmethod
    def _link(self, path: WindowsPath, target: WindowsPath) -> None: ...

    def link(self, path: WindowsPath, target: WindowsPath) -> None:
        """Makes a junction to a folder, or a link to a file, that is there.

        Raises:
            Refusal: `not_found` without its folder or the target, `invalid` where something stands already.
        """
        self._existing(target)
        if self.stat(path):
            raise Refusal(Slug.INVALID, "something of that name stands there", path.text)
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
        """From now on another process has this file open and shares nothing."""
        self._locked.add(path)

    def unlock(self, path: WindowsPath) -> None:
        """That process let go."""
        self._locked.discard(path)

    # -- rules --------------------------------------------------------------------------------------------

    def _existing(self, path: WindowsPath) -> Entry:
        if entry := self.stat(path):
            return entry
        raise Refusal(Slug.NOT_FOUND, "there is no such file or folder", path.text)

    def check_file(self, path: WindowsPath) -> Entry:
        """The file there; refuses `not_found`, and `invalid` for a folder."""
        entry = self._existing(path)
        if entry.folder:
            raise Refusal(Slug.INVALID, "a file is wanted and this is a folder", path.text)
        return entry

    def check_folder(self, path: WindowsPath) -> Entry:
        """The folder there; refuses `not_found`, and `invalid` for a file."""
        entry = self._existing(path)
        if not entry.folder:
            raise Refusal(Slug.INVALID, "a folder is wanted and this is a file", path.text)
        return entry

    def _unlocked(self, path: WindowsPath) -> None:
        if path in self._locked:
            raise Refusal(Slug.BUSY, "the file is open in another process", path.text)

    def _permitted(self, entry: Entry, path: WindowsPath) -> None:
        if entry.readonly:
            raise Refusal(Slug.ACCESS_DENIED, "the file is read-only", path.text)
        self._unlocked(path)

    def check_put(self, path: WindowsPath) -> Entry | None:
        """What `put` would replace, or None; refuses as `put` does, apart from space."""
        entry = self.stat(path)
        if entry:
            self._permitted(self.check_file(path), path)
            return entry
        self.check_folder(path.parent)
        return None

    def check_remove(self, path: WindowsPath) -> Entry:
        """What `remove` would remove; refuses as `remove` does."""
        entry = self._existing(path)
        if not path.parts:
            raise Refusal(Slug.INVALID, "a drive is not removed", path.text)
        if entry.folder and self._children(path):
            raise Refusal(Slug.FAILED, "the folder is not empty", path.text)
        self._permitted(entry, path)
        return entry

    def _claim(self, size: int, path: WindowsPath) -> None:
        if size > self.free:
            raise Refusal(Slug.FAILED, "there is not enough space on the disk", path.text)
        self.free -= size
