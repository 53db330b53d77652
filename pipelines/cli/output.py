"""Where results go: files and folders, checked before a long run begins, and streams whose reader may leave."""

import io
import os
import stat
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer
from typing_extensions import Buffer

from workers.host.private import check_output, make_folder

__all__ = ["BundleFile", "OutputFile", "ReportFolder", "end_streams", "outlive_readers"]


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


class _Outliving(io.FileIO):
    """A pipe whose reader may leave (`esync plan ... | head`): further output is then discarded."""

    def write(self, data: Buffer, /) -> int:
        """As the file's. That the reader left is no error: the command continues, and exits by its verdict."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """From now on no command stops because the reader of its output left."""
    sys.stdout = _outliving(sys.stdout)
    sys.stderr = _outliving(sys.stderr)


def _outliving(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by the process that started us
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the life of the process
    mode = os.fstat(stream.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    stream.flush()
    raw = io.BufferedWriter(_Outliving(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def end_streams() -> None:
    """Discards output that cannot be written, for example to a full disk: the interpreter would report it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
