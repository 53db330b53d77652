"""Where the tests find the repository, its documents and the case folders, and where they put their own files."""

import os
import shutil
from pathlib import Path

__all__ = ["CASE_FOLDERS", "DOCS", "ROOT", "folder_in_memory"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CASE_FOLDERS = ROOT / "tests" / "cases"

_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own there
_ROOM = 4 * 2**30  #: free bytes from which it is used: a whole run keeps less than one GB at a time


def folder_in_memory() -> str:
    """A folder in memory with enough room, in which programs can be started; empty if there is none."""
    if not (_MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)):
        return ""
    usable = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(_MEMORY).free >= _ROOM
    return str(_MEMORY) if usable else ""
