"""A disk in memory: hundreds of machines with thousands of files, whose equal bytes lie there once."""

import sys
from dataclasses import dataclass, field

from lab.disk import Disk, Entry
from lab.paths import WindowsPath

__all__ = ["MemoryDisk"]


@dataclass(slots=True)
class _File:
    name: str
    data: bytes | bytearray
    mtime: int
    readonly: bool = False

    def entry(self) -> Entry:
        return Entry(self.name, folder=False, size=len(self.data), mtime=self.mtime, readonly=self.readonly)


@dataclass(slots=True)
class _Folder:
    name: str
    mtime: int
    children: dict[str, "_File | _Folder"] = field(default_factory=dict)

    def entry(self) -> Entry:
        return Entry(self.name, folder=True, size=0, mtime=self.mtime)


class MemoryDisk(Disk):
    """Files as references to bytes: putting the same object twice costs its memory once."""

    def __init__(self, drives: tuple[str, ...] = ("C:",)) -> None:
        super().__init__()
        # Folders by their whole path: thousands of files lie in few of them, so a look-up takes two steps.
        self._folders: dict[str, dict[tuple[str, ...], _Folder]] = {
            drive.upper(): {(): _Folder("", self.now())} for drive in drives
        }

    def stat(self, path: WindowsPath) -> Entry | None:
        """What lies there, or None."""
        node = self._find(path)
        return node.entry() if node else None

    def _find(self, path: WindowsPath) -> "_File | _Folder | None":
        folders = self._folders.get(path.drive)
        if folders is None:
            return None
        if not path.key:
            return folders[()]
        parent = folders.get(path.key[:-1])
        return parent and parent.children.get(path.key[-1])

    def _folder(self, path: WindowsPath) -> _Folder:
        return self._folders[path.drive][path.key]

    def _at(self, path: WindowsPath) -> _File:
        node = self._find(path)
        if not isinstance(node, _File):
            raise TypeError(f"{path} was checked to be a file and is none")
        return node

    def _children(self, path: WindowsPath) -> list[Entry]:
        return [child.entry() for child in self._folder(path).children.values()]

    def _bytes(self, path: WindowsPath) -> bytes:
        return bytes(self._at(path).data)

    def _put(self, path: WindowsPath, data: bytes) -> None:
        folder, stamp = self._folder(path.parent), self.now()
        key = sys.intern(path.key[-1])
        existing = folder.children.get(key)
        name = existing.name if existing else sys.intern(path.name)
        folder.children[key] = _File(name, data, stamp)
        if not existing:
            folder.mtime = stamp

    def _append(self, path: WindowsPath, data: bytes) -> None:
        if not self._find(path):
            self._put(path, b"")
        file = self._at(path)
        if not isinstance(file.data, bytearray):
            file.data = bytearray(file.data)
        file.data += data
        file.mtime = self.now()

    def _make_folder(self, path: WindowsPath) -> None:
        parent, stamp = self._folder(path.parent), self.now()
        made = _Folder(path.name, stamp)
        parent.children[sys.intern(path.key[-1])] = self._folders[path.drive][path.key] = made
        parent.mtime = stamp

    def _delete(self, path: WindowsPath) -> None:
        parent = self._folder(path.parent)
        del parent.children[path.key[-1]]
        self._folders[path.drive].pop(path.key, None)
        parent.mtime = self.now()

    def _set_mtime(self, path: WindowsPath, mtime: int) -> None:
        node = self._find(path)
        if node:
            node.mtime = mtime

    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None:
        self._at(path).readonly = readonly
