"""What we leave on this machine is for its owner only, whatever the umask: folders, files, and what children write.

The one place that makes any of them, and that starts and ends processes. Files are written whole or not at all. What
the system says against it becomes one sentence that names the file.
"""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from workers.errors import FileTrouble

__all__ = [
    "FILE_ERRORS",
    "as_trouble",
    "check_output",
    "end_process",
    "in_words",
    "make_folder",
    "open_private",
    "start_process",
    "undisturbed",
    "write_private",
]

_FILE = 0o600
_FOLDER = 0o700
_UMASK = 0o077  #: of every process we start: what it writes is private, too
_PROBE = 4096  #: bytes that must fit where a result will be written later
_REMEDIES = {
    errno.ENOSPC: "free space there, or name another place",
    errno.EDQUOT: "free space there, or name another place",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: "name a place that this account may use, or give it the right to",
    errno.EPERM: "name a place that this account may use, or give it the right to",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file: name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
}
#: What the system says about files, not about connections: the border takes these for a file's wherever they come from.
FILE_ERRORS = frozenset({*_REMEDIES, errno.ENOENT, errno.EEXIST, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG})


def as_trouble(error: OSError, path: Path | str = "", doing: str = "used") -> FileTrouble:
    """What the system said, as a sentence about a file.

    Args:
        error: from a call on a file or folder.
        path: which one; else the one that the error names.
        doing: what could not be done with it: `read`, `written`, `made`.
    """
    said = error.strerror or type(error).__name__
    named = str(path or error.filename or "")
    what = f"{named or 'a file or stream'} cannot be {doing}"
    return FileTrouble(f"{what}: {said}", remedy=_REMEDIES.get(error.errno or 0, "name another place"), file=named)


@contextlib.contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:  # asked for with O_EXCL: an answer, no trouble
        raise
    except OSError as error:
        raise as_trouble(error, path, doing) from error


def make_folder(folder: Path) -> Path:
    """The folder, and those above it; what is missing is made for its owner only, what is there stays as it is.

    Raises:
        FileTrouble: it cannot be made, or is no folder.
    """
    with _told(folder, "made"):
        for one in (*reversed(folder.parents), folder):
            if not one.exists():
                with contextlib.suppress(FileExistsError):  # somebody else was quicker
                    one.mkdir()
                    one.chmod(_FOLDER)  # not by mkdir's mode: a umask takes from that
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def open_private(path: Path, how: int) -> IO[bytes]:
    """Opens a file of ours for writing and makes it private, also one that is there already.

    Args:
        path: which.
        how: flags of os.open besides those for writing and making it: os.O_APPEND, os.O_TRUNC, os.O_EXCL, or 0.

    Raises:
        FileTrouble: it cannot be opened.
        FileExistsError: with os.O_EXCL, when it is there.
    """
    with _told(path, "written"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, _FILE)
        with contextlib.suppress(PermissionError):  # somebody else's, which we may write
            os.fchmod(descriptor, _FILE)
        return os.fdopen(descriptor, "ab" if how & os.O_APPEND else "wb", buffering=0)


def write_private(path: Path, data: bytes | str) -> None:
    """Writes a file whole or not at all. A file that is there keeps its mode; a device or pipe is written into.

    Raises:
        FileTrouble: it cannot be written; what was there is as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    with _told(path, "written"):
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))  # a link stays a link
        with _beside(target) as (descriptor, new):
            _pour(descriptor, content)
            os.fchmod(descriptor, _FILE if mode is None else stat.S_IMODE(mode))
            os.fsync(descriptor)
            new.replace(target)


def _mode(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode
    return None


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside another: its descriptor and name. Gone afterwards, unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        yield descriptor, Path(name)
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def _pour(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def check_output(path: Path | None) -> None:
    """Whether a result can be written there later, asked before a long run begins.

    Raises:
        FileTrouble: it could not.
    """
    if path is None:
        return
    with _told(path, "written"):
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode is None or stat.S_ISREG(mode):
            with _beside(Path(os.path.realpath(path))) as (descriptor, _):
                _pour(descriptor, bytes(_PROBE))


def start_process(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    log: IO[bytes],
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a program of ours in a session of its own: Ctrl-C in the terminal must not reach it before us.

    Raises:
        FileTrouble: it cannot be started.
    """
    try:
        return subprocess.Popen(  # noqa: S603 - callers start our own programs only
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output or log,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
            umask=_UMASK,
        )
    except OSError as error:  # it knows whether program or folder
        raise as_trouble(error, doing="started or worked in") from error


def end_process(process: subprocess.Popen[bytes], patience: float) -> None:
    """Asks a process to end, waits `patience` seconds, then ends it; it is gone afterwards."""
    process.terminate()
    process.send_signal(signal.SIGCONT)  # one that is stopped would not hear it
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Puts Ctrl-C and SIGTERM off to the end of the block: between a process's start and our knowing of it.

    Only the main thread is interrupted by them, so elsewhere there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def in_words(status: int | None) -> str:
    """How a process ended. None: it was not ours to wait for, nobody knows."""
    if status is None:
        return "ended"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
