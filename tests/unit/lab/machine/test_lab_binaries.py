"""Program files with versions."""

import pytest

from lab.machine.binaries import file_version, program_file


@pytest.mark.parametrize("version", ["3.0.0.0", "8.0.1.87", "8.5.0.356", "10.20.30.40000"])
def test_the_version_can_be_read_back(version: str) -> None:
    """For any length of the other texts."""
    for name in ("a.dll", "ab.dll", "abc.dll", "Ektron.Cms.Common.dll"):
        assert version == file_version(program_file(name, version))


def test_a_program_has_the_requested_size() -> None:
    """It is padded, and starts like a program."""
    data = program_file("x.dll", "1.2.3.4", 20_000)
    assert (20_000, b"MZ", b"PE\0\0") == (len(data), data[:2], data[0x40:0x44])


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + "FileVersion\0".encode("utf-16-le"), b"text"])
def test_other_files_have_no_version(data: bytes) -> None:
    """The result is None."""
    assert file_version(data) is None
