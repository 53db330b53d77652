"""One contract for every kind of disk."""

import os
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lab.machine.disk import Disk, sha256
from lab.machine.errors import Refusal, Slug
from lab.machine.folder_disk import FolderDisk
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath

A = WindowsPath.of("C:\\a.txt")
ROOT = WindowsPath.of("C:\\")


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A disk of each kind."""
    return FolderDisk(tmp_path / "N1") if request.param == "folder" else MemoryDisk()


def refused(action: Callable[[], object]) -> Slug:
    """The error code of the refusal of an action."""
    with pytest.raises(Refusal) as caught:
        action()
    return caught.value.slug


def test_an_untouched_drive_is_an_empty_folder(disk: Disk) -> None:
    """The root exists, is a folder and is empty."""
    entry = disk.stat(ROOT)
    assert entry
    assert (True, []) == (entry.folder, disk.entries(ROOT))


def test_a_file_can_be_read_with_any_case(disk: Disk) -> None:
    """The case of the name is ignored."""
    disk.make_folder(WindowsPath.of("C:\\Program Files\\X"))
    disk.put(WindowsPath.of("C:\\Program Files\\x\\Web.Config"), b"abc")
    assert b"abc" == disk.read(WindowsPath.of("c:\\PROGRAM FILES\\X\\WEB.CONFIG"))


def test_replacing_keeps_the_name_as_first_written(disk: Disk) -> None:
    """The case of the name stays."""
    disk.put(A, b"1")
    disk.put(WindowsPath.of("C:\\A.TXT"), b"2")
    assert [("a.txt", 1)] == [(entry.name, entry.size) for entry in disk.entries(ROOT)]
    assert b"2" == disk.read(A)


def test_entries_are_sorted_ordinal_ignoring_case(disk: Disk) -> None:
    """By the folded names: an underscore sorts after the letters."""
    for name in ("b.txt", "A.txt", "_x", "Z", "a-1"):
        disk.put(ROOT.child(name), b"")
    assert ["a-1", "A.txt", "b.txt", "Z", "_x"] == [entry.name for entry in disk.entries(ROOT)]


def test_times_come_from_the_machines_clock(disk: Disk) -> None:
    """A change, a touch and a replacement use the clock of the disk."""
    disk.now = lambda: 1_500_000_000_000_000_000
    disk.put(A, b"")
    assert 1_500_000_000_000_000_000 == disk.entries(ROOT)[0].mtime
    assert 1_600_000_000_000_000_000 == disk.touch(A, 1_600_000_000_000_000_000)
    assert 1_600_000_000_000_000_000 == disk.entries(ROOT)[0].mtime
    disk.put(A, b"x")
    assert 1_500_000_000_000_000_000 == disk.entries(ROOT)[0].mtime


def test_a_change_time_is_that_of_the_last_change_and_cannot_be_set(disk: Disk) -> None:
    """Whatever is changed (bytes, times, an attribute), and by the clock of the machine."""
    disk.now = lambda: 1_500_000_000_000_000_000
    disk.put(A, b"")
    disk.now = lambda: 1_600_000_000_000_000_000
    changes: list[Callable[[], object]] = [
        lambda: disk.touch(A, 1_400_000_000_000_000_000),
        lambda: disk.set_readonly(A, readonly=False),
        lambda: disk.append(A, b"x"),
        lambda: disk.put(A, b"y"),
    ]
    for later, change in enumerate(changes):
        disk.now = partial(int, 1_600_000_000_000_000_000 + later)
        change()
        assert [disk.now()] == [entry.ctime for entry in disk.entries(ROOT)]
    disk.make_folder(ROOT.child("d"))
    assert 0 == disk.entries(ROOT.child("d").parent)[1].ctime


def test_a_person_changes_a_file_by_the_clock_of_the_machine(tmp_path: Path) -> None:
    """A file that was changed beside the disk has the present time of the machine, whatever its modification time."""
    disk, hour = FolderDisk(tmp_path), 3600 * 10**9
    disk.now = lambda: time.time_ns() - hour
    disk.put(A, b"x")
    real = disk.folder() / "a.txt"
    real.write_bytes(b"y")
    os.utime(real, (1, 1))
    (entry,) = disk.entries(ROOT)
    assert (10**9, True) == (entry.mtime, abs(entry.ctime - disk.now()) < 10**9)


def test_appending_creates_and_extends_a_file(disk: Disk) -> None:
    """Both pieces are there, in order."""
    disk.append(A, b"one\n")
    disk.append(A, b"two\n")
    assert b"one\ntwo\n" == disk.read(A)


def test_a_missing_file_or_folder_is_not_found(disk: Disk) -> None:
    """For reading, removing, listing, and for writing into a missing folder."""
    gone = WindowsPath.of("C:\\no\\file")
    assert disk.stat(gone) is None
    actions = (
        lambda: disk.read(gone),
        lambda: disk.remove(gone),
        lambda: disk.entries(gone),
        lambda: disk.put(gone, b""),
    )
    assert [Slug.NOT_FOUND] * 4 == [refused(action) for action in actions]
    assert Slug.NOT_FOUND == refused(lambda: disk.make_folder(WindowsPath.of("Q:\\a")))


def test_a_file_is_not_a_folder_and_a_folder_not_a_file(disk: Disk) -> None:
    """Using one as the other is invalid."""
    folder = ROOT.child("d")
    disk.make_folder(folder)
    disk.put(A, b"")
    actions = (
        lambda: disk.read(folder),
        lambda: disk.put(folder, b""),
        lambda: disk.entries(A),
        lambda: disk.put(A.child("x"), b""),
        lambda: disk.make_folder(A),
        lambda: disk.make_folder(A.below("b\\c")),
    )
    assert [Slug.INVALID] * 6 == [refused(action) for action in actions]
    assert disk.stat(A.child("x")) is None


def test_a_read_only_file_can_be_read_but_not_changed(disk: Disk) -> None:
    """Put, append, touch and remove are denied, and the bytes stay."""
    disk.put(A, b"old")
    disk.set_readonly(A)
    actions = (lambda: disk.put(A, b"n"), lambda: disk.append(A, b"n"), lambda: disk.touch(A), lambda: disk.remove(A))
    assert [Slug.ACCESS_DENIED] * 4 == [refused(action) for action in actions]
    assert b"old" == disk.read(A)
    assert disk.entries(ROOT)[0].readonly
    disk.set_readonly(A, readonly=False)
    disk.put(A, b"new")
    assert b"new" == disk.read(A)


def test_a_locked_file_is_busy_until_it_is_unlocked(disk: Disk) -> None:
    """It can be neither read nor written."""
    disk.put(A, b"old")
    disk.lock(WindowsPath.of("C:\\A.TXT"))
    actions = (lambda: disk.read(A), lambda: disk.put(A, b"n"), lambda: disk.remove(A))
    assert [Slug.BUSY] * 3 == [refused(action) for action in actions]
    disk.unlock(A)
    assert b"old" == disk.read(A)


def test_only_empty_folders_are_removed(disk: Disk) -> None:
    """A folder with content stays, and a drive always stays."""
    disk.make_folder(ROOT.below("d\\e"))
    assert Slug.FAILED == refused(lambda: disk.remove(ROOT.child("d")))
    disk.remove(ROOT.below("d\\e"))
    disk.remove(ROOT.child("D"))
    assert [] == disk.entries(ROOT)
    assert Slug.INVALID == refused(lambda: disk.remove(ROOT))


def test_missing_folders_are_listed_outermost_first(disk: Disk) -> None:
    """Existing folders are not listed."""
    disk.make_folder(ROOT.child("a"))
    missing = disk.missing_folders(ROOT.below("A\\b\\c"))
    assert ["C:\\A\\b", "C:\\A\\b\\c"] == [folder.text for folder in missing]
    disk.make_folder(ROOT.below("a\\b\\c"))
    assert [] == disk.missing_folders(ROOT.below("a\\b\\c"))


def test_a_full_drive_refuses_and_keeps_the_old_bytes(disk: Disk) -> None:
    """A write that does not fit fails; removing a file frees space."""
    disk.free = 10
    disk.put(A, b"12345")
    assert Slug.FAILED == refused(lambda: disk.put(ROOT.child("b"), b"123456"))
    assert Slug.FAILED == refused(lambda: disk.put(A, b"x" * 11))
    disk.put(A, b"x" * 10)
    assert 0 == disk.free
    disk.remove(A)
    assert 10 == disk.free


def test_the_hashes_of_a_folder_are_its_entries_with_their_hashes(disk: Disk) -> None:
    """In the same order; a folder, and a file that another process has open, have none."""
    names = ("b.txt", "A.txt", "c.log")
    for name in names:
        disk.put(ROOT.child(name), name.encode())
    disk.append(ROOT.child("c.log"), b" and more")
    disk.make_folder(ROOT.child("Bin"))
    known = (sha256(b"A.txt"), sha256(b"b.txt"), None, sha256(b"c.log and more"))
    expected = list(zip(("A.txt", "b.txt", "Bin", "c.log"), known, strict=True))
    assert expected == [(entry.name, digest) for entry, digest in disk.hashes(ROOT)]
    disk.lock(ROOT.child("A.TXT"))
    assert [("A.txt", None), *expected[1:]] == [(entry.name, digest) for entry, digest in disk.hashes(ROOT)]
    disk.link(ROOT.child("d"), ROOT.child("b.txt"))
    assert sha256(b"b.txt") == disk.hashes(ROOT)[-1][1]
    assert disk.entries(ROOT) == [entry for entry, _ in disk.hashes(ROOT)]
    with pytest.raises(Refusal):
        disk.hashes(ROOT.child("b.txt"))


@pytest.mark.parametrize("size", [1, 65_536, 200_000])
def test_the_hash_of_a_file_is_that_of_its_present_bytes(disk: Disk, size: int) -> None:
    """Asked before and after each change, whatever its size; a locked file and a missing one have none."""
    data = b"x" * size
    disk.put(A, data)
    assert sha256(data) == disk.hash(A)
    disk.append(A, b"more")
    assert sha256(data + b"more") == disk.hash(A)
    disk.put(A, data[1:])
    assert sha256(data[1:]) == disk.hash(A)
    disk.lock(A)
    assert [Slug.BUSY, Slug.NOT_FOUND] == [refused(lambda: disk.hash(A)), refused(lambda: disk.hash(ROOT.child("b")))]


def test_a_file_that_is_open_for_appending_has_each_piece_at_once(disk: Disk) -> None:
    """With its time, whether it was there before or not; a piece that does not fit is refused, and the others stay."""
    for name, before in (("a.txt", b""), ("new", b""), ("b.txt", b"x" * 65_536)):
        path = ROOT.child(name)
        if name != "new":
            disk.put(path, before)
        disk.free = 6
        append = disk.appending(path)
        for number, piece in enumerate((b"one", b"two"), 1):
            disk.now = partial(int, 1_600_000_000_000_000_000 + number)
            append(piece)
            entry = disk.stat(path)
            assert entry
            assert (len(before) + 3 * number, disk.now(), disk.now()) == (entry.size, entry.mtime, entry.ctime)
        assert Slug.FAILED == refused(partial(append, b"!"))
        assert before + b"onetwo" == disk.read(path)
        disk.free = 100_000


def test_a_file_that_is_opened_for_appending_is_refused_like_one_that_is_written(disk: Disk) -> None:
    """Also if nothing is appended; a new file appears with its first piece."""
    disk.put(A, b"x")
    disk.set_readonly(A)
    assert Slug.ACCESS_DENIED == refused(lambda: disk.appending(A))
    assert Slug.NOT_FOUND == refused(lambda: disk.appending(ROOT.below("no\\log")))
    disk.appending(ROOT.child("log"))
    assert ["a.txt"] == disk.names(ROOT)


def test_a_folder_disk_is_visible_to_other_programs(tmp_path: Path) -> None:
    """Its files are ordinary files, and it sees files that others write."""
    disk = FolderDisk(tmp_path)
    disk.make_folder(WindowsPath.of("C:\\inetpub\\wwwroot"))
    disk.put(WindowsPath.of("C:\\INETPUB\\wwwroot\\a.txt"), b"x")
    assert b"x" == (tmp_path / "C/inetpub/wwwroot/a.txt").read_bytes()
    (tmp_path / "C/inetpub/B.txt").write_bytes(b"y")
    assert b"y" == disk.read(WindowsPath.of("C:\\inetpub\\b.TXT"))
    assert ["a.txt"] == [file.name for file in (tmp_path / "C/inetpub/wwwroot").iterdir()]


def test_a_folder_disk_stays_after_its_object(tmp_path: Path) -> None:
    """A second disk on the same folder has the files, with their times and attributes."""
    first = FolderDisk(tmp_path)
    first.put(A, b"x")
    first.set_readonly(A)
    before, after = first.stat(A), FolderDisk(tmp_path).stat(A)
    assert before
    assert after
    assert abs(before.ctime - after.ctime) < 50_000_000
    assert before == after._replace(ctime=before.ctime)


def test_equal_bytes_in_memory_are_stored_once() -> None:
    """Many files with the same blob share its memory."""
    disk, blob = MemoryDisk(), b"family" * 100
    for number in range(50):
        disk.put(ROOT.child(f"{number}.pfx"), blob)
    assert {id(blob)} == {id(disk.read(ROOT.child(f"{number}.pfx"))) for number in range(50)}


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 200_000])
def test_a_file_keeps_its_bytes_whatever_its_size(disk: Disk, size: int) -> None:
    """Also one that grows, and one that is replaced by a smaller one."""
    content = b"0123456789" * (size // 10) + b"x" * (size % 10)
    disk.put(A, content)
    disk.append(A, b"the end")
    disk.append(ROOT.child("log"), content)
    for name, expected in (("a.txt", content + b"the end"), ("log", content)):
        entry = disk.stat(ROOT.child(name))
        assert entry
        assert (len(expected), expected) == (entry.size, disk.read(ROOT.child(name)))
    disk.put(A, b"small")
    assert (sha256(b"small"), sha256(content)) == tuple(digest for _, digest in disk.hashes(ROOT))


def test_like_lines_in_memory_take_a_fraction_of_their_size() -> None:
    """A manifest has thousands of them."""
    disk, line = MemoryDisk(), b'{"before":null,"after":"' + b"0123456789abcdef" * 4 + b'"}\n'
    tracemalloc.start()
    try:
        for _ in range(20_000):
            disk.append(A, line)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line * 20_000 == disk.read(A)
    assert 10 * used < len(line) * 20_000


def test_a_junction_shows_and_gives_access_to_its_target(disk: Disk) -> None:
    """Listing, reading and writing work as in the folder; the entry is marked as a link."""
    real, junction = ROOT.child("real"), ROOT.child("j")
    disk.make_folder(real.child("in"))
    disk.link(junction, real)
    disk.put(junction.below("IN\\a"), b"x")
    disk.make_folder(junction.child("new"))
    disk.append(junction.child("log"), b"1")
    entry = disk.stat(junction)
    assert entry
    assert ("j", True, True) == (entry.name, entry.folder, entry.link)
    assert b"x" == disk.read(real.below("in\\a"))
    assert ["in", "log", "new"] == [one.name for one in disk.entries(junction)] == sorted(disk.names(real))
    assert [("j", True), ("real", False)] == [(one.name, one.link) for one in disk.entries(ROOT)]


def test_a_link_to_a_file_is_read_through_and_removed_alone(disk: Disk) -> None:
    """Its target stays."""
    disk.put(A, b"abc")
    link = ROOT.child("l")
    disk.link(link, A)
    entry = disk.stat(link)
    assert entry
    assert (False, True, 3, b"abc") == (entry.folder, entry.link, entry.size, disk.read(link))
    disk.remove(link)
    assert ["a.txt"] == disk.names(ROOT)
    disk.link(link, A)
    disk.remove(A)
    dangling = disk.stat(link)
    assert dangling
    assert dangling.link


def test_a_link_needs_a_free_name_and_an_existing_target(disk: Disk) -> None:
    """Otherwise it is refused, like in Windows."""
    disk.put(A, b"")
    assert Slug.NOT_FOUND == refused(lambda: disk.link(ROOT.child("l"), ROOT.child("gone")))
    assert Slug.INVALID == refused(lambda: disk.link(A, A))
