"""A disk in memory, for hundreds of machines with thousands of files.

The same bytes in several files are stored once, and large contents compressed: those of the product repeat themselves.
"""

import hashlib
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from lab.machine.disk import Disk, Entry, sha256
from lab.machine.paths import WindowsPath

__all__ = ["MemoryDisk"]


_BLOCK = 65_536
_FASTEST = 1


class _Packed:
    """A large content, or one that grows."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._rest = bytearray()
        self._size = 0
        self._hash: str | None = None

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join((*map(zlib.decompress, self._blocks), self._rest))

    def append(self, data: bytes) -> Self:
        """Adds bytes at the end."""
        self._rest += data
        self._size += len(data)
        self._hash = None
        if len(self._rest) >= _BLOCK:
            self._blocks.append(zlib.compress(self._rest, _FASTEST))
            self._rest = bytearray()
        return self

    def hash(self) -> str:
        """Their SHA-256, calculated once: a configuration is asked for its hash more often than it changes."""
        if self._hash is None:
            self._hash = hashlib.sha256(bytes(self)).hexdigest()
        return self._hash


@dataclass(slots=True)
class _File:
    name: str
    data: bytes | _Packed
    mtime: int
    ctime: int
    readonly: bool = False

    def entry(self) -> Entry:
        return Entry(self.name, False, len(self.data), self.mtime, self.readonly, False, self.ctime)

    def hash(self) -> str:
        return self.data.hash() if isinstance(self.data, _Packed) else sha256(self.data)


@dataclass(slots=True)
class _Folder:
    name: str
    mtime: int
    children: dict[str, "_Node"] = field(default_factory=dict)

    def entry(self) -> Entry:
        return Entry(self.name, folder=True, size=0, mtime=self.mtime)


@dataclass(slots=True)
class _Link:
    name: str
    mtime: int
    target: WindowsPath


_Node = _File | _Folder | _Link


class MemoryDisk(Disk):
    """Files as references to bytes: the same object in two files is stored once."""

    def __init__(self, drives: tuple[str, ...] = ("C:",)) -> None:
        super().__init__()
        # Folders by their full path: there are few folders with thousands of files, so a lookup takes two steps.
        self._folders: dict[str, dict[tuple[str, ...], _Folder]] = {
            drive.upper(): {(): _Folder("", self.now())} for drive in drives
        }
        self._links: dict[tuple[str, tuple[str, ...]], _Link] = {}

    def stat(self, path: WindowsPath) -> Entry | None:
        """The file or folder at the path, or None."""
        node = self._find(path)
        return None if node is None else self._entry(node)

    def hashes(self, path: WindowsPath) -> list[tuple[Entry, str | None]]:
        """As for every disk; faster, where no file can refuse to be read."""
        if self._locked or self._links:
            return super().hashes(path)
        self.check_folder(path)
        children = self._folder(path).children
        nodes = [children[key] for key in sorted(children)]
        return [(node.entry(), node.hash()) if isinstance(node, _File) else (self._entry(node), None) for node in nodes]

    def hash(self, path: WindowsPath) -> str:
        """The SHA-256 of a file's bytes, without unpacking them."""
        self.check_file(path)
        self._unlocked(path)
        return self._at(path).hash()

    def names(self, path: WindowsPath) -> list[str]:
        """The names in a folder, unsorted; empty if there is no such folder."""
        end = self._end(path)
        folder = self._folders.get(end.drive, {}).get(end.key)
        return [] if folder is None else [node.name for node in folder.children.values()]

    def _entry(self, node: _Node) -> Entry:
        if not isinstance(node, _Link):
            return node.entry()
        there = self.stat(node.target) or Entry(node.name, folder=False, size=0, mtime=node.mtime)
        return there._replace(name=node.name, link=True)

    def _real(self, path: WindowsPath) -> WindowsPath:
        """The path with links in its parent folders resolved; its last name may be a link."""
        for place in path.parent.way() if self._links else ():
            if link := self._links.get((place.drive, place.key)):
                return self._real(link.target.below("\\".join(path.parts[len(place.parts) :])))
        return path

    def _end(self, path: WindowsPath) -> WindowsPath:
        """The path with all links resolved."""
        if not self._links:
            return path
        real = self._real(path)
        link = self._links.get((real.drive, real.key))
        return self._end(link.target) if link else real

    def _find(self, path: WindowsPath) -> _Node | None:
        if self._links:
            path = self._real(path)
        folders, key = self._folders.get(path.drive), path.key
        if folders is None:
            return None
        if not key:
            return folders[()]
        parent = folders.get(key[:-1])
        return None if parent is None else parent.children.get(key[-1])

    def _folder(self, path: WindowsPath) -> _Folder:
        end = self._end(path)
        return self._folders[end.drive][end.key]

    def _at(self, path: WindowsPath) -> _File:
        node = self._find(self._end(path))
        if not isinstance(node, _File):
            raise TypeError(f"{path} is not a file, although it was checked before")
        return node

    def _children(self, path: WindowsPath) -> list[Entry]:
        return [self._entry(child) for child in self._folder(path).children.values()]

    def _bytes(self, path: WindowsPath) -> bytes:
        return bytes(self._at(path).data)

    def _put(self, path: WindowsPath, data: bytes) -> None:
        path = self._end(path)
        folder, stamp = self._folders[path.drive][path.key[:-1]], self.now()
        key = sys.intern(path.key[-1])
        existing = folder.children.get(key)
        name = existing.name if existing else sys.intern(path.name)
        folder.children[key] = _File(name, data if len(data) < _BLOCK else _Packed().append(data), stamp, stamp)
        if not existing:
            folder.mtime = stamp

    def _link(self, path: WindowsPath, target: WindowsPath) -> None:
        path = self._real(path)
        made = _Link(path.name, self.now(), target)
        self._folder(path.parent).children[path.key[-1]] = self._links[path.drive, path.key] = made

    def _append(self, path: WindowsPath, data: bytes) -> None:
        file = self._find(self._end(path))
        if isinstance(file, _File):
            self._extend(file, data)
        else:
            self._put(path, data)

    def _appending(self, path: WindowsPath) -> Callable[[bytes], None]:
        file = self._find(self._end(path))
        return partial(self._extend, file) if isinstance(file, _File) else super()._appending(path)

    def _extend(self, file: _File, data: bytes) -> None:
        if not isinstance(file.data, _Packed):
            file.data = _Packed().append(file.data)
        file.data.append(data)
        file.mtime = file.ctime = self.now()

    def _make_folder(self, path: WindowsPath) -> None:
        path = self._real(path)
        parent, stamp = self._folder(path.parent), self.now()
        made = _Folder(path.name, stamp)
        parent.children[sys.intern(path.key[-1])] = self._folders[path.drive][path.key] = made
        parent.mtime = stamp

    def _delete(self, path: WindowsPath) -> None:
        path = self._real(path)
        parent = self._folder(path.parent)
        del parent.children[path.key[-1]]
        self._folders[path.drive].pop(path.key, None)
        self._links.pop((path.drive, path.key), None)
        parent.mtime = self.now()

    def _set_mtime(self, path: WindowsPath, mtime: int) -> None:
        node = self._find(path)
        if node:
            node.mtime = mtime
        if isinstance(node, _File):
            node.ctime = self.now()

    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None:
        file = self._at(path)
        file.readonly, file.ctime = readonly, self.now()
