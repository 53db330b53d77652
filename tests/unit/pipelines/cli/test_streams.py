"""The output streams of a command, as their readers are."""

import os
import sys
from pathlib import Path

import pytest

from pipelines.cli.streams import outlive_readers


@pytest.mark.parametrize("piped", [0, 1])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_a_terminal_does_not_have_is_written_as_its_number(
    encoding: str, piped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command ends because of a name or a reason in another script."""
    read, write = os.pipe() if piped else (0, os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, os.fdopen(os.dup(write), "w", encoding=encoding))
    kept = sys.stdout, sys.stderr
    outlive_readers()
    sys.stdout.write("reason: \u65b0\n")
    sys.stdout.flush()
    found = os.read(read, 100) if piped else (tmp_path / "out").read_bytes()
    assert b"reason: \\u65b0\n" == found
    for stream in (sys.stdout, sys.stderr, *kept):
        stream.close()
    for number in {write, read} - {0}:
        os.close(number)
