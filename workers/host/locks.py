"""Locks between the processes of this machine. Apart from other files: commands that only read lock nothing."""

from pathlib import Path

from filelock import BaseFileLock, FileLock

from workers.host.private import open_private

__all__ = ["process_lock"]


def process_lock(path: Path) -> BaseFileLock:
    """A lock between the processes of this machine; the kernel releases it when its holder ends, however it ends.

    Raises:
        FileTrouble: its file cannot be written.
    """
    open_private(path, 0).close()
    return FileLock(path, thread_local=False)
