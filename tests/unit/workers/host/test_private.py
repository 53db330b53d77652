"""Files and folders of ours: private whatever the umask, whole or not at all, trouble as a sentence."""

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.errors import FileTrouble
from workers.host.private import as_trouble, check_output, make_folder, open_private, start_process, write_private


def mode(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Folders, files of every kind, and what a process of ours writes."""
    folder = make_folder(tmp_path / "a" / "b")
    write_private(folder / "whole", "x")
    for name, how in (("appended", os.O_APPEND), ("emptied", os.O_TRUNC), ("once", os.O_EXCL), ("lock", 0)):
        with open_private(folder / name, how) as file:
            file.write(b"x")
    with open_private(folder / "log", os.O_APPEND) as log:
        code = "import os; open('by-child', 'w').close(); os.mkdir('folder-of-child')"
        assert start_process([sys.executable, "-c", code], folder=folder, log=log).wait() == 0
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) == 7
    assert {0o600} == {mode(path) for path in files}
    assert {0o700} == {mode(path) for path in (folder, folder.parent, folder / "folder-of-child")}


def test_a_log_that_was_open_to_all_is_closed(tmp_path: Path) -> None:
    """A file of ours from before, readable by everybody, is made private."""
    (tmp_path / "log").touch(0o644)
    open_private(tmp_path / "log", os.O_APPEND).close()
    assert mode(tmp_path / "log") == 0o600


def test_what_a_user_has_opened_stays_open(tmp_path: Path) -> None:
    """A result written over a file keeps that file's mode; a link stays a link."""
    (tmp_path / "page").touch()
    (tmp_path / "page").chmod(0o644)
    (tmp_path / "link").symlink_to("page")
    write_private(tmp_path / "link", "new")
    assert (mode(tmp_path / "page"), (tmp_path / "page").read_text()) == (0o644, "new")
    assert (tmp_path / "link").is_symlink()


def test_a_device_is_written_into(tmp_path: Path) -> None:
    """A pipe, like /dev/stdout, is not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_output(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_private(pipe, "through")
        assert reader.communicate(timeout=20)[0] == b"through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the file does not fit, the old one stays as it was, nothing else stays, and the sentence has the remedy."""
    target = tmp_path / "page"
    target.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(FileTrouble, match=r"page cannot be written: File too large") as caught:
            write_private(target, "x" * 10_000)
        with pytest.raises(FileTrouble, match="File too large"):
            check_output(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (target.read_text(), [target]) == ("old", list(tmp_path.iterdir()))
    assert "ulimit" in caught.value.remedy


def test_a_full_device_is_said() -> None:
    """ENOSPC, from the kernel's own full device."""
    with pytest.raises(FileTrouble, match="/dev/full cannot be written: No space left on device") as caught:
        write_private(Path("/dev/full"), "x")
    assert "free space" in caught.value.remedy


@pytest.mark.parametrize(
    ("made", "asked", "said"),
    [
        ("file", "file/x", "Not a directory"),
        ("", "missing/x", "No such file or directory"),
        ("folder/", "folder", "Is a directory"),
        ("", "x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before(tmp_path: Path, made: str, asked: str, said: str) -> None:
    """Asked before a long run, and with the same sentence when it is written."""
    if made.endswith("/"):
        (tmp_path / made).mkdir()
    elif made:
        (tmp_path / made).touch()
    for does in (check_output, lambda path: write_private(path, "x")):
        with pytest.raises(FileTrouble, match=f"cannot be written: {said}") as caught:
            does(tmp_path / asked)
        assert caught.value.file == str(tmp_path / asked)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file in its place, or above it."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(FileTrouble, match="cannot be made: Not a directory"):
            make_folder(path)


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A process that cannot be started names what is missing."""
    with (
        open_private(tmp_path / "log", 0) as log,
        pytest.raises(FileTrouble, match="/nowhere/program cannot be started"),
    ):
        start_process(["/nowhere/program"], folder=tmp_path, log=log)


def test_every_trouble_has_words_and_a_remedy() -> None:
    """Whatever the system says, known to us or not, is a sentence about the file."""
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE):
        trouble = as_trouble(OSError(number, os.strerror(number), "/some/file"))
        assert trouble.message == f"/some/file cannot be used: {os.strerror(number)}"
        assert trouble.remedy
