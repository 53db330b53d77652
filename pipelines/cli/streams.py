"""The output streams of the process: their reader may leave, may not read UTF-8, and a disk behind them may be full."""

import io
import os
import stat
import sys
from typing import TextIO

from typing_extensions import Buffer

__all__ = ["end_streams", "outlive_readers"]


_ERRORS = "backslashreplace"  #: of characters that the encoding of a terminal does not have: names, reasons, paths


class _Outliving(io.FileIO):
    """A pipe whose reader may leave (`esync plan ... | head`): further output is then discarded."""

    def write(self, data: Buffer, /) -> int:
        """As the file's. That the reader left is no error: the command continues, and exits by its verdict."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """From now on no command stops because the reader of its output left, or has no sign for a character."""
    sys.stdout = _outliving(sys.stdout)
    sys.stderr = _outliving(sys.stderr)


def _outliving(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by the process that started us
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the life of the process
    mode = os.fstat(stream.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
        return stream
    stream.flush()
    raw = io.BufferedWriter(_Outliving(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=_ERRORS, line_buffering=True)


def end_streams() -> None:
    """Discards output that cannot be written, for example to a full disk: the interpreter would report it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
