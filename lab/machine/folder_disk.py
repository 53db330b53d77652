"""A disk in a real folder: `<root>/C/inetpub/...`. It stays after the end of the lab."""

# Paths are plain text here where it counts: a `Path` takes longer than most answers of the system.
# ruff: noqa: PTH105, PTH112, PTH116, PTH123, PTH208

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from lab.machine.disk import Disk, Entry, sha256
from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath, fold

__all__ = ["FolderDisk"]

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class _WindowsErrors:
    """Translates errors of this system into refusals of the machine."""

    __slots__ = ("_path",)

    def __init__(self, path: WindowsPath) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, UnicodeError)):
            raise _refusal(error, self._path.text) from error


def _refusal(error: OSError | UnicodeError, path: str) -> Refusal:
    match error:
        case FileNotFoundError():
            return Refusal(Slug.NOT_FOUND, "there is no such file or folder", path)
        case PermissionError():
            return Refusal(Slug.ACCESS_DENIED, "access is denied", path)
        case UnicodeError():
            return Refusal(Slug.INVALID, "this name cannot be stored on this disk", path)
    slug = Slug.INVALID if error.errno in {errno.ENAMETOOLONG, errno.EINVAL} else Slug.FAILED
    return Refusal(slug, error.strerror or "the disk refused the operation", path)


class FolderDisk(Disk):
    """Windows names in a Linux folder: case is ignored for lookup and kept as first written.

    Args:
        root: the folder with one folder per drive, `C` and so on.
        drives: the drives to create.
        drive_c: an existing folder anywhere that is drive C:.
    """

    def __init__(self, root: Path, drives: tuple[str, ...] = ("C:",), *, drive_c: Path | None = None) -> None:
        super().__init__()
        # Change times by the machine's clock; a file that a person has changed has another time on this system.
        self._changed: dict[str, tuple[int, int]] = {}
        self._folders = {drive[0].upper(): str(root / drive[0].upper()) for drive in drives}
        if drive_c:
            self._folders["C"] = str(drive_c)
        for folder in self._folders.values():
            Path(folder).mkdir(parents=True, exist_ok=True)

    def folder(self, drive: str = "C:") -> Path:
        """The folder of a drive."""
        return Path(self._folders[drive[0].upper()])

    def _place(self, path: WindowsPath) -> str | None:
        """The path on this system, or None if nothing exists there."""
        drive = self._folders.get(path.drive[0])
        if drive is None:
            return None
        with _WindowsErrors(path):
            # The case nearly always matches: one or two lookups instead of one per folder.
            if os.path.lexists(whole := "/".join((drive, *path.parts))):
                return whole
            if os.path.isdir(parent := "/".join((drive, *path.parts[:-1]))):
                return _in_other_case(parent, path.key[-1])
            here: str | None = drive
            for part, key in zip(path.parts, path.key, strict=True):
                here = here and _look_up(here, part, key)
            return here

    def stat(self, path: WindowsPath) -> Entry | None:
        """The file or folder at the path, or None."""
        place = self._place(path)
        if place is None:
            return None
        with _WindowsErrors(path):
            return self._entry(place.rpartition("/")[2] if path.parts else "", place)

    def names(self, path: WindowsPath) -> list[str]:
        """The names in a folder, unsorted; empty if there is no such folder."""
        place = self._place(path)
        with _WindowsErrors(path):
            return os.listdir(place) if place and os.path.isdir(place) else []

    def hashes(self, path: WindowsPath) -> list[tuple[Entry, str | None]]:
        """As for every disk, without a lookup of each file."""
        entries, folder = self.entries(path), self._there(path)
        return [
            (entry, None if entry.folder or self._is_locked(path, entry) else _hash_of(f"{folder}/{entry.name}"))
            for entry in entries
        ]

    def _is_locked(self, folder: WindowsPath, entry: Entry) -> bool:
        return bool(self._locked) and folder.child(entry.name) in self._locked

    def _there(self, path: WindowsPath) -> str:
        place = self._place(path)
        if place is None:
            raise Refusal(Slug.NOT_FOUND, "the file or folder no longer exists", path.text)
        return place

    def _target(self, path: WindowsPath) -> str:
        """Where a file is, or will be."""
        return self._place(path) or f"{self._there(path.parent)}/{path.name}"

    def _children(self, path: WindowsPath) -> list[Entry]:
        with _WindowsErrors(path), os.scandir(self._there(path)) as found:
            return [self._entry(item.name, item.path) for item in found]

    def _bytes(self, path: WindowsPath) -> bytes:
        with _WindowsErrors(path):
            return _read(self._there(path))

    def _put(self, path: WindowsPath, data: bytes) -> None:
        with _WindowsErrors(path):
            target = self._target(path)
            # A short temporary name, so that a file name of 255 bytes works too.
            temporary = f"{target.rpartition('/')[0]}/.lab-{os.getpid()}.tmp"
            with open(temporary, "wb", buffering=0) as file:
                file.write(data)
            _stamp(temporary, self.now())
            os.replace(temporary, target)
            self._has_changed(target)

    def _append(self, path: WindowsPath, data: bytes) -> None:
        with _WindowsErrors(path):
            target = self._target(path)
            with open(target, "ab", buffering=0) as file:
                file.write(data)
            _stamp(target, self.now())
            self._has_changed(target)

    def _make_folder(self, path: WindowsPath) -> None:
        with _WindowsErrors(path):
            Path(self._there(path.parent), path.name).mkdir()

    def _delete(self, path: WindowsPath) -> None:
        with _WindowsErrors(path):
            real = Path(self._there(path))
            real.rmdir() if real.is_dir() and not real.is_symlink() else real.unlink()
            self._changed.pop(str(real), None)

    def _link(self, path: WindowsPath, target: WindowsPath) -> None:
        with _WindowsErrors(path):
            Path(self._there(path.parent), path.name).symlink_to(self._there(target))

    def _set_mtime(self, path: WindowsPath, mtime: int) -> None:
        with _WindowsErrors(path):
            place = self._there(path)
            _stamp(place, mtime)
            self._has_changed(place)

    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None:
        with _WindowsErrors(path):
            place = self._there(path)
            mode = os.stat(place).st_mode
            Path(place).chmod(mode & ~_WRITE if readonly else mode | stat.S_IWUSR)
            self._has_changed(place)

    def _has_changed(self, place: str) -> None:
        self._changed[place] = (os.stat(place).st_ctime_ns, self.now())

    def _entry(self, name: str, place: str) -> Entry:
        found = os.lstat(place)
        if link := stat.S_ISLNK(found.st_mode):
            with suppress(FileNotFoundError):
                found = os.stat(place)
        folder = stat.S_ISDIR(found.st_mode)
        return Entry(
            name,
            folder=folder,
            size=0 if folder else found.st_size,
            mtime=found.st_mtime_ns,
            readonly=not folder and not found.st_mode & stat.S_IWUSR,
            link=link,
            ctime=0 if folder else self._change_time(place, found.st_ctime_ns),
        )

    def _change_time(self, place: str, here: int) -> int:
        """By the machine's clock, whose present skew also applies to changes by a person."""
        known, by_machine = self._changed.get(place, (0, 0))
        return by_machine if here == known else here + round(self.now() - time.time_ns(), -7)


def _look_up(folder: str, part: str, key: str) -> str | None:
    exact = f"{folder}/{part}"
    if os.path.lexists(exact):
        return exact
    return _in_other_case(folder, key)


def _in_other_case(folder: str, key: str) -> str | None:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((f"{folder}/{name}" for name in names if len(name) == len(key) and fold(name) == key), None)


def _read(place: str) -> bytes:
    with open(place, "rb", buffering=0) as file:
        return file.read()


def _hash_of(place: str) -> str | None:
    """The hash of a file; None if it cannot be read."""
    try:
        return sha256(_read(place))
    except OSError:
        return None


def _stamp(place: str, nanoseconds: int) -> None:
    os.utime(place, ns=(nanoseconds, nanoseconds))
