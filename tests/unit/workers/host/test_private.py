"""Private files and folders: whatever the umask, completely or not at all, errors as sentences."""

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from workers.errors import FileTrouble
from workers.host.locks import process_lock
from workers.host.private import check_output, file_trouble, make_folder, open_private, write_private
from workers.host.processes import start_process


def mode(path: Path) -> int:
    """Its permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Folders, files of every kind, lock files, and the files that our processes write."""
    folder = make_folder(tmp_path / "a" / "b")
    write_private(folder / "whole", "x")
    for name, how in (("appended", os.O_APPEND), ("emptied", os.O_TRUNC), ("once", os.O_EXCL)):
        with open_private(folder / name, how) as file:
            file.write(b"x")
    process_lock(folder / "lock")
    with open_private(folder / "log", os.O_APPEND) as log:
        code = "import os; open('by-child', 'w').close(); os.mkdir('folder-of-child')"
        assert start_process([sys.executable, "-c", code], folder=folder, log=log).wait() == 0
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) == 7
    assert {0o600} == {mode(path) for path in files}
    assert {0o700} == {mode(path) for path in (folder, folder.parent, folder / "folder-of-child")}


def test_a_readable_log_is_made_private(tmp_path: Path) -> None:
    """An existing file of ours that every user can read is made private."""
    (tmp_path / "log").touch(0o644)
    open_private(tmp_path / "log", os.O_APPEND).close()
    assert mode(tmp_path / "log") == 0o600


def test_the_mode_of_an_existing_result_is_kept(tmp_path: Path) -> None:
    """A result that replaces a file keeps the mode of that file; a link stays a link."""
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
        assert reader.communicate(timeout=60)[0] == b"through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """When the new file does not fit, only the old one is there, unchanged, and the error has a remedy."""
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


def test_a_full_device_is_reported() -> None:
    """ENOSPC, from the device of the kernel that is always full."""
    with pytest.raises(FileTrouble, match="/dev/full cannot be written: No space left on device") as caught:
        write_private(Path("/dev/full"), "x")
    assert "free space" in caught.value.remedy


@pytest.mark.parametrize(
    ("existing", "output", "reason"),
    [
        ("file", "file/x", "Not a directory"),
        ("", "missing/x", "folder .*missing does not exist"),
        ("folder/", "folder", "Is a directory"),
        ("", "x" * 300, "File name too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_reported_before(
    tmp_path: Path, existing: str, output: str, reason: str
) -> None:
    """The check before a long run and the write after it give the same sentence."""
    if existing.endswith("/"):
        (tmp_path / existing).mkdir()
    elif existing:
        (tmp_path / existing).touch()
    for write in (check_output, lambda path: write_private(path, "x")):
        with pytest.raises(FileTrouble, match=f"cannot be written: {reason}") as caught:
            write(tmp_path / output)
        assert caught.value.file == str(tmp_path / output)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """A file has its name, or the name of a parent."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(FileTrouble, match="cannot be created: Not a directory"):
            make_folder(path)


def test_every_error_has_a_sentence_and_a_remedy() -> None:
    """Every error of the system, known here or not, becomes a sentence about the file."""
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE):
        trouble = file_trouble(OSError(number, os.strerror(number), "/some/file"))
        assert trouble.message == f"/some/file cannot be used: {os.strerror(number)}"
        assert trouble.remedy


def test_a_lock_is_held_by_one_holder_until_that_ends(tmp_path: Path) -> None:
    """A second holder gets no lock while the first process lives, and gets it when that one is killed."""
    code = "import sys, time; from pathlib import Path; from workers.host.locks import process_lock\n"
    code += "lock = process_lock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Timeout):
            process_lock(tmp_path / "lock").acquire(timeout=0.2)
        holder.kill()
    with process_lock(tmp_path / "lock").acquire(timeout=60) as lock:
        assert lock.is_locked
