"""Where results go: files and folders, checked before a long run begins."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from workers.errors import InputRefused
from workers.host.private import check_output, make_folder

__all__ = ["NODE", "BundleFile", "OutputFile", "ReportFolder", "write_new"]

NODE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}"  #: a NetBIOS name, in the names of certificate files


def _file(path: Path | None) -> Path | None:
    check_output(path)
    return path


def _folder(folder: Path | None) -> Path | None:
    if folder is not None:
        check_output(make_folder(folder) / "esync-report")
    return folder


OutputFile = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to this file.", callback=_file)
]
BundleFile = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="FILE", help="Write everything about the run as one archive.", callback=_file),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--report", metavar="DIR", help="Write the report (HTML, JSON) to this folder.", callback=_folder),
]


def write_new(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Writes all files or none, for their owner only. Replaces no file: an existing family may be in use everywhere.

    Raises:
        InputRefused: one of the files exists already, or the folder cannot be written to.
    """
    written: list[Path] = []
    if folder.exists() and not folder.is_dir():
        raise InputRefused(f"{folder} is not a folder; nothing was written", remedy="name a folder for the files")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            _create(folder / name, content)
            written.append(folder / name)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        taken = isinstance(error, FileExistsError)
        raise InputRefused(
            "the file exists already; nothing was written" if taken else f"cannot be written: {error.strerror}",
            file=str(error.filename or folder),
            remedy="name another folder",
        ) from None
    return written


def _create(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
