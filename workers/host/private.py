"""Files and folders that only their owner may use, whatever the umask. The one place that makes any.

Files are written completely or not at all. An error of the system becomes one sentence that names the file.
"""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from workers.errors import FileTrouble

__all__ = [
    "FILE_ERRORS",
    "check_output",
    "file_trouble",
    "make_folder",
    "open_private",
    "write_private",
]

_FILE = 0o600
_FOLDER = 0o700
_PROBE = 4096  #: bytes that must fit where a result will be written later
_REMEDIES = {
    errno.ENOSPC: "free space there, or name another place",
    errno.EDQUOT: "free space there, or name another place",
    errno.EFBIG: "raise the limit of the file size (ulimit -f), or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: "name a place that this account may use, or give it the right to",
    errno.EPERM: "name a place that this account may use, or give it the right to",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file: name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
}
#: Errors about files, not about connections: the command line reports these as FileTrouble wherever they come from.
FILE_ERRORS = frozenset({*_REMEDIES, errno.ENOENT, errno.EEXIST, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG})


def file_trouble(error: OSError, path: Path | str = "", action: str = "used") -> FileTrouble:
    """The error of the system, as a sentence about a file.

    Args:
        error: from a call on a file or folder.
        path: the file; by default the one that the error names.
        action: what cannot be done with it: `read`, `written`, `created`.
    """
    reason = error.strerror or type(error).__name__
    file = str(path or error.filename or "")
    if error.errno == errno.ENOENT and action == "written" and not (folder := Path(file).parent).exists():
        return FileTrouble(
            f"{file} cannot be written: folder {folder} does not exist",
            remedy="create it first (mkdir -p), or name another place",
            file=file,
        )
    message = f"{file or 'a file or stream'} cannot be {action}: {reason}"
    return FileTrouble(message, remedy=_REMEDIES.get(error.errno or 0, "name another place"), file=file)


@contextlib.contextmanager
def _errors_mapped(path: Path, action: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:  # the caller passed O_EXCL: this is its answer, not an error
        raise
    except OSError as error:
        raise file_trouble(error, path, action) from error


def make_folder(folder: Path) -> Path:
    """Creates a folder and its missing parents for their owner only. Existing ones keep their mode.

    Raises:
        FileTrouble: it cannot be created, or is not a folder.
    """
    with _errors_mapped(folder, "created"):
        for one in (*reversed(folder.parents), folder):
            if not one.exists():
                with contextlib.suppress(FileExistsError):  # another process was faster
                    one.mkdir()
                    one.chmod(_FOLDER)  # not by the mode of mkdir: the umask removes bits from that
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def open_private(path: Path, flags: int) -> IO[bytes]:
    """Opens one of our own files for writing and makes it private, also when it exists.

    Args:
        path: the file.
        flags: of os.open, besides those for writing and creating: os.O_APPEND, os.O_TRUNC, os.O_EXCL, or 0.

    Raises:
        FileTrouble: it cannot be opened.
        FileExistsError: it exists, and os.O_EXCL was given.
    """
    with _errors_mapped(path, "written"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, _FILE)
        with contextlib.suppress(PermissionError):  # another account owns it, and lets us write
            os.fchmod(descriptor, _FILE)
        return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "wb", buffering=0)


def write_private(path: Path, data: bytes | str) -> None:
    """Writes a file completely or not at all. An existing file keeps its mode; a device or pipe is written into.

    Raises:
        FileTrouble: it cannot be written; the old content is unchanged.
    """
    content = data.encode() if isinstance(data, str) else data
    with _errors_mapped(path, "written"):
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))  # a link stays a link
        with _temporary_beside(target) as (descriptor, new):
            _write_all(descriptor, content)
            os.fchmod(descriptor, _FILE if mode is None else stat.S_IMODE(mode))
            os.fsync(descriptor)
            new.replace(target)


def _mode(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode
    return None


@contextlib.contextmanager
def _temporary_beside(target: Path) -> Iterator[tuple[int, Path]]:
    """The descriptor and name of a new file in the same folder; removed afterwards, unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        yield descriptor, Path(name)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def check_output(path: Path | None) -> None:
    """Checks before a long run that its result can be written to this file afterwards.

    Raises:
        FileTrouble: it cannot.
    """
    if path is None:
        return
    with _errors_mapped(path, "written"):
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode is None or stat.S_ISREG(mode):
            with _temporary_beside(Path(os.path.realpath(path))) as (descriptor, _):
                _write_all(descriptor, bytes(_PROBE))
