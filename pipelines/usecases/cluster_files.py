"""The cluster files that others than their owner may name: one folder, plain names, read anew when they change."""

import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipelines.cluster_file.names import SUFFIXES
from tasks.cluster import Cluster
from workers.errors import InputRefused
from workers.host.reading import content_of, folder_of

__all__ = ["NAME", "cluster_in", "cluster_named", "file_named", "names_in", "text_of"]

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MOST = 1000  #: files of a folder that are listed
_CLAIMED = re.compile(rf"""^["']?name["']?\s*:\s*["']?({NAME})["']?\s*(?:#.*)?$""", re.MULTILINE)


def names_in(folder: Path) -> tuple[str, ...]:
    """The names of the cluster files of a folder, sorted: the files without their suffix."""
    found = {path.stem for path in folder.glob("*.y*ml") if path.suffix in SUFFIXES and path.is_file()}
    return tuple(sorted(name for name in found if re.fullmatch(NAME, name)))[:MOST]


def file_named(folder: Path, name: str) -> Path:
    """The cluster file of that name.

    Raises:
        InputRefused: it is not a plain name, or there is no such file.
    """
    if not re.fullmatch(NAME, name):
        raise InputRefused(f"{name[:64]!r} is not a valid cluster name")
    for suffix in SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    known = ", ".join(names_in(folder)) or "none"
    raise InputRefused(f"no cluster file is named {name!r}; known: {known}")


def text_of(path: Path) -> str:
    """The content of a cluster file as it is.

    Raises:
        InputRefused: it cannot be read.
    """
    return _content(path).decode("utf-8", "replace")


def _content(path: Path) -> bytes:
    from pipelines.cluster_file.positions import MAX_BYTES  # noqa: PLC0415 - see `_read`

    return content_of(path, MAX_BYTES, "cluster file")


def cluster_in(path: Path) -> str:
    """The name that the cluster in a file seems to have, while the file has mistakes; without one, that of the file."""
    with suppress(InputRefused):
        if found := _CLAIMED.search(text_of(path)):
            return found[1]
    return path.stem


def cluster_named(folder: Path, name: str) -> Cluster:
    """The cluster of the file of that name; the file is read again when it has changed.

    Messages have the name of the file without its folder: the caller may be elsewhere.

    Raises:
        InputRefused: as `file_named`.
        ClusterRefused: the file has mistakes.
    """
    path = file_named(folder, name)
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=256)
def _read(path: Path, *state: int) -> Cluster:
    del state
    from pipelines.cluster_file.loader import read_cluster  # noqa: PLC0415 - a worker needs no YAML for its steps

    return read_cluster(_content(path), file=path.name, folder=folder_of(path))
