"""A disk in a real folder: `<root>/C/inetpub/...`. It stays after the end of the lab."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.machine.disk import Disk, Entry
from lab.machine.errors import Refusal, Slug
from lab.machine.paths import WindowsPath, fold

__all__ = ["FolderDisk"]

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def _windows_errors(path: WindowsPath) -> Iterator[None]:
    """Translates errors of this system into refusals of the machine."""
    try:
        yield
    except FileNotFoundError as error:
        raise Refusal(Slug.NOT_FOUND, "there is no such file or folder", path.text) from error
    except PermissionError as error:
        raise Refusal(Slug.ACCESS_DENIED, "access is denied", path.text) from error
    except OSError as error:
        slug = Slug.INVALID if error.errno in {errno.ENAMETOOLONG, errno.EINVAL} else Slug.FAILED
        raise Refusal(slug, error.strerror or "the disk refused the operation", path.text) from error
    except UnicodeError as error:
        raise Refusal(Slug.INVALID, "this name cannot be stored on this disk", path.text) from error


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
        self._folders = {drive[0].upper(): root / drive[0].upper() for drive in drives}
        if drive_c:
            self._folders["C"] = drive_c
        for folder in self._folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def folder(self, drive: str = "C:") -> Path:
        """The folder of a drive."""
        return self._folders[drive[0].upper()]

    def real(self, path: WindowsPath) -> Path | None:
        """The path on this system, or None if nothing exists there."""
        if path.drive[0] not in self._folders:
            return None
        here = str(self._folders[path.drive[0]])
        with _windows_errors(path):
            # The case nearly always matches: one lookup instead of one per folder.
            if os.path.lexists(whole := "/".join((here, *path.parts))):
                return Path(whole)
            for part, key in zip(path.parts, path.key, strict=True):
                found = _look_up(here, part, key)
                if found is None:
                    return None
                here = found
            return Path(here)

    def stat(self, path: WindowsPath) -> Entry | None:
        """The file or folder at the path, or None."""
        real = self.real(path)
        if real is None:
            return None
        with _windows_errors(path):
            return self._entry(real.name if path.parts else "", str(real))

    def _there(self, path: WindowsPath) -> Path:
        real = self.real(path)
        if real is None:
            raise Refusal(Slug.NOT_FOUND, "the file or folder no longer exists", path.text)
        return real

    def _children(self, path: WindowsPath) -> list[Entry]:
        with _windows_errors(path), os.scandir(self._there(path)) as found:
            return [self._entry(item.name, item.path) for item in found]

    def _bytes(self, path: WindowsPath) -> bytes:
        with _windows_errors(path):
            return self._there(path).read_bytes()

    def _put(self, path: WindowsPath, data: bytes) -> None:
        with _windows_errors(path):
            target = self.real(path) or self._there(path.parent) / path.name
            # A short temporary name, so that a file name of 255 bytes works too.
            temporary = target.with_name(f".lab-{os.getpid()}.tmp")
            temporary.write_bytes(data)
            _stamp(temporary, self.now())
            temporary.replace(target)
            self._has_changed(target)

    def _append(self, path: WindowsPath, data: bytes) -> None:
        with _windows_errors(path):
            target = self.real(path) or self._there(path.parent) / path.name
            with target.open("ab") as file:
                file.write(data)
            _stamp(target, self.now())
            self._has_changed(target)

    def _make_folder(self, path: WindowsPath) -> None:
        with _windows_errors(path):
            (self._there(path.parent) / path.name).mkdir()

    def _delete(self, path: WindowsPath) -> None:
        with _windows_errors(path):
            real = self._there(path)
            real.rmdir() if real.is_dir() and not real.is_symlink() else real.unlink()
            self._changed.pop(str(real), None)

    def _link(self, path: WindowsPath, target: WindowsPath) -> None:
        with _windows_errors(path):
            (self._there(path.parent) / path.name).symlink_to(self._there(target))

    def _set_mtime(self, path: WindowsPath, mtime: int) -> None:
        with _windows_errors(path):
            real = self._there(path)
            _stamp(real, mtime)
            self._has_changed(real)

    def _set_readonly(self, path: WindowsPath, *, readonly: bool) -> None:
        with _windows_errors(path):
            real = self._there(path)
            mode = real.stat().st_mode
            real.chmod(mode & ~_WRITE if readonly else mode | stat.S_IWUSR)
            self._has_changed(real)

    def _has_changed(self, real: Path) -> None:
        self._changed[str(real)] = (os.stat(real).st_ctime_ns, self.now())  # noqa: PTH116 - plain text is faster

    def _entry(self, name: str, place: str) -> Entry:
        found = os.lstat(place)
        if link := stat.S_ISLNK(found.st_mode):
            with suppress(FileNotFoundError):
                found = os.stat(place)  # noqa: PTH116 - plain text is several times faster than Path objects here
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
    try:
        names = os.listdir(folder)  # noqa: PTH208 - plain text is several times faster than Path objects here
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((f"{folder}/{name}" for name in names if fold(name) == key), None)


def _stamp(path: Path, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))
